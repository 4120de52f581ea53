"""DINO's vision transformer as a Linen module, with the names of the published weights.

Weights: `dino_deitsmall16_pretrain.pth` of facebookresearch/dino (Apache-2.0) for ViT-S/16; a safetensors file with the
same names is read as well.
"""

import dataclasses
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.perception.vision_blocks import DEVIATION, MEAN, VisionBlock, vision_norm
from handjax.weights.files import read_weights
from handjax.weights.names import check_tree, to_flax

HEAD_PREFIXES = ("head.", "fc.")


@dataclasses.dataclass(frozen=True)
class DINOConfig:
    """Size of the transformer; the defaults are ViT-S/16 (Touvron et al. 2021, table 1).

    Args:
        image_size: side of the pictures in pixels.
        patch: side of a patch in pixels.
        width: channels.
        depth: blocks.
        heads: of the attention.
    """

    image_size: int = 224
    patch: int = 16
    width: int = 384
    depth: int = 12
    heads: int = 6

    @property
    def tokens(self) -> int:
        """Number of patches."""
        return (self.image_size // self.patch) ** 2


class PatchEmbed(nn.Module):
    """Patches to tokens."""

    config: DINOConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch tokens C"]:
        patch, width = (self.config.patch,) * 2, self.config.width
        maps = nn.Conv(width, patch, patch, padding="VALID", dtype=self.dtype, name="proj")(x)
        return maps.reshape(len(x), -1, width)


class DINO(nn.Module):
    """Reads pictures; gives the tokens, class token first, on entry and after every block.

    Args:
        config: size.
        dtype: of the computation; parameters and softmax are float32.

    Source:
        Dosovitskiy et al. 2021; trained as Caron et al. 2021.
    """

    config: DINOConfig = DINOConfig()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch size size 3"]
    ) -> tuple[Float[Array, "batch tokens C"], tuple[Float[Array, "batch tokens C"], ...]]:
        """Reads pictures in [0, 1].

        Returns:
            The tokens after the last norm; and those with their positions added, then those after each block.
        """
        config = self.config
        normalised = (images - jnp.array(MEAN)) / jnp.array(DEVIATION)
        patches = PatchEmbed(config, self.dtype, name="patch_embed")(normalised.astype(self.dtype))
        first = self.param("cls_token", nn.initializers.normal(0.02), (1, 1, config.width))
        places = self.param("pos_embed", nn.initializers.normal(0.02), (1, config.tokens + 1, config.width))
        x = jnp.concatenate([jnp.broadcast_to(first, (len(images), 1, config.width)), patches], axis=1) + places
        x = x.astype(self.dtype)
        inside = [x]
        for number in range(config.depth):
            x = VisionBlock(config.heads, self.dtype, name=f"blocks_{number}")(x)
            inside.append(x)
        return vision_norm("norm", self.dtype)(x), tuple(inside)


def load_dino(path: str | os.PathLike, config: DINOConfig = DINOConfig(), allow_pickle: bool = False) -> dict[str, Any]:
    """Reads published weights.

    Args:
        path: .safetensors, or PyTorch's pickled file.
        config: size of the network.
        allow_pickle: read the pickled file, with PyTorch's loader of nothing but tensors.

    Returns:
        Parameters of `DINO`.

    Raises:
        WeightsError: the file cannot be read or holds a network of another size.
        BackendError: the file is pickled and PyTorch is not installed.
    """
    tensors = ((name, value) for name, value in read_weights(path, allow_pickle) if not name.startswith(HEAD_PREFIXES))
    params = to_flax(tensors)
    check_tree(params, dino_shapes(config), str(path))
    return params


def dino_shapes(config: DINOConfig) -> dict[str, Any]:
    """The tree of shapes of the parameters."""
    images = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)
    return jax.eval_shape(DINO(config).init, jax.random.key(0), images)["params"]
