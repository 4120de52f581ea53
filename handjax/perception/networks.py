"""MediaPipe's two hand networks as Linen modules: palm detector (192 px) and landmark network (224 px).

The architectures are those of the graphs in `hand_landmarker.task` (Zhang et al., "MediaPipe Hands",
arXiv:2006.10214): a depthwise-separable residual encoder with a feature pyramid, and an EfficientNet-Lite encoder with
four heads. Layers are called in the order in which the graphs list them: that is how `tflite.py` places the weights.
Pointwise convolutions are dense layers, which XLA runs up to twice as fast on CPU.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PALM_SIZE = 192
LANDMARK_SIZE = 224


class DepthwiseConv(nn.Module):
    """Convolves every feature with a kernel of its own; padding "SAME"."""

    kernel_size: int
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width features"]
    ) -> Float[Array, "batch new_height new_width features"]:
        shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return _depthwise(x, kernel, self.stride) + bias


# jitted so that layers of one shape are traced once, not each for itself
@partial(jax.jit, static_argnames="stride")
def _depthwise(
    x: Float[Array, "batch height width features"], kernel: Float[Array, "size size 1 features"], stride: int
) -> Float[Array, "batch new_height new_width features"]:
    # XLA's grouped convolution is many times slower on CPU than the same sum written out
    return jax.lax.platform_dependent(
        x, kernel, cpu=partial(_shifted_sum, stride=stride), default=partial(_grouped_convolution, stride=stride)
    )


def _shifted_sum(x, kernel, stride):
    size = kernel.shape[0]
    rows, columns = (-(-extent // stride) for extent in x.shape[1:3])
    pads = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), "SAME")
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    return sum(
        x[:, dy : dy + stride * rows : stride, dx : dx + stride * columns : stride] * kernel[dy, dx, 0]
        for dy in range(size)
        for dx in range(size)
    )


def _grouped_convolution(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


class PReLU(nn.Module):
    """x where positive, slope * x elsewhere, with one slope a feature."""

    @nn.compact
    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],))
        return jnp.where(x >= 0, x, slope * x)


class PalmBlock(nn.Module):
    """Depthwise and pointwise convolution on a residual; with stride 2 the residual is pooled and zero-padded."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_features"]
    ) -> Float[Array, "batch new_height new_width features"]:
        y = DepthwiseConv(5, self.stride)(x)
        y = nn.Dense(self.features)(y)
        if self.stride == 2:
            x = nn.max_pool(x, (2, 2), (2, 2))
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.features - x.shape[-1])))
        return PReLU()(x + y)


class PalmDetector(nn.Module):
    """Single-shot palm detector: a box with seven keypoints and a score for each of 2,016 anchors."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch 192 192 3"]
    ) -> tuple[Float[Array, "batch 2016 18"], Float[Array, "batch 2016"]]:
        """Detects palms.

        Args:
          images: RGB in [0, 1].

        Returns:
          Boxes (centre x and y, width, height, x and y of 7 keypoints; pixels, places relative to the anchor's centre)
          and score logits; anchors in the order of `palm.anchor_centers`.
        """
        x = PReLU()(nn.Conv(32, (5, 5), (2, 2))(images))
        levels: list[jax.Array] = []
        for features in (32, 64, 128, 256, 256):
            if levels:
                x = PalmBlock(features, stride=2)(x)
            for _ in range(4):
                x = PalmBlock(features)(x)
            levels.append(x)
        x = self._merge(x, levels[3])
        coarse_scores, coarse_boxes = self._heads(x, anchors=6)
        x = self._merge(x, levels[2])
        fine_scores, fine_boxes = self._heads(x, anchors=2)
        return (
            jnp.concatenate([fine_boxes, coarse_boxes], axis=1),
            jnp.concatenate([fine_scores, coarse_scores], axis=1)[..., 0],
        )

    def _merge(self, x, finer):
        batch, height, width, features = finer.shape
        x = jax.image.resize(x, (batch, height, width, x.shape[-1]), "bilinear")
        x = finer + PReLU()(nn.Dense(features)(x))
        for _ in range(2):
            x = PalmBlock(features)(x)
        return x

    def _heads(self, x, anchors):
        scores = nn.Dense(anchors)(x)
        boxes = nn.Dense(anchors * 18)(x)
        return scores.reshape(x.shape[0], -1, 1), boxes.reshape(x.shape[0], -1, 18)


class InvertedResidual(nn.Module):
    """Expand, convolve depthwise, project; the input is added where its shape allows (Sandler et al., MobileNetV2)."""

    features: int
    expanded: int
    kernel_size: int
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_features"]
    ) -> Float[Array, "batch new_height new_width features"]:
        y = nn.relu6(nn.Dense(self.expanded)(x))
        y = nn.relu6(DepthwiseConv(self.kernel_size, self.stride)(y))
        y = nn.Dense(self.features)(y)
        return y + x if y.shape == x.shape else y


class LandmarkNetwork(nn.Module):
    """Landmark network: 21 points in the crop and in metres, hand presence and handedness."""

    @nn.compact
    def __call__(
        self, crops: Float[Array, "batch 224 224 3"]
    ) -> tuple[Float[Array, "batch 21 3"], Float[Array, " batch"], Float[Array, " batch"], Float[Array, "batch 21 3"]]:
        """Reads a hand.

        Args:
          crops: RGB in [0, 1], the hand upright.

        Returns:
          Landmarks in pixels of the crop, presence probability, handedness probability, landmarks in metres about the
          hand's centre.
        """
        x = nn.relu6(nn.Conv(24, (3, 3), (2, 2))(crops))
        x = nn.relu6(DepthwiseConv(3)(x))
        x = nn.Dense(16)(x)
        x = InvertedResidual(24, 64, 3, stride=2)(x)
        x = InvertedResidual(24, 144, 3)(x)
        x = InvertedResidual(40, 144, 5, stride=2)(x)
        x = InvertedResidual(40, 240, 5)(x)
        x = InvertedResidual(80, 240, 3, stride=2)(x)
        x = InvertedResidual(80, 480, 3)(x)
        x = InvertedResidual(80, 480, 3)(x)
        x = InvertedResidual(112, 480, 5)(x)
        x = InvertedResidual(112, 672, 5)(x)
        x = InvertedResidual(112, 672, 5)(x)
        x = InvertedResidual(192, 672, 5, stride=2)(x)
        for _ in range(3):
            x = InvertedResidual(192, 1152, 5)(x)
        x = nn.relu6(nn.Dense(1152)(x))
        x = nn.relu6(DepthwiseConv(3)(x))
        x = x.mean(axis=(1, 2))
        handedness = nn.sigmoid(nn.Dense(1)(x))[:, 0]
        presence = nn.sigmoid(nn.Dense(1)(x))[:, 0]
        landmarks = nn.Dense(63)(x).reshape(-1, 21, 3)
        world = nn.Dense(63)(x).reshape(-1, 21, 3)
        return landmarks, presence, handedness, world
