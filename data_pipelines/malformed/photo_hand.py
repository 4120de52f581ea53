"""A photographed hand taken apart for editing: its skin, what is behind it, and the course of each finger."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageFilter

from handjax.conditions.crops import crop_image, hand_box
from handjax.perception import DetectedHand

CANVAS = 256
"""Side of the square that a hand is edited in, pixels."""
CANVAS_SCALE = 2.1
"""Side of the same square in longer sides of the hand's tight box."""
POINTS = 64
"""Of a finger's course."""
REACH = 2.5
"""How far from its course anything of a finger lies at most, in half widths."""
_PALM_WIDTHS = 0.115
"""Half the width of a finger, in lengths of the palm (wrist to middle knuckle)."""
_STRAIGHT = 0.96
_LEAST_LENGTH = 0.5
_MOST_ROUGHNESS = 12.0
"""Root mean square of a plain background about its own smooth part, in 255ths."""


@dataclasses.dataclass(frozen=True)
class PhotoHand:
    """One hand in its canvas; colours are floats from 0 to 255.

    Attributes:
      image: the canvas.
      plate: the same without the hand.
      skin: share of the hand in each pixel.
      halo: the same with the shadow around it.
      keypoints: of the hand, pixels.
      courses: of each finger: points from its knuckle to beyond the tip, evenly spaced, pixels.
      knots: distance along its course of each finger's four keypoints, pixels.
      half_width: of the fingers, pixels.
      distance: from each finger's course in each pixel near it, else infinite.
      index: number of the course's nearest point.
      free: whether each finger is straight, in the plane of the picture and before the background.
    """

    image: Float[np.ndarray, "size size 3"]
    plate: Float[np.ndarray, "size size 3"]
    skin: Float[np.ndarray, "size size"]
    halo: Float[np.ndarray, "size size"]
    keypoints: Float[np.ndarray, "21 2"]
    courses: Float[np.ndarray, "5 points 2"]
    knots: Float[np.ndarray, "5 4"]
    half_width: float
    distance: Float[np.ndarray, "5 size size"]
    index: Int[np.ndarray, "5 size size"]
    free: Bool[np.ndarray, "5"]


def take_apart(photo: UInt8[np.ndarray, "height width 3"], hand: DetectedHand) -> PhotoHand | None:
    """Cuts a hand out and finds its parts; None where what is behind it is not plain."""
    box = hand_box(hand.keypoints, CANVAS_SCALE)
    scale = CANVAS / (box[2] - box[0])
    image = crop_image(photo, box, CANVAS).astype(np.float32)
    keypoints = ((hand.keypoints[:, :2] - box[:2]) * scale).astype(np.float32)
    palm = float(np.linalg.norm(keypoints[9] - keypoints[0]))
    half_width = _PALM_WIDTHS * palm
    plate, skin, roughness = _separate(image, keypoints, half_width)
    if roughness > _MOST_ROUGHNESS:
        return None
    chains = keypoints[1:].reshape(5, 4, 2)
    courses, knots = zip(*(_course(chain, half_width) for chain in chains), strict=True)
    distance, index = zip(*(distance_to(course, REACH * half_width + 4) for course in courses), strict=True)
    return PhotoHand(
        image=image,
        plate=plate,
        skin=skin,
        halo=grown(skin, 3),
        keypoints=keypoints,
        courses=np.stack(courses),
        knots=np.stack(knots),
        half_width=half_width,
        distance=np.stack(distance),
        index=np.stack(index),
        free=np.array([_is_free(chain, skin, half_width, palm) for chain in chains]),
    )


def fill(image: Float[np.ndarray, "size size 3"], known: Float[np.ndarray, "size size"]) -> np.ndarray:
    """Continues what is known smoothly into what is not.

    Source: Gortler, Grzeszczuk, Szeliski and Cohen, "The Lumigraph", 1996 (pull and push).
    """
    if len(image) == 1:
        return image / np.maximum(known, 1e-6)[..., None]
    odd = len(image) % 2
    colors = np.pad(image * known[..., None], ((0, odd), (0, odd), (0, 0)))
    weights = np.pad(known, ((0, odd), (0, odd)))
    half = len(colors) // 2
    total = weights.reshape(half, 2, half, 2).sum(axis=(1, 3))
    mean = colors.reshape(half, 2, half, 2, 3).sum(axis=(1, 3)) / np.maximum(total, 1e-6)[..., None]
    coarse = fill(mean, np.minimum(total, 1.0))
    channels = [Image.fromarray(coarse[..., c].astype(np.float32)) for c in range(3)]
    size = (len(colors), len(colors))
    smooth = np.stack([np.asarray(c.resize(size, Image.Resampling.BILINEAR)) for c in channels], axis=-1)
    smooth = smooth[: len(image), : len(image)]
    return smooth + known[..., None] * (image - smooth)


def distance_to(points: Float[np.ndarray, "points 2"], reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each pixel of the canvas to the nearest of some points, and the number of that point.

    Args:
      points: pixels.
      reach: distance from which on it need not be known; there it is infinite or right.
    """
    low = np.clip(points.min(axis=0) - reach, 0, CANVAS - 1).astype(int)
    high = np.clip(points.max(axis=0) + reach, 0, CANVAS - 1).astype(int) + 1
    x, y = (np.arange(low[k], high[k], dtype=np.float32) + 0.5 for k in range(2))
    squared = (x[None, :, None] - points[:, 0]) ** 2 + (y[:, None, None] - points[:, 1]) ** 2
    near = squared.argmin(axis=-1)
    distance, index = np.full((CANVAS, CANVAS), np.inf, np.float32), np.zeros((CANVAS, CANVAS), int)
    window = slice(low[1], high[1]), slice(low[0], high[0])
    distance[window] = np.sqrt(np.take_along_axis(squared, near[..., None], axis=-1)[..., 0])
    index[window] = near
    return distance, index


def _distance_to_bones(keypoints: Float[np.ndarray, "21 2"]) -> Float[np.ndarray, "size size"]:
    x, y = np.meshgrid(*[np.arange(CANVAS, dtype=np.float32) + 0.5] * 2)
    nearest = np.full((CANVAS, CANVAS), np.inf, np.float32)
    for first, last in _BONES:
        (x0, y0), (dx, dy) = keypoints[first], keypoints[last] - keypoints[first]
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
        nearest = np.minimum(nearest, (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2)
    return np.sqrt(nearest)


def grown(mask: Float[np.ndarray, "size size"], pixels: int) -> Float[np.ndarray, "size size"]:
    """Spreads the greatest values over squares of 2 · pixels + 1."""
    picture = Image.fromarray(np.round(mask * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * pixels + 1)), np.float32) / 255


def _separate(image, keypoints, half_width) -> tuple[np.ndarray, np.ndarray, float]:
    """What is behind the hand, the share of the hand, and how rough what is behind it is."""
    distance = _distance_to_bones(keypoints)
    redness = image[..., 0] - image[..., 2]
    on, off = np.median(redness[distance < 0.4 * half_width]), np.median(redness[distance > 4 * half_width])
    likely = np.clip((redness - off) / max(on - off, 1.0) * 3.0 - 0.9, 0.0, 1.0)
    inside = np.maximum(likely, distance < 0.8 * half_width)
    behind = 1.0 - grown(inside, 5)
    plate = fill(image, behind)
    apart = np.abs(image - plate) @ np.array([0.4, 0.2, 0.4], np.float32)
    skin = np.maximum(np.clip((apart - 14.0) / 16.0, 0, 1) * (distance < 5 * half_width), likely)
    fine = (image - _softened(image))[behind > 0.99]
    return plate, skin, float(np.sqrt((fine**2).mean())) if fine.size else np.inf


def _softened(image: Float[np.ndarray, "size size 3"]) -> Float[np.ndarray, "size size 3"]:
    picture = Image.fromarray(np.round(image).clip(0, 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(6)), np.float32)


def _course(chain: Float[np.ndarray, "4 2"], half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced points along a finger to beyond its outline, and where its keypoints lie along them."""
    steps = np.linalg.norm(np.diff(chain, axis=0), axis=1)
    knots = np.concatenate([[0.0], np.cumsum(steps)])
    end = chain[3] + (chain[3] - chain[2]) / max(steps[2], 1e-6) * 1.5 * half_width
    places = np.linspace(0.0, knots[3] + 1.5 * half_width, POINTS)
    given = np.append(knots, places[-1])
    points = np.stack([np.interp(places, given, np.append(chain[:, k], end[k])) for k in range(2)], axis=1)
    padded = np.pad(points, ((6, 6), (0, 0)), mode="reflect", reflect_type="odd")
    smooth = np.stack([padded[k : k + POINTS] for k in range(13)]).sum(axis=0) / 13
    return smooth.astype(np.float32), knots.astype(np.float32)


def _is_free(chain, skin, half_width: float, palm: float) -> bool:
    length = np.linalg.norm(np.diff(chain, axis=0), axis=1).sum()
    span = np.linalg.norm(chain[3] - chain[0])
    beyond = chain[3] + (chain[3] - chain[2]) / max(np.linalg.norm(chain[3] - chain[2]), 1e-6) * 1.7 * half_width
    column, row = np.clip(beyond.astype(int), 0, CANVAS - 1)
    column0, row0 = np.clip(chain[3].astype(int), 0, CANVAS - 1)
    return bool(span > max(_STRAIGHT * length, _LEAST_LENGTH * palm) and skin[row, column] < 0.4 < skin[row0, column0])


_BONES = [(0, 1), (0, 5), (0, 9), (0, 13), (0, 17), (5, 9), (9, 13), (13, 17), (1, 5)] + [
    (4 * f + k, 4 * f + k + 1) for f in range(5) for k in (1, 2, 3)
]
