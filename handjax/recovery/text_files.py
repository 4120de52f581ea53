"""A trained transformer of texts on disk, with the tokenizer that it speaks and the text encoder that it hears."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike

from handjax.diffusion.text_model import TextModel, load_text_model, save_text_model
from handjax.errors import WeightsError
from handjax.files import write_json
from handjax.recovery.files import TOKENIZER
from handjax.recovery.text_network import TextMeshConfig, TextMeshNetwork, example_inputs
from handjax.recovery.tokenizer import CONFIG, REMEDY, Tokenizer, load_tokenizer, save_tokenizer
from handjax.training.checkpoints import content_hash
from handjax.weights.files import read_weights
from handjax.weights.names import check_tree, to_flax, to_torch
from handjax.weights.safetensors import write_tensors

WEIGHTS, TEXT = "text_to_mesh.safetensors", "text"


class TextMeshModel(NamedTuple):
    """Text-to-mesh, trained: the transformer, its parameters, the tokenizer and the text encoder."""

    network: TextMeshNetwork
    params: Any
    tokenizer: Tokenizer
    text: TextModel


def save_text_to_mesh(model: TextMeshModel, folder: Path, dtype: DTypeLike = np.float32) -> None:
    """Writes config.json, text_to_mesh.safetensors in PyTorch's names and layouts, tokenizer/ and text/.

    Args:
        model: what is written.
        folder: made when missing.
        dtype: of the weights in the files.
    """
    save_tokenizer(model.tokenizer, folder / TOKENIZER, dtype)
    written = load_tokenizer(folder / TOKENIZER)  # which may be rounded
    save_text_model(model.text, folder / TEXT, dtype)
    write_tensors(folder / WEIGHTS, to_torch(jax.tree.map(lambda value: np.asarray(value).astype(dtype), model.params)))
    sizes = dataclasses.asdict(model.network.config)
    write_json(folder / CONFIG, {**sizes, TOKENIZER: content_hash(written.arrays)})


def load_text_to_mesh(folder: Path) -> TextMeshModel:
    """Reads what `save_text_to_mesh` wrote.

    Raises:
        WeightsError: a file is missing or damaged, the sizes do not fit, or the tokenizer is of another training.
    """
    what = "the folder of an exported run of text_to_mesh.py"
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder; give --model, {what}")
    tokenizer, text = load_tokenizer(folder / TOKENIZER), load_text_model(folder / TEXT)
    try:
        document: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        trained_with = document.pop(TOKENIZER)
        network = TextMeshNetwork(TextMeshConfig(**document))
    except FileNotFoundError as error:
        raise WeightsError(f"{folder}: no {CONFIG}; give {what}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{folder / CONFIG}: not the configuration of text-to-mesh ({error}); {REMEDY}") from error
    if content_hash(tokenizer.arrays) != trained_with:
        raise WeightsError(f"{folder / TOKENIZER}: not the tokenizer that {WEIGHTS} was trained with; {REMEDY}")
    params = to_flax((name, value.astype(np.float32, copy=False)) for name, value in read_weights(folder / WEIGHTS))
    check_tree(params, jax.eval_shape(network.init, jax.random.key(0), *example_inputs(network))["params"], str(folder))
    return TextMeshModel(network, params, tokenizer, text)
