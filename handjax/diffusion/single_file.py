"""Stable Diffusion checkpoints in one file, with LDM's names.

Such a file states no sizes. They are read from the folder beside it that has its name without the ending (`model` for
`model.safetensors`), in the layout of diffusers without the weights; without one, the file has those of the published
Stable Diffusion 1.x or 2.x. The tokenizer is always that folder's.
"""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util
from jax.typing import DTypeLike

from handjax.diffusion.configs import TextConfig, UNetConfig, VAEConfig
from handjax.diffusion.folder import SCHEDULE, part_folder, read_json, read_noise_schedule, reading_settings, state_dict
from handjax.diffusion.networks import CONFIGS, MODULES, Part, fit_params, parameter_shapes
from handjax.diffusion.schedules import NoiseSchedule
from handjax.errors import WeightsError
from handjax.weights.files import PICKLED, read_weights
from handjax.weights.ldm import PREFIXES, Network, from_ldm, to_ldm
from handjax.weights.names import TEXT_PREFIX, torch_name
from handjax.weights.safetensors import read_metadata, write_tensors

SD_1: dict[Part, Any] = {
    "unet": UNetConfig(cross_attention_dim=768),
    "vae": VAEConfig(block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512),
    "text_encoder": TextConfig(
        hidden_size=768, intermediate_size=3072, projection_dim=768, num_attention_heads=12, num_hidden_layers=12
    ),
}
SD_2: dict[Part, Any] = {
    "unet": UNetConfig(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True),
    "vae": SD_1["vae"],
    "text_encoder": TextConfig(
        hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=23, hidden_act="gelu"
    ),
}
# Where a part is found; the first prefix that a file has. Autoencoders are also published alone, without a prefix.
PLACES: dict[Part, dict[str, Network]] = {
    "unet": {PREFIXES["unet"]: "unet"},
    "vae": {PREFIXES["vae"]: "vae", "": "vae"},
    "text_encoder": {PREFIXES["open_clip"]: "open_clip", PREFIXES["clip"].removesuffix(TEXT_PREFIX): "clip"},
}
# Key and values of the metadata standard of Stability AI (ModelSpec).
PREDICTION_KEY = "modelspec.prediction_type"
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}


def settings_folder(path: Path) -> Path:
    """The folder with the sizes, schedule and tokenizer of a single-file checkpoint."""
    return path.with_suffix("")


def read_part(path: Path, part: Part, dtype: DTypeLike, allow_pickle: bool = False) -> tuple[nn.Module, Any]:
    """Reads one network of a single-file checkpoint.

    Args:
        path: of a whole model; or for "vae", of an autoencoder alone, in LDM's or diffusers' names.
        part: which network.
        dtype: of the parameters and of the computation.
        allow_pickle: read a pickled file.

    Returns:
        The module and its parameters.

    Raises:
        WeightsError: the file is damaged, lacks the part, or has sizes that are not published nor beside it.
    """
    kind, state = _read_state(path, part, dtype, allow_pickle)
    settings = part_folder(settings_folder(path), part) / "config.json"
    if settings.is_file():
        with reading_settings(settings):
            config = CONFIGS[part].from_diffusers(read_json(settings))
    else:
        config = _published(path, part, kind, state)
    network = MODULES[part](config, dtype)
    leaves = traverse_util.flatten_dict(parameter_shapes(network)).items()
    state = from_ldm(kind, state, {torch_name(place): leaf.ndim for place, leaf in leaves})
    return network, fit_params(parameter_shapes(network), state.items(), dtype, str(path))


def read_schedule(path: Path, unet: UNetConfig) -> NoiseSchedule:
    """Reads the noise schedule of a single-file checkpoint, from beside it or from its metadata.

    Where neither states what is predicted it is the velocity for text-to-image models of Stable Diffusion 2.x, as most
    published ones have it, and the noise otherwise.
    """
    settings = settings_folder(path) / SCHEDULE
    if settings.is_file():
        return read_noise_schedule(settings)
    stated = {} if path.suffix in PICKLED else read_metadata(path)
    velocity = unet.use_linear_projection and unet.in_channels == unet.out_channels
    prediction = PREDICTIONS.get(stated.get(PREDICTION_KEY, ""), "v_prediction" if velocity else "epsilon")
    return NoiseSchedule(prediction_type=prediction)


def write_weights(path: Path, parts: dict[Part, tuple[Any, Any]], schedule: NoiseSchedule, dtype: DTypeLike) -> None:
    """Writes the networks of a model, part to config and parameters, into one file."""
    tensors: dict[str, np.ndarray] = {}
    for part, (config, params) in parts.items():
        state = {name.removeprefix(TEXT_PREFIX): value for name, value in state_dict(part, params, dtype).items()}
        tensors |= to_ldm(_network(part, config), state)
    prediction = next(stated for stated, ours in PREDICTIONS.items() if ours == schedule.prediction_type)
    write_tensors(path, tensors, {PREDICTION_KEY: prediction})


def _read_state(path: Path, part: Part, dtype: DTypeLike, allow_pickle: bool) -> tuple[Network, dict[str, np.ndarray]]:
    """What a part is, and its tensors by LDM's names without prefix."""
    for prefix, kind in PLACES[part].items():
        tensors = read_weights(path, allow_pickle, prefix)
        state = {key.removeprefix(prefix): value.astype(dtype, copy=False) for key, value in tensors}
        if state:
            level = TEXT_PREFIX if kind == "clip" else ""
            return kind, {key.removeprefix(level): value for key, value in state.items()}
    raise WeightsError(f"{path}: holds no {part}; give a whole Stable Diffusion 1.x or 2.x checkpoint")


def _network(part: Part, config: Any) -> Network:
    if part == "text_encoder":
        return "open_clip" if config.hidden_act == SD_2[part].hidden_act else "clip"
    return part


def _published(path: Path, part: Part, kind: Network, state: dict[str, np.ndarray]) -> Any:
    """The published sizes that a network's names and widths tell of."""
    return published_unet(path, state) if part == "unet" else (SD_2 if kind == "open_clip" else SD_1)[part]


def published_unet(path: Path, state: dict[str, np.ndarray]) -> UNetConfig:
    """The sizes of a published UNet, or of the one that a ControlNet was copied from.

    Args:
        path: of the file, for messages.
        state: values by LDM's names without the prefix.

    Raises:
        WeightsError: its widths are not those of Stable Diffusion 1.x or 2.x.
    """
    reading_text = [value for key, value in state.items() if key.endswith("attn2.to_k.weight") and value.ndim == 2]
    width = reading_text[0].shape[1] if reading_text else 0
    config = {768: SD_1["unet"], 1024: SD_2["unet"]}.get(width)
    if config is None or state.get("input_blocks.0.0.weight", np.zeros(())).ndim != 4:
        raise WeightsError(
            f"{path}: reads {width} text channels, so this is no Stable Diffusion 1.x or 2.x of a published size; put "
            f"its config.json files into {settings_folder(path)} in the diffusers layout"
        )
    return dataclasses.replace(config, in_channels=state["input_blocks.0.0.weight"].shape[1])
