"""Hands as JSON, and detections that somebody else made and wrote down so."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from handjax.errors import InputError
from handjax.perception.hands import DetectedHand


def hand_item(hand: DetectedHand) -> dict[str, Any]:
    """A hand as the JSON contract has it (docs/design.md)."""
    return {
        "side": hand.side,
        "score": round(hand.score, 4),
        "box": hand.box.astype(float).round(2).tolist(),
        "keypoints": hand.keypoints.astype(float).round(2).tolist(),
        "world": hand.world.astype(float).round(5).tolist(),
    }


def read_detections(path: Path) -> dict[str, list[DetectedHand]]:
    """Reads the hands of each picture, by its absolute path, from what `launch.detect --json` prints.

    Raises:
      InputError: the file is missing or damaged, or a hand in it lacks something.
    """
    try:
        items = json.loads(path.read_text())["items"]
        if any("frame" in item for item in items):
            raise ValueError("frames of a clip")
        return {str(Path(item["input"]).absolute()): [_hand(hand) for hand in item["hands"]] for item in items}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give what launch.detect --json prints") from error
    except (ValueError, TypeError, LookupError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: no detections ({reason}); give what launch.detect --json prints") from error


def _hand(item: dict[str, Any]) -> DetectedHand:
    return checked_hand(item["side"], item["score"], item["keypoints"], item["world"])


def checked_hand(side: Any, score: Any, keypoints: Any, world: Any) -> DetectedHand:
    """A hand as another detector tells it, which may be wrong in everything.

    Args:
      side: "left" or "right".
      score: probability of the side.
      keypoints: 21 × 3 numbers, as of `DetectedHand`.
      world: 21 × 3 numbers.

    Raises:
      ValueError, TypeError: it is none.
    """
    score, keypoints, world = float(score), np.array(keypoints, np.float32), np.array(world, np.float32)
    if side not in ("left", "right") or not 0 <= score <= 1:
        raise ValueError(f"side {side!r} with score {score}")
    if keypoints.shape != (21, 3) or world.shape != (21, 3) or not np.isfinite(keypoints).all():
        raise ValueError(f"keypoints {keypoints.shape}, world {world.shape}, where 21 x 3 numbers are wanted")
    return DetectedHand.from_landmarks(side, score, keypoints, world)
