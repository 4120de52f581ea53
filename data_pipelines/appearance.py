"""What training changes beside the window: the photo's colours, a patch over the hand, the keypoints' places.

Small functions of what they change and a source of randomness; those of no strength take nothing from it.
"""

import colorsys
import dataclasses

import numpy as np
from jaxtyping import Bool, Float

# Takes RGB to luma and two axes of colour, in whose plane saturation is a length and hue an angle (NTSC).
_TO_YIQ = np.array([colorsys.rgb_to_yiq(*light) for light in np.eye(3)]).T
_LUMA = _TO_YIQ[0]
_MAX_CELLS = 32


@dataclasses.dataclass(frozen=True)
class Appearance:
    """How far training examples differ from their records; the defaults change nothing.

    Attributes:
      brightness, contrast, saturation: largest change of each factor: at 0.2 it is drawn from [0.8, 1.2].
      hue: largest turn of all colours, in turns.
      occlusion_prob: how often a patch hides part of the hand.
      occlusion_size: least and largest side of the patch in longer sides of the hand's tight box.
      keypoint_noise: standard deviation of the keypoints' places in the same unit.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    occlusion_prob: float = 0.0
    occlusion_size: tuple[float, float] = (0.2, 0.6)
    keypoint_noise: float = 0.0


def change_colors(
    photo: Float[np.ndarray, "height width 3"], appearance: Appearance, rng: np.random.Generator
) -> Float[np.ndarray, "height width 3"]:
    """Changes brightness, contrast, saturation and hue, all at once because all are linear in RGB.

    Args:
      photo: RGB in [-1, 1].
      appearance: the range to draw from.
      rng: source of randomness.

    Returns:
      RGB, cut off at [-1, 1]. Contrast is about the picture's mean luma, which saturation and hue keep.
    """
    strengths = np.array([appearance.brightness, appearance.contrast, appearance.saturation, appearance.hue])
    if not strengths.any():
        return photo
    *factors, turn = rng.uniform(-1, 1, 4) * strengths
    brightness, contrast, saturation = 1.0 + np.array(factors)
    matrix = contrast * brightness * _color_turn(saturation, turn)
    mean = brightness * (_LUMA @ photo.mean(axis=0).mean(axis=0) + 1)  # twice that of [0, 1]
    offset = contrast * brightness - 1 + (1 - contrast) * mean
    changed = photo @ matrix.T.astype(np.float32)  # a product a row, too small for threads that wait on one another
    changed += np.float32(offset)
    return np.clip(changed, -1, 1, out=changed)


def _color_turn(saturation: float, turns: float) -> Float[np.ndarray, "3 3"]:
    """The matrix that turns and stretches colours about grey."""
    cosine, sine = saturation * np.cos(2 * np.pi * turns), saturation * np.sin(2 * np.pi * turns)
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ


@dataclasses.dataclass(frozen=True)
class Patch:
    """An opaque rectangle over a picture.

    Attributes:
      to_patch: takes (x, y, 1) of the picture, pixels, to the patch, whose inside is [0, 1]².
      texture: its colours, RGB in [-1, 1], one a cell.
    """

    to_patch: Float[np.ndarray, "2 3"]
    texture: Float[np.ndarray, "cells cells 3"]

    def covers(self, points: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Says which points of the picture, pixels, it hides."""
        places = points @ self.to_patch[:, :2].T + self.to_patch[:, 2]
        return ((places >= 0) & (places < 1)).all(axis=-1)

    def paint(self, photo: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width 3"]:
        """Lays it over a picture; the picture itself is not changed."""
        x, y = np.arange(photo.shape[1]) + 0.5, np.arange(photo.shape[0])[:, None] + 0.5
        u, v = (along[0] * x + along[1] * y + along[2] for along in self.to_patch)
        inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        cells = len(self.texture)
        painted = photo.copy()
        painted[inside] = self.texture[(v[inside] * cells).astype(int), (u[inside] * cells).astype(int)]
        return painted


def draw_patch(
    places: Float[np.ndarray, "n 2"], hand_side: float, appearance: Appearance, rng: np.random.Generator
) -> Patch | None:
    """Draws a patch over part of a hand: its middle, sides, angle, colour and the noise on it.

    Args:
      places: pixels, one of which will be the patch's middle.
      hand_side: longer side of the hand's tight box, pixels.
      appearance: the range to draw from.
      rng: source of randomness.

    Returns:
      The patch; None where nothing hides the hand.
    """
    if not appearance.occlusion_prob or rng.random() >= appearance.occlusion_prob:
        return None
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    sides = rng.uniform(*appearance.occlusion_size, 2) * hand_side
    turn = turn / sides[:, None]
    color, noise = rng.uniform(-1, 1, 3), rng.uniform(0, 1)
    cells = rng.integers(1, _MAX_CELLS, endpoint=True)
    texture = np.clip(color + noise * rng.uniform(-1, 1, (cells, cells, 3)), -1, 1).astype(np.float32)
    return Patch(np.column_stack([turn, 0.5 - turn @ rng.choice(places)]), texture)


def move_keypoints(
    keypoints: Float[np.ndarray, "points 2"], hand_side: float, noise: float, rng: np.random.Generator
) -> Float[np.ndarray, "points 2"]:
    """Adds normal noise to keypoints.

    Args:
      keypoints: pixels.
      hand_side: longer side of the hand's tight box, pixels.
      noise: standard deviation of x and y in that unit.
      rng: source of randomness.
    """
    if not noise:
        return keypoints
    return (keypoints + rng.normal(0, noise * hand_side, keypoints.shape)).astype(np.float32)
