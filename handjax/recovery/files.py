"""A trained transformer on disk, with the tokenizer that it speaks."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike

from handjax.errors import WeightsError
from handjax.files import write_json
from handjax.recovery.network import RecoveryConfig, RecoveryNetwork, example_inputs
from handjax.recovery.tokenizer import CONFIG, REMEDY, Tokenizer, load_tokenizer, save_tokenizer
from handjax.recovery.vit import ViTConfig
from handjax.training.checkpoints import content_hash
from handjax.weights.files import read_weights
from handjax.weights.names import check_tree, to_flax, to_torch
from handjax.weights.safetensors import write_tensors

RECOVERY_WEIGHTS, TOKENIZER = "mmhmr.safetensors", "tokenizer"
ASSET = Path(__file__).parents[1] / "assets" / "recovery"
"""The small model that comes with the package, of launch.assets.recovery."""
PYTORCH_MODULE = Path(__file__).parent / "pytorch" / "mmhmr.py"
"""Reads what `save_recovery` writes, without JAX."""


class RecoveryModel(NamedTuple):
    """MMHMR, trained: the transformer, its parameters, and the tokenizer."""

    network: RecoveryNetwork
    params: Any
    tokenizer: Tokenizer


def save_recovery(model: RecoveryModel, folder: Path, dtype: DTypeLike = np.float32) -> None:
    """Writes config.json, mmhmr.safetensors in PyTorch's names and layouts, and tokenizer/.

    Args:
        model: what is written.
        folder: made when missing.
        dtype: of the weights in the files.
    """
    save_tokenizer(model.tokenizer, folder / TOKENIZER, dtype)
    written = load_tokenizer(folder / TOKENIZER)  # which may be rounded
    state = to_torch(jax.tree.map(lambda value: np.asarray(value).astype(dtype), model.params))
    write_tensors(folder / RECOVERY_WEIGHTS, state)
    sizes = dataclasses.asdict(model.network.config)
    write_json(folder / CONFIG, {**sizes, TOKENIZER: content_hash(written.arrays)})


def load_recovery(folder: Path) -> RecoveryModel:
    """Reads what `save_recovery` wrote.

    Raises:
        WeightsError: a file is missing or damaged, the sizes do not fit, or the tokenizer is of another training.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder; give --model, the folder of an exported run of mmhmr.py")
    tokenizer = load_tokenizer(folder / TOKENIZER)
    try:
        document: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        trained_with = document.pop(TOKENIZER)
        encoder, scales = ViTConfig(**document.pop("encoder")), tuple(document.pop("scales"))
        network = RecoveryNetwork(RecoveryConfig(encoder=encoder, scales=scales, **document))
    except FileNotFoundError as error:
        raise WeightsError(f"{folder}: no {CONFIG}; give the folder of an exported run of mmhmr.py") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{folder / CONFIG}: not the configuration of MMHMR ({error}); {REMEDY}") from error
    if content_hash(tokenizer.arrays) != trained_with:
        raise WeightsError(
            f"{folder / TOKENIZER}: not the tokenizer that {RECOVERY_WEIGHTS} was trained with; {REMEDY}"
        )
    tensors = read_weights(folder / RECOVERY_WEIGHTS)
    params = to_flax((name, value.astype(np.float32, copy=False)) for name, value in tensors)
    check_tree(params, jax.eval_shape(network.init, jax.random.key(0), *example_inputs(network))["params"], str(folder))
    return RecoveryModel(network, params, tokenizer)
