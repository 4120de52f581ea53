"""Stable Diffusion without its weights: the shapes of the parameters, for compiling and counting on any machine."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax.typing import DTypeLike

from handjax.diffusion.folder import SCHEDULE, TOKENIZER, part_folder, read_json, read_noise_schedule, reading_settings
from handjax.diffusion.networks import CONFIGS, MODULES, Part, parameter_shapes
from handjax.diffusion.schedules import NoiseSchedule
from handjax.diffusion.single_file import SD_1
from handjax.errors import WeightsError

# Before the name of a model whose weights are not wanted.
SHAPES_ONLY = "shapes:"
# Sizes of models on the hub, so that nothing needs to be downloaded.
PUBLISHED: dict[str, dict[Part, Any]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": SD_1,
    "stable-diffusion-v1-5/stable-diffusion-inpainting": SD_1
    | {"unet": dataclasses.replace(SD_1["unet"], in_channels=9)},
}


def read_shapes(source: Path, name: str, dtype: DTypeLike) -> dict[Part, tuple[Any, Any]]:
    """Returns each network with the tree of `jax.ShapeDtypeStruct` of its parameters.

    Args:
        source: the model's folder in the layout of diffusers, of which only the settings are read.
        name: of the model, in `PUBLISHED`, for where there is no such folder.
        dtype: of the parameters and of the computation.

    Raises:
        WeightsError: there is neither a folder nor a published model of this name, or its settings are damaged.
    """
    if not source.is_dir() and name not in PUBLISHED:
        known = ", ".join(PUBLISHED)
        raise WeightsError(f"{name}: its sizes are not known here; give a model's folder, or one of {known}")
    configs = {part: _read_config(source, part) for part in MODULES} if source.is_dir() else PUBLISHED[name]
    networks = {part: MODULES[part](config, dtype) for part, config in configs.items()}
    return {part: (network, _shapes(network, dtype)) for part, network in networks.items()}


def read_settings(source: Path, default: Path) -> tuple[NoiseSchedule, Path]:
    """Returns the noise schedule and the tokenizer's folder of a model, the tokenizer of `default` where it has none.

    The tokenizer decides no shape: prompts are padded to the text encoder's length.
    """
    schedule = read_noise_schedule(source / SCHEDULE) if source.is_dir() else NoiseSchedule()
    return schedule, source / TOKENIZER if source.is_dir() else default / TOKENIZER


def _read_config(source: Path, part: Part) -> Any:
    path = part_folder(source, part) / "config.json"
    with reading_settings(path):
        return CONFIGS[part].from_diffusers(read_json(path))


def _shapes(network: Any, dtype: DTypeLike) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), parameter_shapes(network))
