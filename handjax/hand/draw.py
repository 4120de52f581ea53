"""The skeleton picture of a hand, in the colours that OpenPose and the models trained on it use."""

import colorsys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.hand.topology import KEYPOINT_BONES

BONE_COLORS = np.array([colorsys.hsv_to_rgb(i / 20, 1.0, 1.0) for i in range(20)], np.float32)
JOINT_COLOR = np.array([0.0, 0.0, 1.0], np.float32)
BONE_THICKNESS, JOINT_RADIUS, REFERENCE_SIZE = 2.0, 4.0, 512
# below these a 96 px picture loses its bones to antialiasing
MIN_BONE_THICKNESS, MIN_JOINT_RADIUS = 1.5, 1.5


@partial(jax.jit, static_argnames=("height", "width"))
def draw_skeleton(
    keypoints: Float[Array, "21 2"],
    height: int,
    width: int,
    confidence: Float[Array, "21"] | None = None,
) -> Float[Array, "height width 3"]:
    """Draws 20 bones and then 21 joints on black, antialiased.

    Args:
        keypoints: pixels (x, y), OpenPose order; points outside the picture are cut off.
        height: picture height in pixels.
        width: picture width in pixels.
        confidence: points with confidence 0 and their bones are left out; None draws all.

    Returns:
        RGB in [0, 1].

    Source:
        DECISIONS B3.
    """
    scale = max(height, width) / REFERENCE_SIZE
    half_thickness = max(BONE_THICKNESS * scale, MIN_BONE_THICKNESS) / 2
    radius = max(JOINT_RADIUS * scale, MIN_JOINT_RADIUS)
    seen = jnp.ones(21, bool) if confidence is None else confidence > 0
    first, second = KEYPOINT_BONES[:, 0], KEYPOINT_BONES[:, 1]
    # a joint is a bone of length 0
    starts = jnp.concatenate([keypoints[first], keypoints])
    ends = jnp.concatenate([keypoints[second], keypoints])
    colors = jnp.concatenate([BONE_COLORS, jnp.tile(JOINT_COLOR, (21, 1))])
    radii = jnp.concatenate([jnp.full(20, half_thickness), jnp.full(21, radius)])
    visible = jnp.concatenate([seen[first] & seen[second], seen])

    def paint(canvas, stroke):
        start, end, color, stroke_radius, is_visible = stroke
        cover = jnp.where(is_visible, _coverage(start, end, stroke_radius, height, width), 0.0)
        return canvas + cover[..., None] * (color - canvas), None

    canvas = jnp.zeros((height, width, 3), jnp.float32)
    canvas, _ = jax.lax.scan(paint, canvas, (starts, ends, colors, radii, visible))
    return canvas


def _coverage(
    start: Float[Array, "2"], end: Float[Array, "2"], radius: Float[Array, ""], height: int, width: int
) -> Float[Array, "height width"]:
    """Share of each pixel within `radius` of the segment, to first order."""
    x = jnp.arange(width) + 0.5 - start[0]
    y = (jnp.arange(height) + 0.5 - start[1])[:, None]
    along = end - start
    position = jnp.clip((x * along[0] + y * along[1]) / jnp.maximum(along @ along, 1e-6), 0.0, 1.0)
    distance = jnp.hypot(x - position * along[0], y - position * along[1])
    return jnp.clip(radius + 0.5 - distance, 0.0, 1.0)
