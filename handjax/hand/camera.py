"""Pinhole and weak-perspective cameras. Axes as OpenCV: x right, y down, z forward; the centre of the first
pixel is at (0.5, 0.5), so that resizing an image multiplies pixel coordinates and nothing else."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

# A hand of 0.18 m that fills half the picture then stands 0.72 m away: about arm's length.
DEFAULT_FOCAL_RATIO = 2.0


@struct.dataclass
class PinholeCamera:
    """A camera without distortion at the origin of camera space.

    Args:
        focal: focal lengths (x, y) in pixels.
        center: principal point (x, y) in pixels.
    """

    focal: Float[Array, "*batch 2"]
    center: Float[Array, "*batch 2"]


@struct.dataclass
class WeakPerspectiveCamera:
    """A camera that scales x and y and ignores depth.

    Args:
        scale: pixels per metre.
        translation: pixel (x, y) of the origin of space.
    """

    scale: Float[Array, "*batch"]
    translation: Float[Array, "*batch 2"]


def default_camera(height: int, width: int) -> PinholeCamera:
    """Gives the camera assumed for an image of unknown optics.

    Args:
        height: image height in pixels.
        width: image width in pixels.

    Returns:
        A camera centred in the image whose focal length is DEFAULT_FOCAL_RATIO times the longer side.
    """
    focal = DEFAULT_FOCAL_RATIO * max(height, width)
    return PinholeCamera(
        focal=jnp.array([focal, focal], jnp.float32), center=jnp.array([width / 2, height / 2], jnp.float32)
    )


def project(camera: PinholeCamera, points: Float[Array, "*points 3"]) -> Float[Array, "*points 2"]:
    """Projects points of camera space to pixels.

    Args:
        camera: one pinhole camera.
        points: camera space, metres, z > 0.

    Returns:
        Pixel coordinates (x, y).
    """
    return camera.focal * points[..., :2] / points[..., 2:] + camera.center


def unproject(
    camera: PinholeCamera, pixels: Float[Array, "*points 2"], depth: Float[Array, "*points"]
) -> Float[Array, "*points 3"]:
    """Lifts pixels of known depth to camera space, the inverse of `project`.

    Args:
        camera: one pinhole camera.
        pixels: pixel coordinates (x, y).
        depth: z of each point, metres.

    Returns:
        Points in camera space, metres.
    """
    rays = (pixels - camera.center) / camera.focal
    return jnp.concatenate([rays * depth[..., None], depth[..., None]], axis=-1)


def project_weak(camera: WeakPerspectiveCamera, points: Float[Array, "*points 3"]) -> Float[Array, "*points 2"]:
    """Projects points to pixels by scale and shift.

    Args:
        camera: one weak-perspective camera.
        points: metres.

    Returns:
        Pixel coordinates (x, y).
    """
    return camera.scale * points[..., :2] + camera.translation


def weak_to_translation(weak: WeakPerspectiveCamera, camera: PinholeCamera) -> Float[Array, "3"]:
    """Finds where a pinhole camera has to see an object so that it looks as the weak camera shows it.

    Args:
        weak: pixels per metre and pixel of the object's origin.
        camera: the pinhole camera.

    Returns:
        Position of the object's origin in camera space, metres.
    """
    depth = jnp.mean(camera.focal) / weak.scale
    return unproject(camera, weak.translation, depth)


def crop_camera(camera: PinholeCamera, box: Float[Array, "4"], size: tuple[int, int]) -> PinholeCamera:
    """Gives the camera of an image cut to a box and resized.

    Args:
        camera: camera of the whole image.
        box: x0, y0, x1, y1 in pixels of the whole image; it may reach outside.
        size: height and width of the resized crop in pixels.

    Returns:
        The camera that sees the same points at the crop's pixels.
    """
    scale = jnp.array([size[1], size[0]], jnp.float32) / (box[2:] - box[:2])
    return PinholeCamera(focal=camera.focal * scale, center=(camera.center - box[:2]) * scale)
