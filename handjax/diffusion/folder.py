"""The folder layout of diffusers: a model's networks and settings, each in a subfolder of its own."""

import contextlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.typing import DTypeLike

from handjax.diffusion.configs import TAESDConfig, TextConfig, UNetConfig, VAEConfig
from handjax.diffusion.networks import CONFIGS, MODULES, Part, fit_params, parameter_shapes
from handjax.diffusion.schedules import NoiseSchedule
from handjax.diffusion.tokenizer import Tokenizer, check_complete
from handjax.errors import WeightsError
from handjax.files import atomic_write, write_json
from handjax.weights.files import find_weights, read_weights
from handjax.weights.names import TEXT_PREFIX, to_torch
from handjax.weights.safetensors import write_tensors

INDEX = "model_index.json"
SCHEDULE = "scheduler/scheduler_config.json"
TOKENIZER = "tokenizer"
# Names of the files with weights, before their endings; pickled text encoders are named otherwise.
WEIGHTS: dict[Part, tuple[str, ...]] = {
    "unet": ("diffusion_pytorch_model",),
    "vae": ("diffusion_pytorch_model",),
    "text_encoder": ("model", "pytorch_model"),
}


def read_part(folder: Path, part: Part, dtype: DTypeLike, allow_pickle: bool = False) -> tuple[nn.Module, Any]:
    """Reads one network of a model, or of a folder that holds nothing else.

    Args:
        folder: with a subfolder of the part's name, or itself that subfolder.
        part: which network.
        dtype: of the parameters and of the computation.
        allow_pickle: read pickled weights where there are no others.

    Returns:
        The module and its parameters.

    Raises:
        WeightsError: a file is missing or damaged, or describes another architecture.
    """
    home = part_folder(folder, part)
    document = read_json(home / "config.json")
    with reading_settings(home / "config.json"):
        network = MODULES[part](CONFIGS[part].from_diffusers(document), dtype)
        shapes = parameter_shapes(network)
    path = find_weights(home, *WEIGHTS[part])
    return network, fit_params(shapes, read_weights(path, allow_pickle), dtype, str(path))


def part_folder(folder: Path, part: Part) -> Path:
    """The folder of one network: a subfolder of `folder`, or itself when it holds nothing else."""
    return folder if (folder / "config.json").is_file() and not (folder / part).exists() else folder / part


def read_json(path: Path) -> dict[str, Any]:
    """Reads a settings file. Raises WeightsError where it is missing or damaged."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise WeightsError(f"{path}: no such file; the model is incomplete, download it again") from error
    except ValueError as error:
        raise WeightsError(f"{path}: not JSON ({error}); download it again") from error
    if not isinstance(document, dict):
        raise WeightsError(f"{path}: holds no settings but a {type(document).__name__}; download it again")
    return document


@contextlib.contextmanager
def reading_settings(path: Path) -> Iterator[None]:
    """Turns what the block raises about values that cannot be used into one line."""
    try:
        yield
    except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError, IndexError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{path}: its values do not make sense ({reason}); download it again") from error


def read_noise_schedule(path: Path) -> NoiseSchedule:
    """Reads a scheduler's settings. Raises WeightsError where they are missing, damaged or not supported."""
    with reading_settings(path):
        schedule = NoiseSchedule.from_diffusers(read_json(path))
        if not schedule.sigmas.size or not np.all(np.diff(schedule.sigmas) > 0):
            raise ValueError("its noise does not grow with the timestep")
    return schedule


def save_part(
    folder: str | Path,
    part: Part,
    config: UNetConfig | VAEConfig | TAESDConfig | TextConfig,
    params: Any,
    dtype: DTypeLike = np.float16,
    max_shard_bytes: int | None = None,
) -> None:
    """Writes one network of a model into its subfolder of `folder`; the options as in `save_stable_diffusion`."""
    home = Path(folder) / part
    path = home / f"{WEIGHTS[part][0]}.safetensors"
    write_tensors(path, state_dict(part, params, dtype), max_shard_bytes=max_shard_bytes)
    write_json(home / "config.json", config.to_diffusers())


def state_dict(part: Part, params: Any, dtype: DTypeLike) -> dict[str, np.ndarray]:
    """A network's parameters by the names and in the layout of published files."""
    tensors = to_torch(jax.tree.map(lambda value: np.asarray(value).astype(dtype), params))
    return {TEXT_PREFIX + key: value for key, value in tensors.items()} if part == "text_encoder" else tensors


def save_settings(folder: Path, schedule: NoiseSchedule, tokenizer: Tokenizer, inpainting: bool) -> None:
    """Writes the schedule, the tokenizer and, last, the index of a model whose networks are written.

    Raises:
        WeightsError: the tokenizer's own folder lacks a file.
    """
    write_json(folder / SCHEDULE, schedule.to_diffusers())
    source = Path(tokenizer.folder)
    check_complete(source)
    if source.resolve() != (folder / TOKENIZER).resolve():
        with atomic_write(folder / TOKENIZER) as temporary:
            shutil.copytree(source, temporary)
    autoencoder = read_json(folder / "vae" / "config.json")["_class_name"]
    write_json(folder / INDEX, _index(inpainting, autoencoder))


def _index(inpainting: bool, autoencoder: str) -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionInpaintPipeline" if inpainting else "StableDiffusionPipeline",
        "_diffusers_version": importlib.metadata.version("diffusers"),
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", autoencoder],
    }
