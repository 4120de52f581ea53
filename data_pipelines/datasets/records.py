"""From annotated pictures to hand records: cut out, add what is not annotated, draw."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.datasets.annotation import HandAnnotation, Sample, in_crop, scaled, with_confidence
from data_pipelines.datasets.conditions import HandMesh, hand_meshes
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.found import hand_detector
from data_pipelines.encoding import jpeg, png
from data_pipelines.precompute import CONDITION_SIZES, MAX_FIT_ERROR, Failures
from handjax.conditions.crops import RECORD_CROP_SCALE, box_side, crop_image, hand_box
from handjax.conditions.photo import BATCH
from handjax.errors import InputError
from handjax.hand.describe import describe_hand, with_article
from handjax.hand.draw import draw_skeleton
from handjax.hand.model import HandModel
from handjax.record import HandRecord, Side

MIN_BOX_SIDE = 8.0
"""A hand whose tight box is smaller, in pixels, shows nothing."""


@dataclasses.dataclass(frozen=True)
class _CutHand:
    """An annotated hand in its square, at the picture's resolution and in the square's pixels."""

    sample: Sample
    number: int
    image: UInt8[np.ndarray, "side side 3"]
    hand: HandAnnotation


@dataclasses.dataclass(frozen=True)
class RecordMaker:
    """Makes the records of a data set.

    Attributes:
      facts: of the data set.
      picture: reads the picture of a sample.
      hands: gives the annotated hands of a picture, from it and its height and width.
      failures: receives pictures and hands that give no record.
      mano: the user's MANO models.
      conditions: whether to pose a mesh, for mask, depth and mesh picture; the skeleton is always drawn.
    """

    facts: DatasetFacts
    picture: Callable[[Sample], UInt8[np.ndarray, "height width 3"]]
    hands: Callable[[Sample, tuple[int, int]], Iterable[HandAnnotation]]
    failures: Failures
    mano: Mapping[Side, HandModel]
    conditions: bool = True

    def records(self, samples: Iterable[Sample]) -> Iterator[HandRecord]:
        """Makes the records of all hands in pictures, in batches of equal crops, so not always in their order."""
        waiting: dict[int, list[_CutHand]] = {size: [] for size in CONDITION_SIZES}
        for sample in samples:
            for cut in self._cut_hands(sample):
                size = next((s for s in CONDITION_SIZES if s >= len(cut.image)), CONDITION_SIZES[-1])
                waiting[size].append(cut)
                if len(waiting[size]) == BATCH:
                    yield from self._batch(waiting.pop(size), size)
                    waiting[size] = []
        for size, rest in waiting.items():
            yield from self._batch(rest, size)

    def _cut_hands(self, sample: Sample) -> Iterator[_CutHand]:
        try:
            image = self.picture(sample)
            hands = list(self.hands(sample, (image.shape[0], image.shape[1])))
        except InputError as error:
            self.failures.add(sample.picture, "unreadable", str(error))
            return
        for number, hand in enumerate(hands):
            reason = _unusable(hand, image, self.facts.min_seen)
            if reason:
                self.failures.leave_out(reason)
            else:
                yield _cut_out(sample, number, image, hand)

    def _batch(self, cuts: Sequence[_CutHand], size: int) -> Iterator[HandRecord]:
        if not self.conditions:
            yield from (_record(self.facts, cut, cut.hand.side, None, size) for cut in cuts)
            return
        hands = [scaled(_completed(cut), size / len(cut.image)) for cut in cuts]
        for cut, hand, mesh in zip(cuts, hands, hand_meshes(hands, size, self.mano), strict=True):
            error = _distance(mesh, hand) / box_side(hand.keypoints_2d[hand.placed])
            if error < MAX_FIT_ERROR:
                yield _record(self.facts, cut, hand.side, mesh, size)
            else:
                detail = f"{cut.sample.picture}: hand {cut.number}: the mesh is off by {error:.0%} of the hand's box"
                self.failures.add(cut.sample.picture, "fit failed", detail)


def _unusable(hand: HandAnnotation, image: np.ndarray, min_seen: int) -> str | None:
    """Why a hand gives no record, as a class of failures."""
    height, width = image.shape[:2]
    x, y, confidence = hand.keypoints_2d.T
    seen = (confidence > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if seen.sum() < min_seen:
        return "too few keypoints are seen"
    return "too small" if box_side(hand.keypoints_2d[hand.placed]) < MIN_BOX_SIDE else None


def _cut_out(sample: Sample, number: int, image: np.ndarray, hand: HandAnnotation) -> _CutHand:
    box = hand_box(hand.keypoints_2d[hand.placed], RECORD_CROP_SCALE)
    return _CutHand(sample, number, crop_image(image, box), in_crop(hand, box))


def _completed(cut: _CutHand) -> HandAnnotation:
    """Adds side and shape, which a mesh needs, where they are not annotated, as the landmark network sees them."""
    hand = cut.hand
    if hand.side is not None and hand.keypoints_3d is not None:
        return hand
    points = hand.keypoints_2d[:, :2]
    if hand.placed.all():
        (seen,) = hand_detector().read(cut.image, keypoints=points[None])
    else:
        box = np.concatenate([np.nanmin(points, axis=0), np.nanmax(points, axis=0)])
        (seen,) = hand_detector().read(cut.image, boxes=box[None])
    world = with_confidence(seen.world) if hand.keypoints_3d is None else hand.keypoints_3d
    return dataclasses.replace(hand, side=hand.side or seen.side, keypoints_3d=world)


def _distance(mesh: HandMesh, hand: HandAnnotation) -> float:
    """Mean distance of the mesh's keypoints from the annotated ones, pixels."""
    return float(np.linalg.norm((mesh.keypoints_2d - hand.keypoints_2d[:, :2])[hand.placed], axis=1).mean())


def _record(facts: DatasetFacts, cut: _CutHand, side: Side | None, mesh: HandMesh | None, size: int) -> HandRecord:
    """Encodes one hand; its pictures are drawn at `size`."""
    hand, scale = cut.hand, len(cut.image) / size
    keypoints = _complete(hand.keypoints_2d, None if mesh is None else mesh.keypoints_2d * scale)
    fields: dict[str, Any] = {} if mesh is None else _mesh_fields(mesh, scale)
    if hand.keypoints_3d is not None:
        fields["keypoints_3d"] = _complete(hand.keypoints_3d, None if mesh is None else mesh.keypoints_3d)
    if hand.camera is not None:
        fields["camera"] = hand.camera.astype(np.float32)
    if hand.mask is not None:
        fields["mask"] = png(hand.mask.astype(np.float32))
    drawn = np.asarray(draw_skeleton(keypoints[:, :2] / scale, size, size, hand.placed.astype(np.float32)))
    return HandRecord(
        id=f"{cut.sample.name}#{cut.number}",
        image=jpeg(cut.image),
        keypoints_2d=keypoints,
        side=side,
        skeleton=png(drawn),
        caption=cut.sample.caption or hand.caption or _caption(facts.kind, side, fields.get("keypoints_3d"), mesh),
        source=f"{facts.name}:{cut.sample.name}",
        licence=facts.licence,
        **fields,
    )


def _mesh_fields(mesh: HandMesh, scale: float) -> dict[str, Any]:
    return {
        "hand_model": mesh.name,
        "pose": mesh.parameters.pose,
        "betas": mesh.parameters.betas,
        "translation": mesh.parameters.translation,
        "camera": (mesh.camera * scale).astype(np.float32),
        "mask": png(np.asarray(mesh.pictures.mask)),
        "depth": png(np.asarray(mesh.pictures.depth)),
        "mesh": png(np.asarray(mesh.pictures.mesh)),
    }


def _complete(
    points: Float[np.ndarray, "21 dims_and_one"], model: Float[np.ndarray, "21 dims"] | None
) -> Float[np.ndarray, "21 dims_and_one"]:
    """Gives keypoints of unknown place, which keep confidence 0, that of the mesh; without one, the middle."""
    unknown = ~np.isfinite(points).all(axis=1)
    places, confidence = points[:, :-1], np.where(unknown, 0.0, points[:, -1])
    if unknown.any():
        guess = np.zeros_like(places) if model is None else model
        guess = guess + (places - guess)[~unknown].mean(axis=0)
        places = np.where(unknown[:, None], guess, places)
    return np.column_stack([places, confidence]).astype(np.float32)


def _caption(kind: str, side: Side | None, points: np.ndarray | None, mesh: HandMesh | None) -> str | None:
    """Describes the hand by its 3-D keypoints, annotated or the mesh's."""
    shape = points if points is not None else None if mesh is None else mesh.keypoints_3d
    if shape is None or side is None:
        return None
    return f"a {kind} of {with_article(describe_hand(shape[:, :3], side))}"
