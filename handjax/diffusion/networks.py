"""The three networks of a Stable Diffusion model, and parameter trees that fit them."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, PRNGKeyArray

from handjax.diffusion.configs import TextConfig, UNetConfig, VAEConfig
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.unet import UNet
from handjax.diffusion.vae import VAE
from handjax.weights.names import TEXT_PREFIX, check_tree, to_flax

Part = Literal["unet", "vae", "text_encoder"]
MODULES: dict[Part, Any] = {"unet": UNet, "vae": VAE, "text_encoder": TextEncoder}
CONFIGS: dict[Part, Any] = {"unet": UNetConfig, "vae": VAEConfig, "text_encoder": TextConfig}


def initial_params(network: nn.Module, rng: PRNGKeyArray) -> Any:
    """Draws the parameters of a UNet, VAE or TextEncoder; with `jax.eval_shape`, their shapes.

    Args:
        network: the module.
        rng: key of the draw.

    Returns:
        The parameter tree, float32.
    """
    config = network.config
    arguments: tuple[Array, ...]
    if isinstance(network, UNet):
        size = 2 ** (len(config.block_out_channels) - 1)
        sample = jnp.zeros((1, size, size, config.in_channels))
        arguments = (sample, jnp.zeros(1), jnp.zeros((1, 1, config.cross_attention_dim)))
    elif isinstance(network, VAE):
        arguments = (jnp.zeros((1, config.factor, config.factor, config.in_channels)), rng)
    else:
        arguments = (jnp.zeros((1, 1), jnp.int32),)
    return network.init(rng, *arguments)["params"]


def parameter_shapes(network: nn.Module) -> Any:
    """The tree of shapes of a network's parameters, without drawing them."""
    return jax.eval_shape(lambda rng: initial_params(network, rng), jax.random.key(0))


def fit_params(
    shapes: Any, tensors: Iterable[tuple[str, np.ndarray]], dtype: DTypeLike, source: str
) -> Mapping[str, Any]:
    """Builds the parameter tree of a network from a state dict, one tensor at a time.

    Args:
        shapes: the tree that the network needs.
        tensors: names and values in PyTorch's layout.
        dtype: of the parameters.
        source: where the tensors come from, for messages.

    Raises:
        WeightsError: they are not those of this network.
    """
    params = to_flax((name.removeprefix(TEXT_PREFIX), value.astype(dtype, copy=False)) for name, value in tensors)
    check_tree(params, shapes, source)
    return params
