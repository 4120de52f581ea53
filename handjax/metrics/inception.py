"""Inception-v3 as FID wants it, a Linen module that takes the published weights of November 2015.

It is the network of Szegedy et al. 2015, "Rethinking the Inception architecture for computer vision", in the version of
TensorFlow's `inception-2015-12-05`: means over 3x3 cells leave out the padding, the last block has a maximum instead of
a mean, and there are 1008 classes. Batch normalisation is part of the convolutions.

XLA's CPU backend runs some operations at a fraction of the speed of others that give the same, which are taken here:
1x1 convolutions are matrix products, 3x3 ones with stride 1 Winograd's, cropped where they have no padding, and pooling
combines slices. Means of neighbours are taken after the 1x1 convolution that follows them, of fewer channels.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial, reduce
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.diffusion.same_conv import library_conv
from handjax.diffusion.winograd import winograd_conv
from handjax.errors import WeightsError
from handjax.weights.files import PICKLED, read_weights
from handjax.weights.legacy_torch import read_legacy_torch
from handjax.weights.names import check_tree, to_flax

SIZE, FEATURES, CLASSES = 299, 2048, 1008
NORM_EPSILON = 1e-3
REMEDY = (
    "download pt_inception-2015-12-05-6726825d.pth from the releases of github.com/mseitzer/pytorch-fid, whose names "
    "of tensors are read"
)
EDGE = ((0, 0), (1, 1), (1, 1), (0, 0))
"""A cell more on each side of the maps."""
Maps = Float[Array, "batch _h _w _c"]


def _affine(x: Maps, name: str, features: int, kernel: tuple[int, int] = (1, 1), **options: Any) -> Maps:
    """A convolution, its normalisation folded in; called in a compact method, whose submodule it makes."""
    if not options:
        options["conv_general_dilated"] = _fast
    return nn.Conv(features, kernel, name=name, **options)(x)


def _conv(x: Maps, *arguments: Any, **options: Any) -> Maps:
    """`_affine` and ReLU."""
    return nn.relu(_affine(x, *arguments, **options))


def _fast(x: Maps, kernel: Float[Array, "_h _w _c _d"], *_: Any, **__: Any) -> Maps:
    """A convolution with stride 1 that keeps the size, called as `jax.lax.conv_general_dilated`."""
    if kernel.shape[:2] == (1, 1):
        return x @ kernel[0, 0]
    on_cpu = winograd_conv if kernel.shape[:2] == (3, 3) else library_conv
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=library_conv)


def _inside(x: Maps) -> Maps:
    """What a 3x3 convolution gives without padding, of what it gives with it."""
    return x[:, 1:-1, 1:-1]


def _pooled(x: Maps, combine: Callable[[Array, Array], Array], step: int = 1) -> Maps:
    """Combines 3x3 cells, of every `step`th place: three rows, then three columns of what these gave."""
    for axis in (1, 2):
        last = x.shape[axis] - 2
        x = reduce(combine, [jax.lax.slice_in_dim(x, i, last + i, step, axis) for i in range(3)])
    return x


_halved = partial(_conv, kernel=(3, 3), strides=(2, 2), padding="VALID")
_max_halved = partial(_pooled, combine=jnp.maximum, step=2)


def _pooled_conv(x: Maps, features: int) -> Maps:
    """Means of neighbours, a 1x1 convolution and ReLU. As means of a constant are the constant, the first two change
    places.
    """
    return nn.relu(_mean_of_neighbours(_affine(x, "branch_pool", features)))


def _mean_of_neighbours(x: Maps) -> Maps:
    neighbours = _pooled(jnp.pad(jnp.ones((1, *x.shape[1:3], 1)), EDGE), jnp.add)
    return _pooled(jnp.pad(x, EDGE), jnp.add) / neighbours


def _max_of_neighbours(x: Maps) -> Maps:
    return _pooled(jnp.pad(x, EDGE, constant_values=-jnp.inf), jnp.maximum)


class FineBlock(nn.Module):
    """At 35x35: kernels of 1, 5 and twice 3."""

    pooled: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        five = _conv(_conv(x, "branch5x5_1", 48), "branch5x5_2", 64, (5, 5))
        three = _conv(_conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, (3, 3))
        three = _conv(three, "branch3x3dbl_3", 96, (3, 3))
        pooled = _pooled_conv(x, self.pooled)
        return jnp.concatenate([_conv(x, "branch1x1", 64), five, three, pooled], axis=-1)


class FineToMiddle(nn.Module):
    """35x35 to 17x17."""

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        double = _conv(_conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, (3, 3))
        branches = _halved(x, "branch3x3", 384), _halved(double, "branch3x3dbl_3", 96), _max_halved(x)
        return jnp.concatenate(branches, axis=-1)


class MiddleBlock(nn.Module):
    """At 17x17: kernels of 7, a row and a column of them."""

    inner: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        row, column = (1, 7), (7, 1)
        once = _conv(_conv(x, "branch7x7_1", self.inner), "branch7x7_2", self.inner, row)
        once = _conv(once, "branch7x7_3", 192, column)
        twice = _conv(_conv(x, "branch7x7dbl_1", self.inner), "branch7x7dbl_2", self.inner, column)
        twice = _conv(_conv(twice, "branch7x7dbl_3", self.inner, row), "branch7x7dbl_4", self.inner, column)
        twice = _conv(twice, "branch7x7dbl_5", 192, row)
        pooled = _pooled_conv(x, 192)
        return jnp.concatenate([_conv(x, "branch1x1", 192), once, twice, pooled], axis=-1)


class MiddleToCoarse(nn.Module):
    """17x17 to 8x8."""

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        three = _halved(_conv(x, "branch3x3_1", 192), "branch3x3_2", 320)
        seven = _conv(_conv(x, "branch7x7x3_1", 192), "branch7x7x3_2", 192, (1, 7))
        seven = _halved(_conv(seven, "branch7x7x3_3", 192, (7, 1)), "branch7x7x3_4", 192)
        return jnp.concatenate([three, seven, _max_halved(x)], axis=-1)


class CoarseBlock(nn.Module):
    """At 8x8: rows and columns of 3 beside each other; the last block pools by maximum."""

    last: bool

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        def both(x, name):
            return [_conv(x, f"{name}a", 384, (1, 3)), _conv(x, f"{name}b", 384, (3, 1))]

        three = _conv(x, "branch3x3_1", 384)
        double = _conv(_conv(x, "branch3x3dbl_1", 448), "branch3x3dbl_2", 384, (3, 3))
        pooled = _conv(_max_of_neighbours(x), "branch_pool", 192) if self.last else _pooled_conv(x, 192)
        branches = [_conv(x, "branch1x1", 320), *both(three, "branch3x3_2"), *both(double, "branch3x3dbl_3"), pooled]
        return jnp.concatenate(branches, axis=-1)


class InceptionV3(nn.Module):
    """The network, its names those of the published state dict."""

    @nn.compact
    def __call__(self, images: Float[Array, "batch 299 299 3"]) -> Float[Array, "batch 2048"]:
        """Reads pictures.

        Args:
            images: RGB in [0, 255].

        Returns:
            Features: means over the last maps.
        """
        x = (images - 128) / 128
        x = _halved(x, "Conv2d_1a_3x3", 32)
        x = _inside(_conv(x, "Conv2d_2a_3x3", 32, (3, 3)))
        x = _max_halved(_conv(x, "Conv2d_2b_3x3", 64, (3, 3)))
        x = _conv(x, "Conv2d_3b_1x1", 80)
        x = _max_halved(_inside(_conv(x, "Conv2d_4a_3x3", 192, (3, 3))))
        for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
            x = FineBlock(pooled, name=f"Mixed_5{letter}")(x)
        x = FineToMiddle(name="Mixed_6a")(x)
        for letter, inner in zip("bcde", (128, 160, 160, 192), strict=True):
            x = MiddleBlock(inner, name=f"Mixed_6{letter}")(x)
        x = MiddleToCoarse(name="Mixed_7a")(x)
        for letter in "bc":
            x = CoarseBlock(letter == "c", name=f"Mixed_7{letter}")(x)
        return x.mean(axis=(1, 2))


def load_inception(path: Path) -> tuple[dict[str, Any], Float[np.ndarray, "2048 1008"]]:
    """Reads the published weights.

    Args:
        path: a state dict with the names of pytorch-fid and torch-fidelity, pickled by any PyTorch or in safetensors.

    Returns:
        Parameters for `InceptionV3`, and the classifier's matrix.

    Raises:
        WeightsError: the file is missing, damaged or of another network.
        BackendError: it is pickled by PyTorch 1.6 or later, and PyTorch is not installed.
    """
    if path.suffix in PICKLED and not zipfile.is_zipfile(path):
        state = read_legacy_torch(path, REMEDY)
    else:
        state = dict(read_weights(path, allow_pickle=True))
    if "fc.weight" not in state:
        raise WeightsError(f"{path}: no tensor fc.weight, so not FID's Inception-v3; {REMEDY}")
    params = to_flax(_folded(state))
    expected = jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))["params"]
    check_tree(params, expected, str(path))
    return {"params": params}, state["fc.weight"].T


def _folded(state: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Weight and bias of each convolution with the normalisation that follows it."""
    for name in (key.removesuffix(".conv.weight") for key in state if key.endswith(".conv.weight")):
        parts = [state.get(f"{name}.bn.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        if any(part is None for part in parts):
            continue  # a missing tensor is told by its place in the tree
        scale, bias, mean, variance = (np.asarray(part, np.float64) for part in parts)
        scale = scale / np.sqrt(variance + NORM_EPSILON)
        yield f"{name}.weight", (state[f"{name}.conv.weight"] * scale[:, None, None, None]).astype(np.float32)
        yield f"{name}.bias", (bias - mean * scale).astype(np.float32)
