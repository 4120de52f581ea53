"""The image encoder: a plain vision transformer whose weights are named as HaMeR's and ViTPose's (DECISIONS F7).

For the small model that comes with the package the same transformer reads maps of EfficientNet-Lite0 in place of
patches.
"""

import dataclasses
import os
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.diffusion.layers import BLOCK
from handjax.perception.efficientnet import DEVIATION as PIXEL_DEVIATION
from handjax.perception.efficientnet import MEAN as PIXEL_MEAN
from handjax.perception.efficientnet import EfficientNetLite0, load_params
from handjax.perception.vision_blocks import DEVIATION, MEAN, VisionBlock, vision_norm
from handjax.weights.files import read_weights
from handjax.weights.names import check_tree, to_flax

IMAGE_SIZE, CUT_SHARE = 256, 1 / 8
"""Side of the square crop that a ViT of patches reads, and the share on either side that it does not see."""
SMALL_IMAGE_SIZE = 128
"""Side of the crop, of which the same share is seen, for EfficientNet-Lite0."""
PATCH, PADDING = 16, 2
PREFIX = "backbone."
EFFICIENTNET = "efficientnet"
HALF_RANGE = 127.5
"""Of pixel values."""


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Size of the transformer; the defaults are HaMeR's, ViT-H/16 (Dosovitskiy et al. 2021, table 1).

    Args:
        width: channels.
        depth: blocks.
        heads: of the attention.
        stem: what the blocks read: patches of pixels, or the maps of EfficientNet-Lite0, which stays as ImageNet has
            taught it (the hybrid of Dosovitskiy et al. 2021, section 3.1).
    """

    width: int = 1280
    depth: int = 32
    heads: int = 16
    stem: Literal["patches", "efficientnet"] = "patches"

    @property
    def image_size(self) -> int:
        """Side of the square crop, pixels."""
        return IMAGE_SIZE if self.stem == "patches" else SMALL_IMAGE_SIZE


class PatchEmbed(nn.Module):
    """Patches of 16 pixels to tokens, by a convolution that pads 2 pixels."""

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch rows columns C"]:
        conv = nn.Conv(self.width, (PATCH, PATCH), (PATCH, PATCH), padding=PADDING, dtype=self.dtype, name="proj")
        return conv(x)


class FrozenMaps(nn.Module):
    """EfficientNet-Lite0's map of a 16th of the picture and, four places to one, that of an 8th; no gradient."""

    width: int

    @nn.compact
    def __call__(self, pixels: Float[Array, "batch height width 3"]) -> Float[Array, "batch rows columns C"]:
        network = EfficientNetLite0(scales=3, name=EFFICIENTNET)
        _, maps = network((pixels * HALF_RANGE + HALF_RANGE - PIXEL_MEAN) / PIXEL_DEVIATION)
        fine, coarse = (jax.lax.stop_gradient(x) for x in maps[2:])
        batch, rows, columns, _ = coarse.shape
        fine = fine.reshape(batch, rows, 2, columns, 2, -1).swapaxes(2, 3).reshape(batch, rows, columns, -1)
        x = jnp.concatenate([fine, coarse], axis=-1)
        return nn.Dense(self.width, name="proj")(vision_norm("norm", x.dtype)(x))


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
    def __call__(self, images: Float[Array, "batch size size 3"]) -> Float[Array, "batch rows columns C"]:
        """Reads square crops of right hands in [-1, 1], of the config's size."""
        width, cut = self.config.width, round(CUT_SHARE * self.config.image_size)
        pixels = images[:, :, cut:-cut]
        if self.config.stem == "patches":
            pixels = (pixels / 2 + 0.5 - jnp.array(MEAN)) / jnp.array(DEVIATION)
            x = PatchEmbed(width, self.dtype, name="patch_embed")(pixels)
        else:
            x = FrozenMaps(width, name="patch_embed")(pixels).astype(self.dtype)
        shape = x.shape
        x = x.reshape(len(images), -1, width)
        places = self.param("pos_embed", nn.initializers.normal(0.02), (1, x.shape[1] + 1, width))
        x += (places[:, 1:] + places[:, :1]).astype(x.dtype)
        for number in range(self.config.depth):
            x = checkpoint_name(VisionBlock(self.config.heads, self.dtype, name=f"blocks_{number}")(x), BLOCK)
        return vision_norm("last_norm", self.dtype)(x).reshape(shape)


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


def with_imagenet_maps(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a `ViT` whose stem is EfficientNet-Lite0, with the ImageNet weights of its package.

    Args:
        params: of the ViT, random.

    Raises:
        BackendError: the package is not installed.
        WeightsError: its file is missing or damaged.
    """
    stem = params["patch_embed"]
    published = load_params()["params"]
    return {**params, "patch_embed": {**stem, EFFICIENTNET: {name: published[name] for name in stem[EFFICIENTNET]}}}
