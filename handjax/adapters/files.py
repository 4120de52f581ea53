"""Adapters on disk, names and layouts as PyTorch has them: SGM in two files of its own, the others as in diffusers."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.typing import DTypeLike

from handjax.adapters.controlnet import CLASS_NAME, ControlNet, ControlNetConfig, initial_controlnet
from handjax.adapters.lora import LoRA, check_lora, to_lora
from handjax.adapters.sgm import SGM, SGMConfig
from handjax.diffusion.folder import read_json, reading_settings
from handjax.diffusion.networks import fit_params
from handjax.diffusion.single_file import published_unet, settings_folder
from handjax.errors import WeightsError
from handjax.files import write_json
from handjax.weights.files import find_weights, read_weights
from handjax.weights.ldm import PREFIXES, from_ldm
from handjax.weights.lora import read_lora
from handjax.weights.names import module_names, to_torch, torch_name
from handjax.weights.safetensors import write_tensors

CONFIG, WEIGHTS, CONTROLNET = "config.json", "sgm.safetensors", "diffusion_pytorch_model"
PYTORCH_MODULE = Path(__file__).parent / "pytorch" / "sgm.py"
"""The same module in PyTorch, which stands alone beside the two files."""


def load_lora(path: Path, params: Mapping[str, Any], weight: float = 1.0) -> dict[str, LoRA]:
    """Reads a LoRA file.

    Args:
      path: a .safetensors file.
      params: of the networks it may be for, under "unet" and "text_encoder".
      weight: of the whole adapter.

    Returns:
      The updates of each network that the file is for.

    Raises:
      WeightsError: the file is missing, damaged or of another model.
    """
    factors = read_lora(path, {part: module_names(tree) for part, tree in params.items()})
    loras: dict[str, LoRA] = {part: to_lora(found, weight) for part, found in factors.items()}
    for part, lora in loras.items():
        try:
            check_lora(params[part], lora)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
    return loras


def save_sgm(sgm: SGM, params: Any, folder: Path, dtype: DTypeLike = np.float32) -> None:
    """Writes a module.

    Args:
      sgm: the module; its sizes go to config.json.
      params: its parameters.
      folder: made when missing.
      dtype: of the weights in the file.
    """
    write_tensors(folder / WEIGHTS, to_torch(jax.tree.map(lambda value: np.asarray(value).astype(dtype), params)))
    write_json(folder / CONFIG, dataclasses.asdict(sgm.config))


def load_sgm(folder: Path, dtype: DTypeLike = jnp.float32) -> tuple[SGM, Any]:
    """Reads what `save_sgm` wrote.

    Args:
      folder: with config.json and sgm.safetensors.
      dtype: of the weights in memory and of the computation.

    Returns:
      The module and its parameters.

    Raises:
      WeightsError: a file is missing, damaged or does not fit the other.
    """
    try:
        document: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}
        config = SGMConfig(**fields)
    except FileNotFoundError as error:
        raise WeightsError(f"{folder}: no {CONFIG}; give the folder of an exported SGM or of a training run") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{folder / CONFIG}: not the configuration of an SGM ({error}); export it again") from error
    sgm = SGM(config, dtype)
    return sgm, fit_params(sgm_shapes(sgm), read_weights(folder / WEIGHTS), dtype, str(folder / WEIGHTS))


def sgm_shapes(sgm: SGM) -> Any:
    """Returns the tree of shapes of a module's parameters."""
    side = 2 ** (len(sgm.config.stem_channels) + len(sgm.config.unet_channels) - 2)
    depth, skeleton = jnp.zeros((1, side, side, 1)), jnp.zeros((1, side, side, 3))
    return jax.eval_shape(sgm.init, jax.random.key(0), depth, skeleton)["params"]


def save_controlnet(controlnet: ControlNet, params: Any, folder: Path, dtype: DTypeLike = np.float16) -> None:
    """Writes a ControlNet in the layout of diffusers.

    Args:
      controlnet: the module; its sizes go to config.json.
      params: its parameters.
      folder: made when missing.
      dtype: of the weights in the file.
    """
    tensors = to_torch(jax.tree.map(lambda value: np.asarray(value).astype(dtype), params))
    write_tensors(folder / f"{CONTROLNET}.safetensors", tensors)
    write_json(folder / CONFIG, controlnet.config.to_diffusers())


def load_controlnet(
    path: str | Path, dtype: DTypeLike = jnp.float32, allow_pickle: bool = False, condition: str = ""
) -> tuple[ControlNet, Any]:
    """Reads a ControlNet in the layout of diffusers, or in one file with LDM's names.

    Args:
      path: a folder with config.json and weights of any precision, whole or in shards; or a file, whose config.json
        is in the folder beside it that has its name without the ending, or whose sizes are those of the published
        ControlNets.
      dtype: of the weights in memory and of the computation.
      allow_pickle: read pickled weights where there are no others.
      condition: name of the pictures that it is going to be given; "" is not known. Where the settings do not say what
        it was trained to follow, which those of others never do, the caller is believed.

    Returns:
      The module and its parameters.

    Raises:
      WeightsError: a file is missing or damaged, describes another architecture, or says that the network was trained
        to follow another condition.
    """
    path = Path(path)
    if path.is_file():
        return _load_ldm_controlnet(path, dtype, allow_pickle, condition)
    controlnet, weights = ControlNet(_read_config(path, condition), dtype), find_weights(path, CONTROLNET)
    shapes = controlnet_shapes(controlnet)
    return controlnet, fit_params(shapes, read_weights(weights, allow_pickle), dtype, str(weights))


def _read_config(folder: Path, condition: str) -> ControlNetConfig:
    document = read_json(folder / CONFIG)
    if document.get("_class_name") != CLASS_NAME:
        raise WeightsError(f"{folder / CONFIG}: not of a {CLASS_NAME}; give the folder of a ControlNet")
    with reading_settings(folder / CONFIG):
        config = ControlNetConfig.from_diffusers(document)
        controlnet_shapes(ControlNet(config))
    if condition and config.condition not in ("", condition):
        raise WeightsError(
            f"{folder}: a ControlNet that follows {config.condition} would be given {condition}; name another"
        )
    return config


def _load_ldm_controlnet(path: Path, dtype: DTypeLike, allow_pickle: bool, condition: str) -> tuple[ControlNet, Any]:
    # Beside a whole model it has a prefix.
    tensors = list(read_weights(path, allow_pickle, PREFIXES["controlnet"])) or read_weights(path, allow_pickle)
    state = {key.removeprefix(PREFIXES["controlnet"]): value.astype(dtype, copy=False) for key, value in tensors}
    if "controlnet_cond_embedding.conv_in.weight" in state:
        raise WeightsError(f"{path}: one file of a ControlNet in the layout of diffusers; give its folder")
    settings = settings_folder(path)
    known = (settings / CONFIG).is_file()
    config = _read_config(settings, condition) if known else ControlNetConfig(published_unet(path, state))
    controlnet = ControlNet(config, dtype)
    shapes = controlnet_shapes(controlnet)
    ndims = {torch_name(place): leaf.ndim for place, leaf in traverse_util.flatten_dict(shapes).items()}
    return controlnet, fit_params(shapes, from_ldm("controlnet", state, ndims).items(), dtype, str(path))


def controlnet_shapes(controlnet: ControlNet) -> Any:
    """Returns the tree of shapes of a ControlNet's parameters."""
    return jax.eval_shape(lambda rng: initial_controlnet(controlnet, rng), jax.random.key(0))
