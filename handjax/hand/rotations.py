"""Rotations as axis-angle vectors, matrices, 6D vectors and joint angles, with gradients that are finite everywhere.

Matrix products are in full float32 on every device: accelerators would round them to 8 or 10 bits.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_TINY = 1e-8


def _safe_norm(vectors: Float[Array, "*batch n"]) -> Float[Array, "*batch 1"]:
    # the square root's slope is infinite at zero
    return jnp.sqrt(jnp.maximum(jnp.sum(vectors**2, axis=-1, keepdims=True), _TINY**2))


@jax.default_matmul_precision("highest")
def axis_angle_to_matrix(axis_angle: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrix of a rotation vector.

    Args:
        axis_angle: unit axis times angle, radians.

    Returns:
        Rotation matrices that act on columns.

    Source: Rodrigues' formula, I + sin(a)/a K + (1 - cos(a))/a² K².
    """
    angle = _safe_norm(axis_angle)[..., None]
    x, y, z = jnp.moveaxis(axis_angle, -1, 0)
    zero = jnp.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    cross = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    half_sine = jnp.sin(angle / 2) / angle
    return jnp.eye(3) + jnp.sin(angle) / angle * cross + 2 * half_sine**2 * (cross @ cross)


def matrix_to_axis_angle(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3"]:
    """Rotation vector of a rotation matrix, angle in [0, π].

    Args:
        matrix: rotation matrices.

    Returns:
        Unit axis times angle, radians.

    Source: Shepperd, "Quaternion from Rotation Matrix", 1978: of four equivalent quaternions the one with the
    largest component is taken, which stays exact near half turns.
    """
    m = matrix
    trace = jnp.trace(m, axis1=-2, axis2=-1)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    sx, sy, sz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    candidates = jnp.stack(
        [
            jnp.stack([1 + trace, sx, sy, sz], axis=-1),
            jnp.stack([sx, 1 + 2 * xx - trace, xy, xz], axis=-1),
            jnp.stack([sy, xy, 1 + 2 * yy - trace, yz], axis=-1),
            jnp.stack([sz, xz, yz, 1 + 2 * zz - trace], axis=-1),
        ],
        axis=-2,
    )
    largest = jnp.argmax(jnp.diagonal(candidates, axis1=-2, axis2=-1), axis=-1)
    quaternion = jnp.take_along_axis(candidates, largest[..., None, None], axis=-2)[..., 0, :]
    quaternion = quaternion / _safe_norm(quaternion)
    quaternion = quaternion * jnp.where(quaternion[..., :1] < 0, -1.0, 1.0)
    cosine, axis = quaternion[..., :1], quaternion[..., 1:]
    sine = _safe_norm(axis)
    return 2 * jnp.arctan2(sine, cosine) / sine * axis


def six_d_to_matrix(six_d: Float[Array, "*batch 6"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrix whose first two columns are the Gram-Schmidt basis of two 3-vectors.

    Args:
        six_d: the first column, then the second; any length. Where they are zero or parallel the result is not a
            rotation, but it and its gradient are finite.

    Returns:
        Rotation matrices.

    Source: Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", 2019, Eq. 15;
        DECISIONS F11.
    """
    first, second = six_d[..., :3], six_d[..., 3:]
    x = first / _safe_norm(first)
    second = second - jnp.sum(x * second, axis=-1, keepdims=True) * x
    y = second / _safe_norm(second)
    return jnp.stack([x, y, jnp.cross(x, y)], axis=-1)


def matrix_to_six_d(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 6"]:
    """First two columns of a rotation matrix, one after the other; the inverse of `six_d_to_matrix`."""
    return jnp.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


@jax.default_matmul_precision("highest")
def compose(outer: Float[Array, "*batch 3"], inner: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Rotation vector of `inner` followed by `outer`, both rotation vectors in radians."""
    return matrix_to_axis_angle(axis_angle_to_matrix(outer) @ axis_angle_to_matrix(inner))


@jax.default_matmul_precision("highest")
def euler_to_matrix(angles: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """Rotation about x, then about the turned y, then about the turned z: Rx(a) Ry(b) Rz(c).

    Args:
        angles: a, b, c in radians.

    Returns:
        Rotation matrices.
    """
    # written out, because the fit differentiates it 62 times a step
    ca, cb, cc = jnp.moveaxis(jnp.cos(angles), -1, 0)
    sa, sb, sc = jnp.moveaxis(jnp.sin(angles), -1, 0)
    rows = [
        [cb * cc, -cb * sc, sb],
        [ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb],
        [sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_euler(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3"]:
    """Angles a, b, c of `euler_to_matrix`.

    Args:
        matrix: rotation matrices.

    Returns:
        Radians, b in [-π/2, π/2]; at the ends of that range only the sum or difference of a and c is defined.
    """
    m = matrix
    cosine = _safe_norm(m[..., 0, :2])[..., 0]
    return jnp.stack(
        [
            jnp.arctan2(-m[..., 1, 2], m[..., 2, 2]),
            jnp.arctan2(m[..., 0, 2], cosine),
            jnp.arctan2(-m[..., 0, 1], m[..., 0, 0]),
        ],
        axis=-1,
    )
