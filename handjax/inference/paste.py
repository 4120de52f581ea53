"""A repaired crop goes back into its picture: colours matched, seam feathered, all other bytes untouched."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageFilter

from handjax.images import resize

FEATHER_SHARE = 0.06
"""Width of the seam as a share of the crop's side; it lies wholly inside the mask."""


def paste_back(
    image: UInt8[np.ndarray, "height width 3"],
    repaired: UInt8[np.ndarray, "size size 3"],
    mask: Float[np.ndarray, "size size"],
    box: Int[np.ndarray, "4"],
) -> tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """Blends a repaired square crop into the picture it came from.

    Args:
      image: the picture; not changed.
      repaired: the crop at the model's size.
      mask: what was to be repaired, {0, 1}.
      box: the crop's square in the picture (x0, y0, x1, y1), whole pixels; it may leave the picture.

    Returns:
      The new picture, and where it may differ from the old one. Everywhere else it equals it byte for byte.

    Source: DECISIONS B2, B6.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (int(edge) for edge in box)
    side = x1 - x0
    inside = (slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width)))
    of_crop = (slice(inside[0].start - y0, inside[0].stop - y0), slice(inside[1].start - x0, inside[1].stop - x0))

    native = resize(repaired, (side, side))[of_crop].astype(np.float32)
    masked = np.asarray(
        Image.fromarray((mask > 0.5).astype(np.uint8) * 255).resize((side, side), Image.Resampling.NEAREST)
    )
    alpha = feather(masked > 0, FEATHER_SHARE * side)[of_crop]
    original = image[inside].astype(np.float32)
    native = native + colour_shift(original, native, alpha > 0)
    blended = np.rint(original + alpha[..., None] * (native - original)).clip(0, 255).astype(np.uint8)

    result = image.copy()
    result[inside] = np.where(alpha[..., None] > 0, blended, image[inside])
    changed = np.zeros((height, width), bool)
    changed[inside] = alpha > 0
    return result, changed


def feather(mask: Bool[np.ndarray, "height width"], radius: float) -> Float[np.ndarray, "height width"]:
    """Blending weights that rise from 0 at the mask's edge to 1 inside it and are 0 outside.

    The picture's border is no edge: a mask that touches it stays at full weight there.
    """
    pad = int(np.ceil(3 * radius)) + 1
    grey = Image.fromarray(np.pad(mask, pad, mode="edge").astype(np.uint8) * 255)
    blurred = np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), np.float32)[pad:-pad, pad:-pad] / 255
    return np.clip(2 * blurred - 1, 0, 1) * mask


def colour_shift(
    original: Float[np.ndarray, "height width 3"],
    repaired: Float[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
) -> Float[np.ndarray, " 3"]:
    """The mean difference outside the mask, where both show the same scene: the tint that the decoder adds.

    Zero where everything is masked.
    """
    if mask.all():
        return np.zeros(3, np.float32)
    return (original[~mask] - repaired[~mask]).mean(axis=0)
