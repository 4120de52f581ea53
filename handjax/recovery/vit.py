"""The image encoder: a plain vision transformer whose weights are named as HaMeR's and ViTPose's (DECISIONS F7)."""

import dataclasses
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.diffusion.layers import BLOCK
from handjax.perception.vision_blocks import DEVIATION, MEAN, VisionBlock, vision_norm
from handjax.weights.files import read_weights
from handjax.weights.names import check_tree, to_flax

IMAGE_SIZE, CUT = 256, 32
"""Side of the square crop, and the columns on either side that the network does not see."""
ROWS, COLUMNS = 16, 12
PATCH, PADDING = 16, 2
PREFIX = "backbone."


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Size of the transformer; the defaults are HaMeR's, ViT-H/16 (Dosovitskiy et al. 2021, table 1).

    Args:
        width: channels.
        depth: blocks.
        heads: of the attention.
    """

    width: int = 1280
    depth: int = 32
    heads: int = 16


class PatchEmbed(nn.Module):
    """Patches of 16 pixels to tokens, by a convolution that pads 2 pixels."""

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch rows columns C"]:
        conv = nn.Conv(self.width, (PATCH, PATCH), (PATCH, PATCH), padding=PADDING, dtype=self.dtype, name="proj")
        return conv(x)


class ViT(nn.Module):
    """Reads a crop; one token a patch comes out, in its place.

    Args:
        config: size.
        dtype: of the computation; parameters are float32.

    Source: Dosovitskiy et al. 2021; positions as in Xu et al. 2022 (ViTPose), whose class token's place is added to
        every patch.
    """

    config: ViTConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "batch 256 256 3"]) -> Float[Array, "batch 16 12 C"]:
        """Reads square crops of right hands in [-1, 1]."""
        width = self.config.width
        pixels = (images[:, :, CUT:-CUT] / 2 + 0.5 - jnp.array(MEAN)) / jnp.array(DEVIATION)
        x = PatchEmbed(width, self.dtype, name="patch_embed")(pixels).reshape(len(images), ROWS * COLUMNS, width)
        places = self.param("pos_embed", nn.initializers.normal(0.02), (1, ROWS * COLUMNS + 1, width))
        x += (places[:, 1:] + places[:, :1]).astype(x.dtype)
        for number in range(self.config.depth):
            x = checkpoint_name(VisionBlock(self.config.heads, self.dtype, name=f"blocks_{number}")(x), BLOCK)
        return vision_norm("last_norm", self.dtype)(x).reshape(len(images), ROWS, COLUMNS, width)


def load_vit(path: str | os.PathLike, config: ViTConfig, allow_pickle: bool = False) -> dict[str, Any]:
    """Reads the encoder of a HaMeR checkpoint, or of a safetensors file with its names.

    Args:
        path: holds tensors named "backbone.…"; others are left.
        config: size of the network.
        allow_pickle: read PyTorch's pickled files, as HaMeR's own.

    Returns:
        Parameters of `ViT`.

    Raises:
        WeightsError: the file cannot be read or holds a network of another size.
        BackendError: the file is pickled and PyTorch is not installed.
    """
    tensors = read_weights(path, allow_pickle, PREFIX)
    params = to_flax((name.removeprefix(PREFIX), value.astype(np.float32, copy=False)) for name, value in tensors)
    images = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    check_tree(params, jax.eval_shape(ViT(config).init, jax.random.key(0), images)["params"], str(path))
    return params
