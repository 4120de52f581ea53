"""SGMHand's training losses as (sum, weight) pairs."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Term = tuple[Float[Array, ""], Float[Array, ""]]
DISC_SHARE_OF_BOX = 0.03
MIN_DISC_CELLS = 0.5


def masked_mse(
    predicted: Float[Array, "batch height width c"],
    noise: Float[Array, "batch height width c"],
    mask: Float[Array, "batch height width 1"],
) -> Term:
    """Squared error of the predicted noise inside the mask, mean per sample over its |M| cells and channels.

    Args:
        predicted: the UNet's output.
        noise: the noise that was added.
        mask: {0, 1} at latent resolution.

    Returns:
        Sum over the samples, and their number.

    Source:
        SGMHand Eq. 11, DECISIONS A6.
    """
    squared = jnp.square(predicted.astype(jnp.float32) - noise) * mask
    cells = jnp.maximum(mask.sum(axis=(1, 2, 3)), 1.0)
    per_sample = squared.sum(axis=(1, 2, 3)) / (cells * predicted.shape[-1])
    return per_sample.sum(), jnp.float32(len(per_sample))


def keypoint_mask(
    keypoints: Float[Array, "batch 21 2"],
    box_side: Float[Array, " batch"],
    image_size: int,
    map_size: int,
) -> Float[Array, "batch map_size map_size"]:
    """Discs around the keypoints at the resolution of the attention map.

    Args:
        keypoints: pixels (x, y).
        box_side: longer side of the tight box of the keypoints, pixels.
        image_size: side of the picture in pixels.
        map_size: side of the map in cells.

    Returns:
        1 in cells whose centre is in a disc or that hold a keypoint (a disc of half a cell can miss all centres).

    Source:
        M^pose of SGMHand Eq. 10, DECISIONS A5.
    """
    cells_per_pixel = map_size / image_size
    radius = jnp.maximum(MIN_DISC_CELLS, DISC_SHARE_OF_BOX * box_side * cells_per_pixel)
    centres = jnp.arange(map_size) + 0.5
    x, y = jnp.moveaxis(keypoints * cells_per_pixel, -1, 0)[..., None, None]
    dx, dy = jnp.abs(centres - x), jnp.abs(centres[:, None] - y)
    in_disc = dx**2 + dy**2 <= radius[:, None, None, None] ** 2
    in_cell = jnp.maximum(dx, dy) <= 0.5
    return (in_disc | in_cell).any(axis=1).astype(jnp.float32)


def keypoint_aware_loss(
    attention_map: Float[Array, "batch height width"],
    keypoint_mask: Float[Array, "batch height width"],
    valid: Bool[Array, " batch"],
    reduction: Literal["mean", "sum"] = "mean",
) -> Term:
    """Squared distance of the attention map from the keypoint mask.

    Args:
        attention_map: A, maximum 1.
        keypoint_mask: M^pose.
        valid: False where a sample has no keypoints; it does not count.
        reduction: over the pixels of a map; "sum" is Eq. 10 to the letter.

    Returns:
        Sum over the valid samples, and their number.

    Source:
        SGMHand Eq. 10, DECISIONS A4, A5.
    """
    squared = jnp.square(attention_map - keypoint_mask)
    per_sample = squared.mean(axis=(1, 2)) if reduction == "mean" else squared.sum(axis=(1, 2))
    valid = valid.astype(jnp.float32)
    return (per_sample * valid).sum(), valid.sum()
