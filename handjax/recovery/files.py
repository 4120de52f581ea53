"""A trained transformer on disk, with the tokenizer that it speaks."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
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
Network = TypeVar("Network", bound=nn.Module)


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
    save_transformer(folder, RECOVERY_WEIGHTS, model.network, model.params, model.tokenizer, dtype)


def load_recovery(folder: Path) -> RecoveryModel:
    """Reads what `save_recovery` wrote.

    Raises:
        WeightsError: a file is missing or damaged, the sizes do not fit, or the tokenizer is of another training.
    """

    def make(document: dict[str, Any]) -> RecoveryNetwork:
        encoder, scales = ViTConfig(**document.pop("encoder")), tuple(document.pop("scales"))
        return RecoveryNetwork(RecoveryConfig(encoder=encoder, scales=scales, **document))

    return RecoveryModel(*load_transformer(folder, RECOVERY_WEIGHTS, "mmhmr.py", make, example_inputs))


def save_transformer(
    folder: Path, weights: str, network: Any, params: Any, tokenizer: Tokenizer, dtype: DTypeLike
) -> None:
    """Writes a transformer of pose tokens: config.json with its sizes, its weights, and tokenizer/.

    Args:
        folder: made when missing.
        weights: name of their file, which has PyTorch's names and layouts.
        network: with `config`, a dataclass.
        params: of the network.
        tokenizer: that it speaks; its hash is kept in config.json.
        dtype: of the weights in the files.
    """
    save_tokenizer(tokenizer, folder / TOKENIZER, dtype)
    written = load_tokenizer(folder / TOKENIZER)  # which may be rounded
    write_tensors(folder / weights, to_torch(jax.tree.map(lambda value: np.asarray(value).astype(dtype), params)))
    sizes = dataclasses.asdict(network.config)
    write_json(folder / CONFIG, {**sizes, TOKENIZER: content_hash(written.arrays)})


def load_transformer(
    folder: Path,
    weights: str,
    recipe: str,
    make: Callable[[dict[str, Any]], Network],
    inputs: Callable[[Network], tuple[Any, ...]],
) -> tuple[Network, Any, Tokenizer]:
    """Reads what `save_transformer` wrote.

    Args:
        folder: of the files.
        weights: name of their file.
        recipe: whose runs are exported so.
        make: the network of the sizes in config.json.
        inputs: examples of what the network takes.

    Raises:
        WeightsError: a file is missing or damaged, the sizes do not fit, or the tokenizer is of another training.
    """
    what = f"the folder of an exported run of {recipe}"
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder; give --model, {what}")
    try:
        document: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        trained_with = document.pop(TOKENIZER)
        network = make(document)
        expected = jax.eval_shape(network.init, jax.random.key(0), *inputs(network))["params"]
    except FileNotFoundError as error:
        raise WeightsError(f"{folder}: no {CONFIG}; give {what}") from error
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
        reason = str(error).split("\n")[0]
        raise WeightsError(f"{folder / CONFIG}: not the configuration of {recipe} ({reason}); {REMEDY}") from error
    tokenizer = load_tokenizer(folder / TOKENIZER)
    if content_hash(tokenizer.arrays) != trained_with:
        raise WeightsError(f"{folder / TOKENIZER}: not the tokenizer that {weights} was trained with; {REMEDY}")
    params = to_flax((name, value.astype(np.float32, copy=False)) for name, value in read_weights(folder / weights))
    check_tree(params, expected, str(folder))
    return network, params, tokenizer
