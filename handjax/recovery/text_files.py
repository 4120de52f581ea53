"""A trained transformer of texts on disk, with the tokenizer that it speaks and the text encoder that it hears."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.typing import DTypeLike

from handjax.diffusion.text_model import TextModel, load_text_model, save_text_model
from handjax.recovery.files import load_transformer, save_transformer
from handjax.recovery.text_network import TextMeshConfig, TextMeshNetwork, example_inputs
from handjax.recovery.tokenizer import Tokenizer

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
    save_transformer(folder, WEIGHTS, model.network, model.params, model.tokenizer, dtype)
    save_text_model(model.text, folder / TEXT, dtype)


def load_text_to_mesh(folder: Path) -> TextMeshModel:
    """Reads what `save_text_to_mesh` wrote.

    Raises:
        WeightsError: a file is missing or damaged, the sizes do not fit, or the tokenizer is of another training.
    """
    read = load_transformer(
        folder, WEIGHTS, "text_to_mesh.py", lambda sizes: TextMeshNetwork(TextMeshConfig(**sizes)), example_inputs
    )
    return TextMeshModel(*read, text=load_text_model(folder / TEXT))
