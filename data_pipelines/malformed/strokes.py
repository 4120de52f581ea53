"""Fingers drawn again along other courses: a finger is a strip of picture along a line, and lines can be bent."""

import dataclasses

import numpy as np
from jaxtyping import Float

from data_pipelines.malformed.photo_hand import CANVAS, REACH, PhotoHand, distance_to, grown

_OUTLINE = 1.9
"""How far from its course a finger's own outline lies at most, in half widths."""


@dataclasses.dataclass(frozen=True)
class Stroke:
    """One finger along a course.

    Attributes:
      finger: whose picture it is.
      course: points that it runs along now, evenly numbered as those of `PhotoHand.courses`, pixels.
      source: place along its own course that each point shows, in points.
      width: at each point, in its own widths.
    """

    finger: int
    course: Float[np.ndarray, "points 2"]
    source: Float[np.ndarray, " points"]
    width: Float[np.ndarray, " points"]


def own_stroke(hand: PhotoHand, finger: int) -> Stroke:
    """The stroke that draws a finger where and as it is."""
    count = len(hand.courses[finger])
    return Stroke(finger, hand.courses[finger], np.arange(count, dtype=np.float32), np.ones(count, np.float32))


def place(hand: PhotoHand, finger: int, joint: int, share: float = 0.0) -> int:
    """Point of a finger's course at a joint (0 the knuckle, 3 the tip), or a share of a bone beyond it."""
    knots = hand.knots[finger]
    along = knots[joint] + share * (knots[min(joint + 1, 3)] - knots[joint])
    step = (knots[3] + 1.5 * hand.half_width) / (len(hand.courses[finger]) - 1)
    return int(round(along / step))


def bent(stroke: Stroke, at: int, angle: float, softness: int = 5) -> Stroke:
    """Turns a stroke from the point `at` on by an angle, radians, over about `softness` points."""
    steps = np.diff(stroke.course, axis=0)
    turns = angle * np.clip((np.arange(len(steps)) - at) / softness + 0.5, 0.0, 1.0)
    return dataclasses.replace(stroke, course=_walk(stroke.course[0], _turned(steps, turns)))


def stretched(stroke: Stroke, start: int, factor: float) -> Stroke:
    """Makes a stroke longer or shorter from the point `start` on."""
    steps = np.diff(stroke.course, axis=0)
    grow = np.where(np.arange(len(steps)) >= start, factor, 1.0)
    return dataclasses.replace(stroke, course=_walk(stroke.course[0], steps * grow[:, None]))


def widened(stroke: Stroke, start: int, factor: float) -> Stroke:
    """Makes a stroke wider or thinner from the point `start` on."""
    ramp = np.clip((np.arange(len(stroke.width)) - start) / 8.0 + 0.5, 0.0, 1.0)
    return dataclasses.replace(stroke, width=(stroke.width * (1 + (factor - 1) * ramp)).astype(np.float32))


def moved(stroke: Stroke, shift: Float[np.ndarray, "2"], angle: float) -> Stroke:
    """Moves a stroke by pixels and turns it about its first point."""
    steps = np.diff(stroke.course, axis=0)
    return dataclasses.replace(
        stroke, course=_walk(stroke.course[0] + shift, _turned(steps, np.full(len(steps), angle)))
    )


def shortcut(stroke: Stroke, first: int, last: int) -> Stroke:
    """Leaves out the points from `first` to `last`."""
    keep = np.r_[0:first, last : len(stroke.course)]
    steps = np.diff(stroke.course, axis=0, append=stroke.course[-1:])[keep][:-1]
    return Stroke(stroke.finger, _walk(stroke.course[0], steps), stroke.source[keep], stroke.width[keep])


def draw(hand: PhotoHand, stroke: Stroke, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a finger along a stroke.

    Args:
      hand: whose finger it is.
      stroke: where to.
      start: point of the finger's own course from which it is drawn.

    Returns:
      Colours, and the share of the finger in each pixel.
    """
    reach = float(_OUTLINE * hand.half_width * stroke.width.max() + 2)
    distance, index = distance_to(stroke.course, reach)
    rows, columns = np.nonzero((distance < reach) & (index > 0) & (index < len(stroke.course) - 1))
    index = index[rows, columns]
    at = np.stack([columns, rows], axis=1) + 0.5
    along, across = _coordinates(stroke.course, index, at)
    own = np.clip(index + along, 0, len(stroke.source) - 1)
    source = np.interp(own, np.arange(len(stroke.source)), stroke.source)
    offset = across / np.interp(own, np.arange(len(stroke.width)), stroke.width)
    course = hand.courses[stroke.finger]
    number = np.arange(len(course))
    line = np.stack([np.interp(source, number, course[:, k]) for k in range(2)], axis=1)
    tangents = np.gradient(course, axis=0)
    tangent = np.stack([np.interp(source, number, tangents[:, k]) for k in range(2)], axis=1)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-6)
    points = line + offset[:, None] * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    layer = np.dstack([hand.image, hand.skin * belongs(hand, stroke.finger)])
    samples = _sample(layer, points)
    inside = np.clip(_OUTLINE * hand.half_width - np.abs(offset), 0, 1) * np.clip((source - start) / 3.0 + 0.5, 0, 1)
    colors, alpha = np.zeros((CANVAS, CANVAS, 3), np.float32), np.zeros((CANVAS, CANVAS), np.float32)
    colors[rows, columns] = samples[:, :3]
    alpha[rows, columns] = samples[:, 3] * inside
    return colors, alpha


def belongs(hand: PhotoHand, finger: int) -> np.ndarray:
    """1 in the pixels that are nearest to a finger and near to it."""
    near = (hand.distance[finger] <= hand.distance.min(axis=0)) & (hand.distance[finger] < REACH * hand.half_width)
    return near.astype(np.float32)


def without(hand: PhotoHand, image: np.ndarray, finger: int, start: int) -> np.ndarray:
    """Paints what is behind the hand over a finger, from the point `start` of its course on, round at its end."""
    course = hand.courses[finger]
    rows, columns = np.nonzero(belongs(hand, finger))
    index = hand.index[finger][rows, columns]
    along, across = _coordinates(course, index, np.stack([columns, rows], axis=1) + 0.5)
    step = np.linalg.norm(course[1] - course[0])
    round_end = np.sqrt(np.clip(1 - (across / (1.3 * hand.half_width)) ** 2, 0, 1)) * 0.6 * hand.half_width / step
    gone = np.zeros((CANVAS, CANVAS), np.float32)
    gone[rows, columns] = np.clip((index + along - start - round_end) * step / 2.0 + 0.5, 0, 1)
    return over(image, hand.plate, gone * grown(hand.skin, 3))


def over(image: np.ndarray, colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Puts a layer over a picture."""
    return image + alpha[..., None] * (colors - image)


def _coordinates(course, index, at) -> tuple[np.ndarray, np.ndarray]:
    """Places along a course beyond its points `index`, in points, and across it, in pixels."""
    tangents = np.gradient(course, axis=0)[index]
    length = np.maximum(np.linalg.norm(tangents, axis=1), 1e-6)
    away = at - course[index]
    along = (away * tangents).sum(axis=1) / length**2
    across = (away[:, 1] * tangents[:, 0] - away[:, 0] * tangents[:, 1]) / length
    return np.clip(along, -0.7, 0.7), across


def _turned(steps, angles) -> np.ndarray:
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([cos * steps[:, 0] - sin * steps[:, 1], sin * steps[:, 0] + cos * steps[:, 1]], axis=1)


def _walk(start, steps) -> np.ndarray:
    return np.concatenate([start[None], start + np.cumsum(steps, axis=0)]).astype(np.float32)


def _sample(layer, points) -> np.ndarray:
    """Bilinear samples at pixel coordinates."""
    x, y = (np.clip(points[:, k] - 0.5, 0, CANVAS - 1.001) for k in range(2))
    column, row = x.astype(int), y.astype(int)
    u, v = (x - column)[:, None], (y - row)[:, None]
    top = layer[row, column] * (1 - u) + layer[row, column + 1] * u
    bottom = layer[row + 1, column] * (1 - u) + layer[row + 1, column + 1] * u
    return top * (1 - v) + bottom * v
