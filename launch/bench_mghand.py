"""What MGHanD's guidance changes in pictures of the embedded model, part by part: `launch.bench mghand`.

`launch.bench mghand_sweeps` varies its settings one by one.
"""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from tqdm import tqdm

from handjax.diffusion.sampling import Decode, Guide, Repeats
from handjax.guidance.mghand import MGHandGuide, MGHandLog
from handjax.hand.describe import FINGERS, describe_fingers, with_article
from handjax.inference.generate import Generator, Wish
from launch.bench_guidance import make_pictures, time_item
from launch.generator import load_asked
from launch.judge import (
    Image,
    Verdicts,
    change_of_confidence,
    judge_all,
    make_judge,
    reduction_item,
    share,
    verdicts_of,
)

SEED = 91_000
"""Of noise that the settings were not chosen with."""
ASKED = ("--sampler", "ddim", "--steps", "50", "--guidance-scale", "4", "--batch", "8", "--guidance")
FEW_STEPS = ("--sampler", "dpm", "--steps", "12", "--guidance-scale", "4", "--batch", "8", "--guidance")
PHOTOS = ("a photo of {hand}", "a photo of {hand}, sign for {count}")
"""What the embedded model draws best; rendered hands come out worse (`launch.bench mghand_cross`)."""
VARIANTS: dict[str, dict[str, Any]] = {
    "visual": {"textual": 0.0},
    "textual": {"visual": 0.0},
    "both": {},
    "both without mask": {"masked": False},
}
SWEEPS: dict[str, tuple[Any, ...]] = {
    "textual": (0.5, 1.0, 2.0, 3.0),
    "visual": (1e-4, 0.02, 0.05, 0.1, 0.3),  # the first for the loss alone
    "threshold": (0.1, 0.3, 0.5, 0.8),
    "cap": (0.35, 0.6, 1.0),
    "every": (1, 2, 5, 10),
    "recurrences": (2,),
    "through": ("denoiser",),
    "window": ((150.0, 900.0),),
}
"""The settings that are varied; a weight's sweep is of its part alone."""
ALONE: dict[str, dict[str, Any]] = {"textual": {"visual": 0.0}, "visual": {"textual": 0.0}}
WANTED_DB = 40.0
PIXELS = 255.0


@dataclasses.dataclass(frozen=True)
class Made:
    """A guided picture.

    Attributes:
      image: the picture.
      told: what the guide says of it.
      seen: steps that each pixel was in the mask, with all others of its cell of the latents.
    """

    image: Image
    told: dict[str, Any]
    seen: Int[np.ndarray, "height width"]


@flax.struct.dataclass
class Watched:
    """MGHanD's guide, and for how many steps each cell of the latents was in its mask, even if by one pixel."""

    guide: MGHandGuide

    def start(self, latents: Any) -> tuple[MGHandLog, Int[Array, "batch h w 1"]]:
        """The carry before the first step."""
        return self.guide.start(latents), jnp.zeros((*latents.shape[:3], 1), jnp.int32)

    @property
    def repeats(self) -> Repeats | None:
        """As of the guide."""
        repeats = self.guide.repeats
        return repeats and (lambda level, carry: repeats(level, carry[0]))

    def steer(self, decode: Decode, context: Float[Array, "batch words embed"]) -> Guide:
        """The guide, watched."""
        guide = self.guide.steer(decode, context)

        def watched(carry, *rest):
            log, x0 = guide(carry[0], *rest)
            return (log, carry[1] + (log.mask.cells(self.guide.factor) > 0)), x0

        return watched

    def tell(self, carry: Any) -> list[dict[str, Any]]:
        """What the guide tells, and "seen": steps that each pixel's cell was in the mask."""
        factor = self.guide.factor
        pixels = jax.device_get(carry[1])[..., 0].repeat(factor, 1).repeat(factor, 2)
        return [one | {"seen": seen} for one, seen in zip(self.guide.tell(carry[0]), pixels, strict=True)]


def bench_mghand(runs: int, samples: int = 100) -> Iterator[dict[str, Any]]:
    """The same noise and prompts without and with each part of the guide, and with both in few steps.

    Args:
      runs: of the timing.
      samples: pictures each way; they take the prompts in turn.

    Raises:
      BackendError: MediaPipe, or what the discriminator reads, is not on this machine.
    """
    wishes = draw_wishes(samples)
    pair = load_pair()
    yield from tried(pair, wishes, "none", VARIANTS)
    yield {**time_item(runs, pair[1], pair[0], wishes), "name": "mghand both, a batch"}
    yield from tried(load_pair(FEW_STEPS), wishes, "none in few steps", {"both in few steps": {}})


def bench_mghand_sweeps(_runs: int, samples: int = 24) -> Iterator[dict[str, Any]]:
    """The same noise and prompts without the guide, with it, and with each of its settings varied.

    Args:
      samples: pictures each way; they take the prompts in turn.

    Raises:
      BackendError: MediaPipe, or what the discriminator reads, is not on this machine.
    """
    changes: dict[str, dict[str, Any]] = {
        f"{setting}={value}": {setting: value} | ALONE.get(setting, {})
        for setting, values in SWEEPS.items()
        for value in values
    }
    yield from tried(load_pair(), draw_wishes(samples), "none", {"both": {}} | changes)


def tried(
    pair: tuple[Generator, Generator], wishes: Sequence[Wish], unguided: str, variants: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Figures of unguided pictures, and of those from the same noise by each variant of the guide beside them."""
    judge, (plain, guided) = make_judge(), pair
    images = make_pictures(plain, wishes, unguided)
    before = judge_all(judge, images)
    yield from verdicts_of(f"mghand {unguided}", before)
    for name, changes in variants.items():
        made = make(with_settings(guided, **changes), wishes, name)
        yield from compare(name, images, made, before, judge_all(judge, [one.image for one in made]))
        # each variant's programs are its own; those of a score of variants are more than the system lets one map
        jax.clear_caches()


def draw_wishes(count: int, forms: Sequence[str] = PHOTOS) -> list[Wish]:
    """What the embedded model has learnt to make, in mixed order, again and again; every wish has its own noise."""
    prompts = [
        form.format(hand=with_article(describe_fingers(fingers, side)), count=number)
        for side in ("left", "right")
        for number in range(len(FINGERS) + 1)
        for fingers in itertools.combinations(FINGERS, number)
        for form in forms
    ]
    order = np.random.default_rng(SEED).permutation(len(prompts))
    return [Wish(prompts[order[number % len(prompts)]], "", SEED + number) for number in range(count)]


def load_pair(asked: Sequence[str] = ASKED) -> tuple[Generator, Generator]:
    """The embedded model without guidance and with its own discriminator and adapter."""
    return load_asked(*asked, "none"), watch(load_asked(*asked, "mghand"))


def watch(generator: Generator) -> Generator:
    """A generator with MGHanD's guide, which is watched."""
    guide: Any = generator.steering
    return dataclasses.replace(generator, steering=Watched(guide))


def with_settings(generator: Generator, **changes: Any) -> Generator:
    """A watched generator with other settings of the guide; `threshold` and `cap` are its mask's."""
    guide: Any = generator.steering
    of_mask = {name: changes.pop(name) for name in ("threshold", "cap") if name in changes}
    mask = dataclasses.replace(guide.guide.settings.mask, **of_mask)
    settings = dataclasses.replace(guide.guide.settings, mask=mask, **changes)
    return dataclasses.replace(generator, steering=Watched(guide.guide.replace(settings=settings)))


def make(generator: Generator, wishes: Sequence[Wish], name: str) -> list[Made]:
    """Pictures in the order of the wishes."""
    made = {}
    for wish, image, told in tqdm(generator.steered(wishes), name, len(wishes), disable=None):
        seen = told.pop("seen")
        made[wish.seed] = Made(image, told, seen)
    return [made[wish.seed] for wish in wishes]


def compare(
    name: str, images: Sequence[Image], made: Sequence[Made], before: Sequence[Verdicts], after: Sequence[Verdicts]
) -> Iterator[dict[str, Any]]:
    """Figures of a variant beside the unguided pictures of the same noise."""
    yield from verdicts_of(f"mghand {name}", after)
    yield change_of_confidence(f"mghand {name}", before, after)
    for part in ("whole", "keypoints"):
        pairs = [(getattr(a, part), getattr(b, part)) for a, b in zip(before, after, strict=True)]
        yield reduction_item(f"mghand {name}, reduction of implausible hands ({part})", pairs, SEED)
    masked = [pair for pair in zip(images, made, strict=True) if pair[1].seen.any()]
    distances = [decibels(image, one.image, one.seen == 0) for image, one in masked]
    kept = [value for value in distances if value is not None]
    if kept:
        worst = {"least": min(kept), "at_least_wanted": sum(value >= WANTED_DB for value in kept) / len(kept)}
        median = {"ours": float(np.median(kept)), "unit": "dB", "wanted": WANTED_DB, "pictures": len(kept)}
        yield {"name": f"mghand {name}, PSNR outside the mask", **median, **worst}
    statuses = Counter(one.told["status"] for one in made)
    guided = share(statuses["guided"], len(made)) | {"unit": "of pictures"}
    full = sum(one.told["mask_full"] for one in made) / len(made)
    yield {"name": f"mghand {name}, guided", **guided, "statuses": dict(statuses), "mask_full": full}
    yield {"name": f"mghand {name}, by step", **by_step(made)}


def decibels(one: Image, other: Image, pixels: Bool[np.ndarray, "height width"]) -> float | None:
    """Peak signal-to-noise ratio over some pixels; infinite values, of pictures that are the same there, are 100."""
    if not pixels.any():
        return None
    error = np.square(one[pixels].astype(float) - other[pixels].astype(float)).mean()
    return 100.0 if error == 0 else 10 * math.log10(PIXELS**2 / error)


def by_step(made: Sequence[Made]) -> dict[str, Any]:
    """What the guide logs, by its last timestep and over the steps: means over the pictures that have a value."""
    logs = [one.told["log"] for one in made]
    columns: dict[str, list[float | None]] = {}
    for field in ("mask_area", "textual", "loss"):
        steps = [[step[field] for step in same if step[field] is not None] for same in zip(*logs, strict=True)]
        columns[field] = [float(np.mean(values)) if values else None for values in steps]
    areas = [area for area in columns["mask_area"] if area is not None]
    last = {"ours": areas[-1] if areas else None, "unit": "of the picture in the mask at the end"}
    return {**last, "t": [step["t"] for step in logs[0]], **columns}
