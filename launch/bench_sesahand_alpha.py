"""What SesaHand's bias α on the words on hands changes in pictures: `launch.bench sesahand_alpha`."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from handjax.adapters.files import load_controlnet
from handjax.conditions.crops import tight_box
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.errors import ConfigError
from handjax.inference.controlled import Controlled
from handjax.inference.evaluate import Batch
from handjax.metrics.hands import keypoint_distance
from handjax.perception import HandDetector
from launch.evaluate_hands import read_in_box
from launch.generator import check_controlnet
from launch.judge import (
    SEED,
    Image,
    Verdicts,
    change_of_confidence,
    judge_all,
    make_judge,
    mean,
    reduction_item,
    share,
    verdicts_of,
)
from launch.paper_tables.painting import held_out_examples, paint_biased, photographs
from launch.paper_tables.rows import Setting

MODEL = "tiny_inpainting"
WHOLE = Setting("sesahand-alpha", "control", None, "whole", "mesh")
ALPHAS = (0.0, 1.0, 2.0, 2.5, 4.0, 8.0)
"""Of sampling, whatever the network was trained with; the first is what the others are compared with."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """What is said of the pictures of one α: of each its verdicts, and how far its keypoints are off, pixels."""

    verdicts: Sequence[Verdicts]
    errors: Sequence[float]


def bench_sesahand_alpha(
    _runs: int, data: Path | None = None, controlnet: Path | None = None, samples: int = 64
) -> Iterator[dict[str, Any]]:
    """Held-out captions and meshes, painted whole from the same noise at every α.

    Args:
      data: prepared records, of which the held-out split is used.
      controlnet: folder of an exported ControlNet of meshes, of the embedded model.
      samples: pictures of each α.

    Raises:
      ConfigError: a folder is not named.
      WeightsError: the ControlNet is missing, damaged, of another model or of another condition.
      InputError: there are fewer held-out records.
      BackendError: MediaPipe is not on this machine.
    """
    if data is None or controlnet is None:
        raise ConfigError("sesahand_alpha needs records and an exported ControlNet; name --data and --controlnet")
    model = jax.device_put(load_stable_diffusion(MODEL))
    network, params = load_controlnet(controlnet, condition=WHOLE.condition)
    check_controlnet(network, model, controlnet)
    control = Controlled(network, jax.device_put(params))
    batches = list(held_out_examples(str(data), WHOLE, model, samples, Path()))
    judge, reader = make_judge(), HandDetector.load()
    yield captions_item(batches, network.config.hand_alpha)
    judged: dict[float, Judged] = {}
    for alpha in ALPHAS:
        images = paint_all(model, control, alpha, batches)
        judged[alpha] = Judged(judge_all(judge, images), keypoint_errors(reader, batches, images))
        yield from figures_of(alpha, judged[alpha])
        if alpha != ALPHAS[0]:
            yield from changes(alpha, judged[ALPHAS[0]], judged[alpha])


def captions_item(batches: Sequence[Batch], trained_with: float) -> dict[str, Any]:
    """In how many captions there is a word on hands: at the others α changes nothing."""
    words = np.concatenate([batch["hand_tokens"].any(axis=1) for batch in batches])
    counted = share(int(words.sum()), len(words)) | {"unit": "of captions"}
    return {"name": "alpha, captions with a word on hands", **counted, "trained_with": trained_with}


def paint_all(model: StableDiffusion, control: Controlled, alpha: float, batches: Sequence[Batch]) -> list[Image]:
    """Pictures of all batches, whose noise depends on nothing but their number."""
    keys = jax.random.split(jax.random.key(SEED), len(batches))
    pairs = tqdm(list(zip(batches, keys, strict=True)), f"alpha {alpha:g}", unit="batch", disable=None)
    return [image for batch, key in pairs for image in paint_biased(model, control, "mesh", alpha, batch, key)]


def keypoint_errors(reader: HandDetector, batches: Sequence[Batch], images: Sequence[Image]) -> list[float]:
    """MPJPE as of `launch.evaluate --suite hands`: photograph and picture are read in the box of the condition's hand.

    Source:
      DECISIONS H6.
    """
    shown = [image for batch in batches for image in photographs(batch)]
    boxes = [tight_box(keypoints) for batch in batches for keypoints in batch["keypoints"]]
    return [
        keypoint_distance(*(read_in_box(reader, image, box) for image in pair))
        for *pair, box in zip(shown, images, boxes, strict=True)
    ]


def figures_of(alpha: float, judged: Judged) -> Iterator[dict[str, Any]]:
    """Hands found, confidence, implausible hands and keypoint errors of one α."""
    yield from verdicts_of(f"alpha={alpha:g}", judged.verdicts)
    yield {"name": f"alpha={alpha:g}, mpjpe_2d_px_self", **mean(np.array(judged.errors), "px")}


def changes(alpha: float, before: Judged, after: Judged) -> Iterator[dict[str, Any]]:
    """The same picture by picture, as changes from the first α."""
    name, pairs = f"alpha={alpha:g}", list(zip(before.verdicts, after.verdicts, strict=True))
    found = np.array([float(b.whole is not None) - float(a.whole is not None) for a, b in pairs])
    yield {"name": f"{name}, change of hands found", **mean(found, "of pictures")}
    yield change_of_confidence(name, before.verdicts, after.verdicts)
    for part in ("whole", "keypoints"):
        said = [(getattr(a, part), getattr(b, part)) for a, b in pairs]
        yield reduction_item(f"{name}, reduction of implausible hands ({part})", said, SEED)
    moved = np.array(after.errors) - np.array(before.errors)
    yield {"name": f"{name}, change of mpjpe_2d_px_self", **mean(moved, "px")}
