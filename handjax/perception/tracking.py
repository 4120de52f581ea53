"""Hands followed from frame to frame: palms are looked for only where a hand is missing."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from handjax.errors import ConfigError, InputError
from handjax.perception import one_euro
from handjax.perception.detector import TASK_FILE, check_settings
from handjax.perception.flax_backend import HandWeights, find_regions, load_weights, read_hand, to_list
from handjax.perception.hands import DetectedHand
from handjax.perception.landmarks import Hands, drop_duplicates, landmark_region
from handjax.perception.one_euro import FilterState, OneEuro
from handjax.perception.palm import box_overlap
from handjax.perception.regions import Picture, Region, pad_picture

_SAME_HAND = 0.5  # overlap of regions


@flax.struct.dataclass
class Tracks:
    """Hands that are followed, the oldest first.

    Attributes:
      regions: where to read each hand in the next frame.
      identities: a number for each hand, from 0, never given again.
      keypoints: its filter of pixels.
      world: its filter of metres.
      valid: this entry is a hand; entries are padded to a static number.
    """

    regions: Region
    identities: Int[Array, " hands"]
    keypoints: FilterState
    world: FilterState
    valid: Bool[Array, " hands"]


@flax.struct.dataclass
class TrackerState:
    """All that goes from frame to frame: the tracks and how many hands were ever found."""

    tracks: Tracks
    hands_seen: Int[Array, ""]


@flax.struct.dataclass
class TrackedHands:
    """One frame's hands, smoothed, their identities, and whether palms were looked for in this frame."""

    hands: Hands
    identities: Int[Array, " hands"]
    detected: Bool[Array, ""]


@flax.struct.dataclass
class Tracker:
    """Follows hands over a clip's frames.

    `jax.jit(Tracker.step)(tracker, state, frame)` takes one frame, `jax.lax.scan(tracker.step, tracker.start(),
    frames)` a clip; a tracker is a pytree, so the weights stay an argument of the program.

    Attributes:
      weights: both networks.
      max_hands: how many hands to follow at most (static).
      min_score: least score of a palm and least presence of a hand.
      rate: frames a second.
      smoothing: the filter of the landmarks, speeds in hand sizes a second; None leaves them as read.
    """

    weights: HandWeights
    max_hands: int = flax.struct.field(pytree_node=False, default=2)
    min_score: float = 0.5
    rate: float = 30.0
    smoothing: OneEuro | None = OneEuro()

    def start(self) -> TrackerState:
        """The state before the first frame: no hand is followed."""
        return TrackerState(tracks=_no_tracks(self.max_hands), hands_seen=jnp.int32(0))

    def step(self, state: TrackerState, frame: Picture) -> tuple[TrackerState, TrackedHands]:
        """Reads one frame: pure, static shapes.

        Each followed hand is read in the region around its last landmarks. Where fewer than `max_hands` are followed,
        palms are looked for, and those in no followed region become new tracks. A hand whose presence is below
        `min_score`, or that is an older hand once more, is followed no longer.

        Source: MediaPipe's `HandLandmarkerGraph`, `HandAssociationCalculator` and `HandLandmarksToRectCalculator`.
        """
        missing = state.tracks.valid.sum() < self.max_hands
        found = jax.lax.cond(missing, self._find, lambda _: _no_tracks(self.max_hands), frame)
        tracks = _join(state.tracks, found, state.hands_seen)
        hands = jax.vmap(read_hand, in_axes=(None, None, 0, None))(self.weights, frame, tracks.regions, self.min_score)
        hands = drop_duplicates(dataclasses.replace(hands, valid=hands.valid & tracks.valid))
        regions = jax.vmap(landmark_region)(hands.keypoints[..., :2])
        hands_seen = jnp.maximum(state.hands_seen, 1 + jnp.where(hands.valid, tracks.identities, -1).max())
        tracks = dataclasses.replace(tracks, regions=regions, valid=hands.valid)
        if self.smoothing is not None:
            keypoints = _smooth(self.smoothing, tracks.keypoints, hands.keypoints, self.rate)
            world = _smooth(self.smoothing, tracks.world, hands.world, self.rate)
            tracks = dataclasses.replace(tracks, keypoints=keypoints, world=world)
            hands = dataclasses.replace(hands, keypoints=keypoints.value, world=world.value)
        return TrackerState(tracks, hands_seen), TrackedHands(hands, tracks.identities, missing)

    def _find(self, frame: Picture) -> Tracks:
        regions, valid = find_regions(self.weights, frame, self.max_hands, self.min_score)
        return dataclasses.replace(_no_tracks(self.max_hands), regions=regions, valid=valid)


def _smooth(smoothing: OneEuro, state: FilterState, points: Float[Array, "hands 21 3"], rate: float) -> FilterState:
    """Filters points, their speeds in hand sizes a second."""
    size = (points.max(axis=1) - points.min(axis=1)).max(axis=-1)[:, None, None]
    return one_euro.smooth(smoothing, state, points, rate, jnp.maximum(size, jnp.finfo(size.dtype).tiny))


def _no_tracks(number: int) -> Tracks:
    return Tracks(
        regions=Region(center=jnp.zeros((number, 2)), side=jnp.zeros(number), rotation=jnp.zeros(number)),
        identities=jnp.full(number, -1, jnp.int32),
        keypoints=one_euro.start((number, 21, 3)),
        world=one_euro.start((number, 21, 3)),
        valid=jnp.zeros(number, bool),
    )


def _join(tracks: Tracks, found: Tracks, hands_seen: Int[Array, ""]) -> Tracks:
    """Followed hands first, then the new ones, which get the next identities; as many as there were tracks."""
    repeated = (_overlaps(found.regions, tracks.regions) > _SAME_HAND) & tracks.valid
    new = found.valid & ~repeated.any(axis=1)
    numbers = jnp.where(new, hands_seen + jnp.cumsum(new) - 1, -1)
    found = dataclasses.replace(found, valid=new, identities=numbers)
    both = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), tracks, found)
    order = jnp.argsort(~both.valid, stable=True)[: len(tracks.valid)]
    return jax.tree.map(lambda x: x[order], both)


def _overlaps(some: Region, others: Region) -> Float[Array, "some others"]:
    """Intersection over union of the regions as if none were turned."""
    return jax.vmap(box_overlap, in_axes=(None, 0), out_axes=1)(_boxes(some), _boxes(others))


def _boxes(regions: Region) -> Float[Array, "regions 4"]:
    half = regions.side[:, None] / 2
    return jnp.concatenate([regions.center - half, regions.center + half], axis=-1)


_step = jax.jit(Tracker.step)


@dataclasses.dataclass(frozen=True)
class HandTracker:
    """Follows hands in clips of any size."""

    tracker: Tracker

    @classmethod
    def load(
        cls,
        max_hands: int = 2,
        min_score: float = 0.5,
        rate: float = 30.0,
        smoothing: OneEuro | None = Tracker.smoothing,
        task: Path = TASK_FILE,
    ) -> "HandTracker":
        """Loads the two networks.

        Args:
          max_hands: how many hands to follow at most.
          min_score: least score of a palm and least presence of a hand.
          rate: frames a second.
          smoothing: the filter of the landmarks; None leaves them as read.
          task: a MediaPipe `hand_landmarker.task`; the embedded one by default.

        Raises:
          ConfigError: a setting out of its range.
          WeightsError: `task` cannot be read.
        """
        check_settings(max_hands, min_score)
        if not 0.0 < rate < float("inf"):
            raise ConfigError(f"rate is {rate}; it must be frames a second, above 0")
        return cls(Tracker(jax.device_put(load_weights(task)), max_hands, min_score, rate, smoothing))

    def track(
        self, frames: Iterable[UInt8[np.ndarray, "height width 3"]]
    ) -> Iterator[tuple[UInt8[np.ndarray, "height width 3"], dict[int, DetectedHand]]]:
        """Gives each frame with its hands by identity, which is a hand's for as long as it is followed.

        Raises:
          InputError: a frame is not as large as the first.
        """
        state, shape = self.tracker.start(), None
        for frame in frames:
            shape = shape or frame.shape
            if frame.shape != shape:
                raise InputError(
                    f"a frame of {frame.shape[1]}x{frame.shape[0]} in a clip of {shape[1]}x{shape[0]}; "
                    "make all frames equally large"
                )
            state, tracked = _step(self.tracker, state, pad_picture(frame))
            tracked = jax.device_get(tracked)
            identities = tracked.identities[tracked.hands.valid].tolist()
            yield frame, dict(zip(identities, to_list(tracked.hands), strict=True))
