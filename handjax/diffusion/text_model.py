"""CLIP's text encoder by itself, with its weights and its tokenizer: of a Stable Diffusion model or of CLIP."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Int

from handjax.diffusion.configs import TextConfig
from handjax.diffusion.folder import TOKENIZER, part_folder, read_json, read_part, reading_settings, save_part
from handjax.diffusion.model import find_model
from handjax.diffusion.networks import fit_params, parameter_shapes
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.tokenizer import FILES, Tokenizer
from handjax.errors import InputError, WeightsError
from handjax.files import atomic_write
from handjax.weights.files import find_weights, read_weights
from handjax.weights.names import TEXT_PREFIX

CONFIG = "config.json"
TOKENIZER_FILES = (*sum(FILES, ()), "tokenizer_config.json", "special_tokens_map.json", "LICENSE")


class TextModel(NamedTuple):
    """A text encoder, its parameters and the tokenizer that it reads with."""

    network: TextEncoder
    params: Any
    tokenizer: Tokenizer

    @property
    def words(self) -> int:
        """Tokens of a prompt, start, end and padding included."""
        return self.tokenizer.length

    def ids(self, prompts: Sequence[str]) -> Int[np.ndarray, "batch words"]:
        """Encodes prompts.

        Raises:
            InputError: one is empty, or longer than can be read.
        """
        for prompt in prompts:
            length = len(self.tokenizer.bare(prompt)) + 2
            if not prompt.strip():
                raise InputError("a prompt is empty; say what is wanted")
            if length > self.words:
                raise InputError(f"{prompt!r} has {length} tokens, the text encoder reads {self.words}; say it shorter")
        return self.tokenizer(prompts)


def load_text_model(name: str | Path) -> TextModel:
    """Reads the text encoder of a model.

    Args:
        name: a folder in the layout of diffusers, which need hold no more than text_encoder/ and tokenizer/; one of
            CLIP in that of transformers, such as openai/clip-vit-large-patch14; or the name of a model in the assets.

    Returns:
        The model, its weights as numpy arrays in float32.

    Raises:
        WeightsError: the folder is missing, incomplete or damaged, or of another architecture.
    """
    folder = find_model(name)
    if not folder.is_dir():
        raise WeightsError(
            f"{name}: no such folder; `hf download {name} --local-dir {name}` gets a model of the hub, and "
            "tiny_inpainting needs no download"
        )
    if (part_folder(folder, "text_encoder") / CONFIG).is_file() and (folder / TOKENIZER).is_dir():
        network, params = read_part(folder, "text_encoder", jnp.float32)
        return _model(network, params, folder / TOKENIZER)
    document = read_json(folder / CONFIG)
    with reading_settings(folder / CONFIG):
        whole = "text_config" in document  # CLIP with both encoders
        text = clip_section(document, "text_config") if whole else document
        network = TextEncoder(TextConfig.from_diffusers(text))
        shapes = parameter_shapes(network)
    path = find_weights(folder, "model", "pytorch_model")
    tensors = read_weights(path, prefix=TEXT_PREFIX if whole else "")
    return _model(network, fit_params(shapes, tensors, jnp.float32, str(path)), folder)


def save_text_model(model: TextModel, folder: Path, dtype: DTypeLike = np.float32) -> None:
    """Writes text_encoder/ and tokenizer/, which `load_text_model` reads.

    Raises:
        WeightsError: the tokenizer's own folder lacks a file.
    """
    save_part(folder, "text_encoder", model.network.config, model.params, dtype)
    with atomic_write(folder / TOKENIZER) as temporary:
        temporary.mkdir(parents=True)
        for path in (Path(model.tokenizer.folder) / name for name in TOKENIZER_FILES):
            if path.is_file():
                shutil.copyfile(path, temporary / path.name)


def clip_section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Settings of one of CLIP's encoders; older files have what differs from the defaults again, under NAME_dict."""
    return {**(document.get(name) or {}), **(document.get(f"{name}_dict") or {})}


def _model(network: Any, params: Any, tokenizer: Path) -> TextModel:
    length = network.config.max_position_embeddings
    return TextModel(network, jax.tree.map(np.asarray, params), Tokenizer(str(tokenizer), length))
