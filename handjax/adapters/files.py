"""A trained SGM on disk: config.json and sgm.safetensors, names and layouts as PyTorch has them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from handjax.adapters.sgm import SGM, SGMConfig
from handjax.errors import WeightsError
from handjax.files import write_json
from handjax.weights.names import check_tree, to_flax, to_torch
from handjax.weights.safetensors import read_tensors, write_tensors

CONFIG, WEIGHTS = "config.json", "sgm.safetensors"
PYTORCH_MODULE = Path(__file__).parent / "pytorch" / "sgm.py"
"""The same module in PyTorch, which stands alone beside the two files."""


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
    params = to_flax((name, value.astype(dtype)) for name, value in read_tensors(folder / WEIGHTS))
    check_tree(params, sgm_shapes(sgm), str(folder / WEIGHTS))
    return sgm, params


def sgm_shapes(sgm: SGM) -> Any:
    """Returns the tree of shapes of a module's parameters."""
    side = 2 ** (len(sgm.config.stem_channels) + len(sgm.config.unet_channels) - 2)
    depth, skeleton = jnp.zeros((1, side, side, 1)), jnp.zeros((1, side, side, 3))
    return jax.eval_shape(sgm.init, jax.random.key(0), depth, skeleton)["params"]
