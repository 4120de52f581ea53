"""Does a repaired hand look like a hand, and has it the pose it was asked for? Figures on held-out pictures."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray, UInt8

from handjax.diffusion.inpainting import hide
from handjax.inference.handrefiner import HandRefiner
from handjax.inference.refine import MAX_KEYPOINT_ERROR, Attempt, Refiner, closest_hand
from handjax.metrics.intervals import bootstrap_mean_interval, wilson_interval
from handjax.perception.margin import add_margin, origin
from handjax.preview import from_model_range, sheet

Batch = Mapping[str, np.ndarray]
SHEET_BATCHES = 2
"""So many batches are shown in the sheet."""


def evaluate_inpainting(
    refiner: Refiner,
    batches: Iterable[Batch],
    limit: int,
    seed: int = 0,
    on_batch: Callable[[int], Any] = lambda n: None,
) -> tuple[dict[str, Any], UInt8[np.ndarray, "sheet_height sheet_width 3"]]:
    """Repaints held-out hands with their conditions, with zeroed ones and without SGM, from the same noise.

    Args:
      refiner: the model under test; its detector judges.
      batches: of the "eval" split, with the fields of the SGM task.
      limit: number of pictures.
      seed: of the noise.
      on_batch: told the number of pictures done.

    Returns:
      Figures with 95 % intervals for the real pictures, for what the conditions give, for what zeroed conditions
      give and for the inpainting model alone; and a sheet of the first pictures (`sample_sheet`).
    """
    errors: dict[str, list[float]] = {"photograph": [], "conditioned": [], "zeroed": [], "without_sgm": []}
    sheets: list[np.ndarray] = []
    for number, batch in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(seed), number)
        pictures = painted_variants(refiner, batch, key)
        for name, variant in pictures.items():
            errors[name] += [
                keypoint_error(refiner, picture, keypoints)
                for picture, keypoints in zip(variant, batch["keypoints"], strict=True)
            ]
        if number < SHEET_BATCHES:
            sheets.append(sample_sheet(batch, pictures))
        on_batch(min(limit, len(errors["photograph"])))
        if len(errors["photograph"]) >= limit:
            break
    return {name: figures(np.array(values[:limit])) for name, values in errors.items()}, np.concatenate(sheets)


def keypoint_error(
    refiner: Refiner, picture: UInt8[np.ndarray, "s s 3"], keypoints: Float[np.ndarray, "21 2"]
) -> float:
    """Distance of the closest hand's keypoints in a crop with a margin, share of the box; infinite where none is."""
    return closest_hand(refiner.detector, add_margin(picture), keypoints + origin(picture.shape))[0]


def painted_variants(refiner: Refiner, batch: Batch, key: jax.Array) -> dict[str, UInt8[np.ndarray, "batch s s 3"]]:
    """The pictures to judge: photographs, painted with conditions, with zeroed ones, by the inpainting model alone."""
    zeros = {name: np.zeros_like(batch[name]) for name in ("depth", "skeleton")}
    return {
        "photograph": np.asarray(jnp.round(from_model_range(jnp.asarray(batch["image"])) * 255).astype(jnp.uint8)),
        "conditioned": paint_batch(refiner, batch, key),
        "zeroed": paint_batch(refiner, {**batch, **zeros}, key),
        "without_sgm": paint_batch(refiner, {**batch, **dict.fromkeys(zeros)}, key),
    }


def paint_batch(refiner: Refiner, batch: Mapping[str, Any], key: PRNGKeyArray) -> UInt8[np.ndarray, "batch s s 3"]:
    """Paints examples by their conditions; an adaptive `HandRefiner` each as weakly as keeps its keypoints.

    Args:
      refiner: paints; its detector tells it the strengths.
      batch: with the fields of the SGM task; conditions that are None leave the inpainting model to itself.
      key: of the noise.
    """
    if not isinstance(refiner, HandRefiner) or refiner.scale is not None:
        return refiner.paint(**_inputs(batch), rng=key)
    return np.stack([_search(refiner, batch, number, key) for number in range(len(batch["image"]))])


def _search(
    refiner: HandRefiner, batch: Mapping[str, Any], number: int, key: PRNGKeyArray
) -> UInt8[np.ndarray, "s s 3"]:
    key, hand = jax.random.fold_in(key, number), jax.tree.map(lambda rows: rows[number : number + 1], dict(batch))
    nowhere = np.zeros(hand["image"].shape[1:3], bool)

    def attempt(key: PRNGKeyArray, **scale: float) -> Attempt:
        (painted,) = refiner.paint(**_inputs(hand), rng=key, **scale)
        return Attempt((painted, nowhere), keypoint_error(refiner, painted, hand["keypoints"][0]), None, ())

    best = attempt(key) if hand["depth"] is None else refiner.search(attempt, key)
    return best.pasted[0]


def _inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Of `Refiner.paint`."""
    return {"images": batch["image"]} | {name: batch[name] for name in ("mask", "depth", "skeleton", "input_ids")}


def figures(errors: Float[np.ndarray, " pictures"]) -> dict[str, Any]:
    """Summarises keypoint errors, which are infinite where no hand was found.

    Returns:
      Detection rate and pose rate (found, and as close as a repair must be) with their Wilson intervals; mean error of
      the found hands with its bootstrap interval.
    """
    found = errors[np.isfinite(errors)]
    posed = int((errors <= MAX_KEYPOINT_ERROR).sum())
    rate: dict[str, Any] = {"pictures": len(errors), "found": len(found), "posed": posed}
    for name, count in (("detection_rate", len(found)), ("pose_rate", posed)):
        rate |= {name: count / len(errors), f"{name}_95": wilson_interval(count, len(errors))}
    if not len(found):
        return rate | {"keypoint_error": None, "keypoint_error_95": None}
    return rate | {"keypoint_error": float(found.mean()), "keypoint_error_95": bootstrap_mean_interval(found)}


def sample_sheet(batch: Batch, pictures: Mapping[str, np.ndarray]) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """A row an example: photograph, what the model sees, depth, skeleton, with conditions, zeroed, without SGM."""
    image, mask, depth, skeleton = (jnp.asarray(batch[name]) for name in ("image", "mask", "depth", "skeleton"))
    painted = (jnp.asarray(pictures[name]) / 255 for name in ("conditioned", "zeroed", "without_sgm"))
    hidden = from_model_range(hide(image, mask))
    return np.asarray(sheet(from_model_range(image), hidden, depth, skeleton, *painted))
