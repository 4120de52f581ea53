"""Low-rank adapters on any network here, without touching its code: applied while it runs, or merged into it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Float, Key

from handjax.diffusion.conv import Conv
from handjax.diffusion.same_conv import DIMENSIONS
from handjax.errors import WeightsError
from handjax.weights.lora import LoRAFactors
from handjax.weights.names import HWIO_TO_OIHW, OIHW_TO_HWIO, TEXT_PREFIX, flax_path, torch_name

Path = tuple[str, ...]


class LowRank(NamedTuple):
    """One layer's update, scale·(down, then up), in Flax's layouts.

    Attributes:
        down: [in, rank], or [kh, kw, in, rank] for a convolution.
        up: [rank, out].
        scale: alpha / rank, times the user's weight.
    """

    down: Float[Array | np.ndarray, "*kernel rank"]
    up: Float[Array | np.ndarray, "rank out"]
    scale: Float[Array, ""] | float


LoRA = Mapping[Path, LowRank]
"""Path of a layer (`Dense` or `Conv`) → its update."""


def to_lora(factors: Mapping[str, LoRAFactors], weight: float = 1.0) -> dict[Path, LowRank]:
    """Brings what a file holds for one network into Flax's names and layouts.

    Args:
        factors: torch module name → factors (`handjax.weights.lora`).
        weight: of the whole adapter.
    """
    layers = {}
    for name, (down, up, alpha) in factors.items():
        path = flax_path(f"{name.removeprefix(TEXT_PREFIX)}.weight", down.ndim)[:-1]
        rank = down.shape[0]
        down = down.transpose(OIHW_TO_HWIO) if down.ndim == 4 else down.T
        layers[path] = LowRank(down, up.reshape(-1, rank).T, weight * alpha / rank)
    return layers


def to_factors(lora: LoRA) -> dict[str, LoRAFactors]:
    """The inverse of `to_lora` at weight 1, for writing a file."""
    factors = {}
    for path, layer in lora.items():
        down, up = np.asarray(layer.down), np.asarray(layer.up)
        rank = up.shape[0]
        name = torch_name((*path, "kernel")).removesuffix(".weight")
        if down.ndim == 4:
            down, up = down.transpose(HWIO_TO_OIHW), up.T[:, :, None, None]
        else:
            down, up = down.T, up.T
        factors[name] = LoRAFactors(down, up, float(layer.scale) * rank)
    return factors


def initial_factors(
    rng: Key[Array, ""], params: Mapping[str, Any], wanted: Callable[[Path], bool], rank: int
) -> dict[str, Any]:
    """Draws the factors of a new adapter, which changes nothing yet.

    Args:
        rng: key of the draw.
        params: of the network, or their shapes.
        wanted: tells of a layer's path whether it has an update.
        rank: of the updates.

    Returns:
        A tree like that of the network with {"down", "up"} in place of the wanted layers' parameters, float32: down
        uniform with variance 1 / fan-in (Kaiming's without the gain of an activation), up zero.

    Source:
        Hu et al. 2021, section 4.1; DECISIONS C4.
    """
    shapes = {
        path[:-1]: leaf.shape for path, leaf in traverse_util.flatten_dict(params).items() if path[-1] == "kernel"
    }
    layers = {path: shape for path, shape in shapes.items() if wanted(path)}
    draw = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
    factors = {}
    for key, (path, shape) in zip(jax.random.split(rng, len(layers)), layers.items(), strict=True):
        factors[path] = {"down": draw(key, (*shape[:-1], rank)), "up": jnp.zeros((rank, shape[-1]))}
    return traverse_util.unflatten_dict(factors)


def lora_of(factors: Mapping[str, Any], alpha: float) -> dict[Path, LowRank]:
    """The adapter that a tree of `initial_factors` holds, at weight 1.

    Args:
        factors: the tree, trained.
        alpha: numerator of the scale.
    """
    layers: dict[Path, dict[str, Array]] = {}
    for path, value in traverse_util.flatten_dict(factors).items():
        layers.setdefault(path[:-1], {})[path[-1]] = value
    return {path: LowRank(found["down"], found["up"], alpha / len(found["up"])) for path, found in layers.items()}


@contextlib.contextmanager
def lora_applied(*loras: LoRA, network: type[nn.Module] | None = None) -> Iterator[None]:
    """While this context is open, every network that runs adds the updates of its layers.

    Open it inside the function that is traced or differentiated; the factors may be tracers. Paths are those inside one
    network: open it around a single network's call, or name the network that is meant.

    Args:
        loras: added up, each with its own scales.
        network: only networks of this class are adapted, not those that run beside them and whose layers may have the
            same paths (ControlNet).

    Source:
        Hu et al. 2021, Eq. 3.
    """
    inside = [network is None]

    def add_updates(layer, arguments, keywords, context):
        module = context.module
        if network is not None and not module.path:
            inside[0] = isinstance(module, network)
        output = layer(*arguments, **keywords)
        if not inside[0] or context.method_name != "__call__" or not isinstance(module, nn.Dense | Conv):
            return output
        for lora in loras:
            if module.path in lora:
                output += _update(module, arguments[0], lora[module.path]).astype(output.dtype)
        return output

    with nn.intercept_methods(add_updates):
        yield


def _update(module: nn.Dense | Conv, x: Array, layer: LowRank) -> Array:
    down, up = (jnp.asarray(factor, module.dtype) for factor in (layer.down, layer.up))
    x = jnp.asarray(x, module.dtype)
    if down.ndim == 2:
        return (x @ down) @ up * layer.scale
    size = down.shape[0]
    padding = module.padding if isinstance(module, Conv) and module.padding else (size // 2, size // 2)
    strides = (module.stride,) * 2 if isinstance(module, Conv) else (1, 1)
    narrow = jax.lax.conv_general_dilated(x, down, strides, (padding, padding), dimension_numbers=DIMENSIONS)
    return narrow @ up * layer.scale


def merge(params: Mapping[str, Any], loras: Sequence[LoRA], sign: float = 1.0) -> dict[str, Any]:
    """Adds the updates to a network's weights, so that it costs nothing to run.

    Args:
        params: of the network.
        loras: added up, each with its own scales.
        sign: -1 takes the same updates out again (equal up to rounding; keep the weights where that matters).

    Raises:
        WeightsError: an update of a layer that the network does not have, or of another size.
    """
    flat = dict(traverse_util.flatten_dict(params))
    for lora in loras:
        for path, layer in lora.items():
            key = (*path, "kernel")
            down, up = (jnp.asarray(factor, jnp.float32) for factor in (layer.down, layer.up))
            update = down @ up * layer.scale
            if key not in flat or not _fits(update.shape, flat[key].shape):
                found = flat[key].shape if key in flat else "none"
                layer_name = ".".join(path)
                raise WeightsError(
                    f"LoRA: layer {layer_name} is {update.shape} and the network's {found}; use a LoRA of this model"
                )
            flat[key] = (flat[key] + sign * update.reshape(flat[key].shape)).astype(flat[key].dtype)
    return traverse_util.unflatten_dict(flat)


def check_lora(params: Mapping[str, Any], lora: LoRA) -> None:
    """Raises WeightsError as `merge` does where an adapter is of another network."""
    jax.eval_shape(merge, params, [lora])


def _fits(update: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether shapes agree; 1×1 convolutions also pass as matrices."""
    return update[-2:] == kernel[-2:] and {*update[:-2], *kernel[:-2]} <= {1} or update == kernel
