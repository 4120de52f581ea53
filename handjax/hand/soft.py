"""Soft silhouette and depth of a mesh, differentiable in vertices and camera also where the outline moves.

As in SoftRas every face has a share in the pixels near its edges. Shares are summed over the list of windows that the
hard z-buffer uses as well; the gradient walks the same list again, so that memory is bounded by the picture.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from handjax.hand.camera import PinholeCamera
from handjax.hand.rasterize import project_faces
from handjax.hand.windows import WINDOWS_PER_CHUNK, Chunk, Windows, cover_faces, flat_pixels, take_chunk

# Values that a face adds to a pixel: of its nearness, depth, the softness and the picture that is passed along.
Term = Callable[..., tuple[Float[Array, "n 8 8"], ...]]
# Beyond this many sigmas the share of a face is 1e-7.
REACH = 4.0


@struct.dataclass
class _Softness:
    """Width of the edges in pixels and of the step from near to far in metres."""

    sigma: Float[Array, ""]
    gamma: Float[Array, ""]


@partial(jax.jit, static_argnames=("height", "width"))
def soft_silhouette(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    camera: PinholeCamera,
    height: int,
    width: int,
    sigma: float | Float[Array, ""] = 1.0,
) -> Float[Array, "height width"]:
    """Probability that a mesh covers each pixel; it tends to the hard mask as sigma tends to 0.

    On the outline, where the front and the back of a closed mesh each count half, it is 3/4 rather than 1/2.

    Args:
        vertices: camera space, metres.
        faces: vertex indices.
        camera: pinhole camera in pixels of the picture.
        height: picture height in pixels.
        width: picture width in pixels.
        sigma: distance to an edge, in pixels, at which a face still covers σ(-1) = 0.27 of a pixel outside; the square
            root of the paper's σ. It takes no gradient.

    Returns:
        Values in [0, 1].

    Source:
        Liu et al., "Soft Rasterizer", 2019, Eq. 1 and 4.
    """
    corners, windows, softness = _set_up(vertices, faces, camera, height, width, sigma, 1.0)
    unshifted = jnp.zeros((height, width), corners.dtype)
    (log_background,) = _sum_over_faces(_log_uncovered, 1, corners, windows, softness, unshifted)
    return -jnp.expm1(log_background)


@partial(jax.jit, static_argnames=("height", "width"))
def soft_depth(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    camera: PinholeCamera,
    height: int,
    width: int,
    sigma: float | Float[Array, ""] = 1.0,
    gamma: float | Float[Array, ""] = 1e-3,
) -> Float[Array, "height width"]:
    """Depth of the faces near each pixel, the nearest first; it tends to the hard depth as sigma and gamma tend to 0.

    The background takes no part in the mean, so that the depth of the outline is that of the mesh; multiply with the
    silhouette where it should fade out.

    Args:
        vertices: camera space, metres.
        faces: vertex indices.
        camera: pinhole camera in pixels of the picture.
        height: picture height in pixels.
        width: picture width in pixels.
        sigma: as in `soft_silhouette`.
        gamma: a face this much farther, metres, counts e times less. It takes no gradient.

    Returns:
        Metres; 0 where no face is within REACH times sigma.

    Source:
        Liu et al., 2019, Eq. 2 and 3 without background, with depth in metres as the colour; outside a face its depth
        is that of its nearest point.
    """
    corners, windows, softness = _set_up(vertices, faces, camera, height, width, sigma, gamma)
    largest = _largest_logit(windows, jax.lax.stop_gradient(corners), softness, height, width)
    total, weighted = _sum_over_faces(_weighted_depth, 2, corners, windows, softness, largest)
    return jnp.where(total > 0, weighted / jnp.where(total > 0, total, 1.0), 0.0)


def _set_up(
    vertices, faces, camera, height, width, sigma, gamma
) -> tuple[Float[Array, "faces 3 3"], Windows, _Softness]:
    pixels, depth, drawn = project_faces(vertices, faces, camera)
    corners = jnp.where(drawn[:, None, None], jnp.concatenate([pixels, depth[..., None]], axis=-1), 1.0)
    softness = jax.lax.stop_gradient(_Softness(jnp.asarray(sigma, depth.dtype), jnp.asarray(gamma, depth.dtype)))
    windows = cover_faces(jax.lax.stop_gradient(pixels), drawn, REACH * softness.sigma, height, width)
    return corners, windows, softness


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sum_over_faces(
    term: Term,
    channels: int,
    corners: Float[Array, "faces 3 3"],
    windows: Windows,
    softness: _Softness,
    shift: Float[Array, "height width"],
) -> tuple[Float[Array, "height width"], ...]:
    """Sums over all faces near a pixel the `channels` values of `term`; differentiable in `corners` alone.

    Corners are x, y in pixels and z in metres; `shift` is a picture that `term` gets the values of.
    """

    def work(carry):
        begin, sums = carry
        chunk = take_chunk(windows, begin)
        pixel = flat_pixels(windows, chunk, *shift.shape)
        values = _evaluate(term, windows, chunk, softness, _take(shift, pixel), corners[chunk.face])
        sums = [total.at[pixel].add(value, mode="drop") for total, value in zip(sums, values, strict=True)]
        return begin + WINDOWS_PER_CHUNK, sums

    start = jnp.int32(0), [jnp.zeros(shift.size, shift.dtype)] * channels
    _, sums = jax.lax.while_loop(lambda carry: carry[0] < windows.counts.sum(), work, start)
    return tuple(total.reshape(shift.shape) for total in sums)


def _sum_forward(term, channels, corners, windows, softness, shift):
    return _sum_over_faces(term, channels, corners, windows, softness, shift), (corners, windows, softness, shift)


def _sum_backward(term, channels, saved, slopes):
    """Walks the windows again: what a pixel's sum is worth goes to the corners of each face near it."""
    corners, windows, softness, shift = saved

    def work(carry):
        begin, gradient = carry
        chunk = take_chunk(windows, begin)
        pixel = flat_pixels(windows, chunk, *shift.shape)
        evaluate = partial(_evaluate, term, windows, chunk, softness, _take(shift, pixel))
        _, pull_back = jax.vjp(evaluate, corners[chunk.face])
        (pulled,) = pull_back(tuple(_take(slope, pixel) for slope in slopes))
        return begin + WINDOWS_PER_CHUNK, gradient.at[chunk.face].add(pulled)

    start = jnp.int32(0), jnp.zeros_like(corners)
    _, gradient = jax.lax.while_loop(lambda carry: carry[0] < windows.counts.sum(), work, start)
    return gradient, None, None, None


_sum_over_faces.defvjp(_sum_forward, _sum_backward)


def _take(picture: Float[Array, "height width"], pixel: Int[Array, "n 8 8"]) -> Float[Array, "n 8 8"]:
    return picture.ravel().at[pixel].get(mode="fill", fill_value=0.0)


def _evaluate(term, windows, chunk, softness, shift, corners) -> tuple[Float[Array, "n 8 8"], ...]:
    """Values of `term` at the pixels of a chunk, 0 outside the boxes."""
    near, depth = _nearness(corners, windows, chunk, softness.sigma)
    return tuple(jnp.where(chunk.inside, value, 0.0) for value in term(near, depth, softness, shift))


def _largest_logit(windows, corners, softness, height, width) -> Float[Array, "height width"]:
    """Greatest logit of a face at each pixel, by which the exponentials of `_weighted_depth` stay finite."""

    def work(carry):
        begin, largest = carry
        chunk = take_chunk(windows, begin)
        near, depth = _nearness(corners[chunk.face], windows, chunk, softness.sigma)
        pixel = flat_pixels(windows, chunk, height, width)
        return begin + WINDOWS_PER_CHUNK, largest.at[pixel].max(_logit(near, depth, softness), mode="drop")

    start = jnp.int32(0), jnp.full(height * width, -jnp.inf, corners.dtype)
    _, largest = jax.lax.while_loop(lambda carry: carry[0] < windows.counts.sum(), work, start)
    return jnp.where(jnp.isfinite(largest), largest, 0.0).reshape(height, width)


def _log_uncovered(near, depth, softness, shift):
    """ln(1 - D): Eq. 4's product is a sum of these."""
    return (-jax.nn.softplus(near),)


def _logit(near, depth, softness):
    """Logarithm of D exp(-z / γ), the weight of a face in Eq. 3."""
    return -jax.nn.softplus(-near) - depth / softness.gamma


def _weighted_depth(near, depth, softness, shift):
    weight = jnp.exp(_logit(near, depth, softness) - shift)
    return weight, weight * depth


def _nearness(
    corners: Float[Array, "n 3 3"], windows: Windows, chunk: Chunk, sigma: Float[Array, ""]
) -> tuple[Float[Array, "n 8 8"], Float[Array, "n 8 8"]]:
    """Squared distance of pixels to the edges of their face in sigmas, negative outside (what Eq. 1 takes the sigmoid
    of), and depth of the face's point that is nearest on the screen, metres."""
    first = windows.first[chunk.face]
    x, y = (first[:, :1] + chunk.dx + 0.5)[:, None, :], (first[:, 1:] + chunk.dy + 0.5)[:, :, None]
    corner_x, corner_y, corner_z = (corners[:, :, axis, None, None] for axis in range(3))
    distance, edge_depth, sides = jnp.full(chunk.inside.shape, jnp.inf), jnp.zeros(chunk.inside.shape), []
    for i, k in ((0, 1), (1, 2), (2, 0)):
        along_x, along_y = corner_x[:, k] - corner_x[:, i], corner_y[:, k] - corner_y[:, i]
        to_x, to_y = x - corner_x[:, i], y - corner_y[:, i]
        length = jnp.maximum(along_x**2 + along_y**2, 1e-12)
        at = jnp.clip((to_x * along_x + to_y * along_y) / length, 0.0, 1.0)
        here = (to_x - at * along_x) ** 2 + (to_y - at * along_y) ** 2
        edge_depth = jnp.where(here < distance, _mix(((1 - at), corner_z[:, i]), (at, corner_z[:, k])), edge_depth)
        distance = jnp.minimum(distance, here)
        sides.append(along_x * to_y - along_y * to_x)
    covered = ((sides[0] > 0) & (sides[1] > 0) & (sides[2] > 0)) | ((sides[0] < 0) & (sides[1] < 0) & (sides[2] < 0))
    area = jnp.where(covered, sum(sides), 1.0)
    # the edge from i to k faces the third corner
    weights = [jnp.where(covered, sides[i] / area, 1 / 3) for i in (1, 2, 0)]
    depth = _mix(*((weights[i], corner_z[:, i]) for i in range(3)))
    return jnp.where(covered, distance, -distance) / sigma**2, jnp.where(covered, depth, edge_depth)


def _mix(*shares: tuple[Array, Array]) -> Array:
    """Depth at a point of the screen whose weights are given: 1/z is what is linear there."""
    return 1.0 / sum((weight / depth for weight, depth in shares), jnp.zeros(()))
