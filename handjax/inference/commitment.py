"""When a model commits to the hands of its pictures: what it sees in every step is decoded and read."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from handjax.anatomy.commitment import MOST_DISTANCE, REACH, commitment, follow, signal_to_noise
from handjax.errors import ConfigError
from handjax.guidance.record import Recorder
from handjax.inference.generate import Generator, Wish
from handjax.metrics.intervals import bootstrap_mean_interval
from handjax.perception import HandDetector
from handjax.perception.margin import detect_with_margin


@dataclasses.dataclass(frozen=True)
class Commitment:
    """Of one picture.

    Attributes:
      wish: what was asked for.
      estimates: the clean picture that the model sees in each step.
      hands: how many were found in each.
      timesteps: t* of each hand of the last estimate.
    """

    wish: Wish
    estimates: UInt8[np.ndarray, "steps height width 3"]
    hands: list[int]
    timesteps: list[float]


def find_commitments(generator: Generator, detector: HandDetector, wishes: Sequence[Wish]) -> Iterator[Commitment]:
    """Makes pictures and finds t* of each of their hands.

    Args:
      generator: without steering; its sampler's timesteps may be 50 apart at most.
      detector: finds the hands.
      wishes: the pictures to make.

    Raises:
      ConfigError: the sampler has too few steps.
    """
    timesteps = generator.sampler.trajectory().timesteps
    widest = float(np.max(-np.diff(timesteps), initial=0))
    if len(timesteps) < 2 or widest > REACH:
        raise ConfigError(
            f"--steps is {len(timesteps)}: skeletons are compared over {REACH:.0f} timesteps, and these are "
            f"{widest:.0f} apart; take more steps"
        )
    recorder = Recorder(len(timesteps), generator.model.vae.config.factor)
    for wish, image, told in dataclasses.replace(generator, steering=recorder).steered(wishes):
        found = [
            [hand.keypoints[:, :2] for hand in detect_with_margin(detector, picture)] for picture in told["estimates"]
        ]
        most = MOST_DISTANCE * max(image.shape[:2])
        committed = [commitment(timesteps, path, most) for path in follow(found)]
        points = [t for t in committed if t is not None]
        yield Commitment(wish, told["estimates"], [len(hands) for hands in found], points)


def summarise_commitments(generator: Generator, found: Sequence[Commitment]) -> dict[str, Any]:
    """Mean and spread of t* and of the signal-to-noise ratio there, over all hands.

    Returns:
      "pictures", "hands" and "without_hand" (pictures whose last estimate has none); with hands also "t", "t_std",
      "t_95" (interval of the mean), "snr_db" and "snr_db_std", and "window", t* ± 100 (HandAnat section 3.4).
    """
    points = np.array([t for one in found for t in one.timesteps])
    counts = {
        "pictures": len(found),
        "hands": len(points),
        "without_hand": sum(not one.timesteps for one in found),
    }
    if not len(points):
        return counts
    ratios = [signal_to_noise(float(sigma)) for sigma in generator.model.schedule.sigma_at(points)]
    mean = float(points.mean())
    return counts | {
        "t": mean,
        "t_std": float(points.std()),
        "t_95": bootstrap_mean_interval(points),
        "snr_db": float(np.mean(ratios)),
        "snr_db_std": float(np.std(ratios)),
        "window": (max(mean - 100, 0.0), mean + 100),
    }
