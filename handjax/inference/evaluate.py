"""Does a repaired hand look like a hand, and has it the pose it was asked for? Figures on held-out pictures."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from handjax.inference.refine import Refiner
from handjax.metrics.intervals import bootstrap_mean_interval, wilson_interval
from handjax.perception import HandDetector

Batch = Mapping[str, np.ndarray]
SHEET_BATCHES = 2
"""So many batches are shown in the sheet."""


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What the detector sees in one painted picture.

    Attributes:
      found: whether there is a hand.
      error: mean keypoint distance from the condition, share of the box; NaN where no hand is found.
    """

    found: bool
    error: float


def judge(
    detector: HandDetector,
    picture: UInt8[np.ndarray, "size size 3"],
    keypoints: Float[np.ndarray, "21 2"],
    box_side: float,
) -> Judgement:
    """Compares the hand found closest to the condition with the condition's keypoints."""
    errors = [
        float(np.linalg.norm(hand.keypoints[:, :2] - keypoints, axis=1).mean()) / float(box_side)
        for hand in detector.detect(picture)
    ]
    return Judgement(bool(errors), min(errors, default=float("nan")))


def evaluate_inpainting(
    refiner: Refiner,
    batches: Iterable[Batch],
    limit: int,
    seed: int = 0,
    on_batch: Callable[[int], Any] = lambda n: None,
) -> tuple[dict[str, Any], UInt8[np.ndarray, "sheet_height sheet_width 3"]]:
    """Repaints held-out hands with their conditions and with zeroed ones, from the same noise.

    Args:
      refiner: the model under test; its detector judges.
      batches: of the "eval" split, with the fields of the SGM task.
      limit: number of pictures.
      seed: of the noise.
      on_batch: told the number of pictures done.

    Returns:
      Figures with 95 % intervals for the real pictures, for what the conditions give and for what zeroed conditions
      give; and a sheet of the first pictures: input, hidden, depth, skeleton, with conditions, without.
    """
    judged: dict[str, list[Judgement]] = {"photograph": [], "conditioned": [], "zeroed": []}
    rows: list[np.ndarray] = []
    for number, batch in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(seed), number)
        pictures = painted_variants(refiner, batch, key)
        for name, variant in pictures.items():
            judged[name] += [
                judge(refiner.detector, picture, batch["keypoints"][i], batch["box_side"][i])
                for i, picture in enumerate(variant)
            ]
        if number < SHEET_BATCHES:
            rows += sheet_rows(batch, pictures)
        on_batch(min(limit, len(judged["photograph"])))
        if len(judged["photograph"]) >= limit:
            break
    return {name: figures(results[:limit]) for name, results in judged.items()}, np.concatenate(rows)


def painted_variants(refiner: Refiner, batch: Batch, key: jax.Array) -> dict[str, UInt8[np.ndarray, "batch s s 3"]]:
    """The pictures to judge: the photographs, painted with the conditions, painted with zeros."""
    depth, skeleton = batch["depth"], batch["skeleton"]
    inputs = (batch["image"], batch["mask"])
    ids = batch["input_ids"]
    return {
        "photograph": to_bytes(batch["image"]),
        "conditioned": refiner.paint(*inputs, depth, skeleton, ids, key),
        "zeroed": refiner.paint(*inputs, np.zeros_like(depth), np.zeros_like(skeleton), ids, key),
    }


def figures(results: list[Judgement]) -> dict[str, Any]:
    """Detection rate with its Wilson interval; mean keypoint error of the found ones with its bootstrap interval."""
    errors = np.array([result.error for result in results if result.found])
    rate: dict[str, Any] = {
        "found": len(errors),
        "pictures": len(results),
        "detection_rate": len(errors) / len(results),
    }
    rate["detection_rate_95"] = wilson_interval(len(errors), len(results))
    if not len(errors):
        return rate | {"keypoint_error": None, "keypoint_error_95": None}
    return rate | {"keypoint_error": float(errors.mean()), "keypoint_error_95": bootstrap_mean_interval(errors)}


def sheet_rows(batch: Batch, pictures: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """One row an example for people to look at."""
    hidden = np.where(batch["mask"] > 0.5, 0.0, batch["image"])
    rows = []
    for i in range(len(hidden)):
        depth = np.repeat(batch["depth"][i], 3, axis=-1) * 2 - 1
        columns = (batch["image"][i], hidden[i], depth, batch["skeleton"][i] * 2 - 1)
        painted = [pictures[name][i] for name in ("conditioned", "zeroed")]
        rows.append(np.concatenate([*map(to_bytes, columns), *painted], axis=1))
    return rows


def to_bytes(image: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Brings pictures from [-1, 1] to bytes."""
    return np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
