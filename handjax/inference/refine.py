"""Repairs the hands of a picture: find, cut out, condition, inpaint, judge, paste back."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray, UInt8

from handjax.conditions.crops import RECORD_CROP_SCALE, box_side, crop_image, hand_box, hand_in_crop
from handjax.conditions.photo import conditions_from_hand
from handjax.diffusion.inpainting import Painter
from handjax.diffusion.model import StableDiffusion
from handjax.diffusion.samplers import DDIM
from handjax.hand.describe import describe_hand, with_article
from handjax.inference.best import Rank
from handjax.inference.finite import finite_pictures, to_bytes
from handjax.inference.paste import paste_back
from handjax.perception import DetectedHand, HandDetector

Status = Literal["fixed", "kept", "failed"]
MAX_KEYPOINT_ERROR = 0.15
"""A repair counts when the detector finds its keypoints this close to the condition, as a share of the box."""


@dataclasses.dataclass(frozen=True)
class RepairSettings:
    """How hands are repainted.

    Args:
      steps: of the sampler.
      guidance_scale: of prompt and conditions.
      candidates: pictures painted for each hand at each strength; the one closest to the conditions is kept.
      strengths: tried in this order until a candidate is a hand of the wanted pose. The first paints from noise alone;
        lower ones begin with the picture, noised, and so keep its coarse forms (`Painter`).
    """

    steps: int = 30
    guidance_scale: float = 4.0
    candidates: int = 8
    strengths: tuple[float, ...] = (1.0, 0.8, 0.6)


@dataclasses.dataclass(frozen=True)
class HandRepair:
    """What became of one hand.

    Attributes:
      status: "fixed"; "kept" where no candidate ranks above the input; "failed" where none was a hand of the wanted
        pose. If it is not "fixed" its pixels are the input's.
      reason: why, in words.
      box: tight box of the keypoints, pixels.
      score_before: the detector's score in the input.
      score_after: the detector's score in the result; None where it finds no hand.
      keypoint_error: mean distance of the result's keypoints from the condition, share of the box; None likewise.
      ranks: of the input's hand, then of all candidates; empty where the refiner does not rank.
    """

    status: Status
    reason: str
    box: tuple[float, float, float, float]
    score_before: float
    score_after: float | None
    keypoint_error: float | None
    ranks: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Refinement:
    """The repaired picture, where it may differ from the input, and what became of each hand (none: none was found)."""

    image: UInt8[np.ndarray, "height width 3"]
    changed: Bool[np.ndarray, "height width"]
    hands: list[HandRepair]


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A candidate in its place.

    Attributes:
      pasted: the picture with it, and where that differs from the input.
      error, score: as `Refiner.judge` gives them.
      rank: as `Refiner.rank` gives it; empty without.
    """

    pasted: tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]
    error: float
    score: float | None
    rank: tuple[float, ...]

    @property
    def posed(self) -> bool:
        """Whether it has the pose it was asked for."""
        return self.error <= MAX_KEYPOINT_ERROR

    @property
    def known_error(self) -> float | None:
        """The keypoint error; None where no hand was found."""
        return None if self.score is None else self.error

    @property
    def order(self) -> tuple[bool, float, float]:
        """The best is the least: posed, then of high rank, then close to the conditions."""
        return not self.posed, -sum(self.rank) if self.posed else 0.0, self.error


def verdict(best: Attempt, before: tuple[float, ...], tried: int) -> tuple[Status, str]:
    """What becomes of a hand, and why.

    Args:
      best: the best candidate.
      before: the rank of the input's hand; empty where nobody ranks.
      tried: how many candidates there were.
    """
    if best.score is None:
        return "failed", f"the detector finds no hand in any of {tried} candidates"
    if not best.posed:
        return "failed", f"keypoints of the best of {tried} candidates are off by {best.error:.0%} of the box"
    if before and best.rank <= before:
        return "kept", f"none of {tried} candidates ranks above the input ({best.rank[0]:.2f}, {before[0]:.2f})"
    return "fixed", f"keypoints within {best.error:.1%} of the box"


@dataclasses.dataclass(frozen=True)
class Refiner:
    """Repairs hands with an inpainting model that SGM steers.

    Args:
      model: an inpainting model.
      adapter: the module that was trained on it.
      adapter_params: its parameters.
      detector: finds the hands, and judges the repairs.
      settings: how hands are repainted.
      rank: of the candidates that have the wanted pose, the one it ranks first is kept, if it ranks above the input;
        None keeps the one that is closest to the conditions.
    """

    model: StableDiffusion
    adapter: Any
    adapter_params: Any
    detector: HandDetector
    settings: RepairSettings = RepairSettings()
    rank: Rank | None = None

    @property
    def size(self) -> int:
        """Side of the crops the model paints, in pixels."""
        return self.model.unet.config.sample_size * self.model.vae.config.factor

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"], prompt: str | None = None, seed: int = 0
    ) -> Refinement:
        """Repairs every hand that the detector finds, the surest first.

        Args:
          image: the picture; not changed.
          prompt: describes the picture; by default each hand as it is seen.
          seed: of the noise; the same seed gives the same result.

        Returns:
          The picture with each hand repaired that could be; a failure leaves that hand as it was.

        Raises:
          WeightsError: what the model paints is not finite.
        """
        result, changed, repairs = image, np.zeros(image.shape[:2], bool), []
        for number, hand in enumerate(self.detector.detect(image)):
            result, region, repair = self._repair(
                result, hand, prompt, jax.random.fold_in(jax.random.key(seed), number)
            )
            changed |= region
            repairs.append(repair)
        return Refinement(result, changed, repairs)

    def paint(
        self,
        images: Float[np.ndarray, "batch size size 3"],
        mask: Float[np.ndarray, "batch size size 1"],
        depth: Float[np.ndarray, "batch size size 1"] | None,
        skeleton: Float[np.ndarray, "batch size size 3"] | None,
        input_ids: Int[np.ndarray, "batch words"],
        rng: PRNGKeyArray,
        strength: float = 1.0,
    ) -> UInt8[np.ndarray, "batch size size 3"]:
        """Repaints crops by their conditions.

        Args:
          images: at the model's size, in [-1, 1].
          mask: 1 is to be painted.
          depth: as DECISIONS B3; None leaves the inpainting model to itself.
          skeleton: as DECISIONS B3; None likewise.
          input_ids: tokens of the prompts.
          rng: key of the noise.
          strength: below 1 it begins with the picture (`Painter`).

        Returns:
          The whole decoded crops.

        Raises:
          WeightsError: a crop is not finite.
        """
        sampler = DDIM(self.model.schedule, self.settings.steps)
        painter = Painter(sampler, self.settings.guidance_scale, strength=strength)
        empty_ids = self.model.tokenizer([""])
        inputs = (images, mask, depth, skeleton, input_ids, empty_ids)
        return finite_pictures(*_paint(painter, self.adapter, self.model, self.adapter_params, *inputs, rng))

    def _repair(self, image, hand: DetectedHand, prompt: str | None, rng):
        box = hand_box(hand.keypoints)
        crop = crop_image(image, box, self.size)
        conditions = conditions_from_hand(crop, hand_in_crop(hand, box, self.size))
        count = self.settings.candidates
        prompt = prompt or f"a photo of {with_article(describe_hand(hand.world, hand.side))}"
        pictures = (to_model_range(crop), conditions.inpaint_mask, conditions.depth, conditions.skeleton)
        images, mask, depth, skeleton = (
            np.repeat(picture.reshape(1, self.size, self.size, -1), count, axis=0) for picture in pictures
        )
        input_ids = self.model.tokenizer([prompt] * count)
        before = self._rank(image, hand)

        tried: list[tuple[float, ...]] = []

        def candidates(painted):
            for one in painted:  # one at a time, for each holds a whole picture
                candidate = self._attempt(paste_back(image, one, conditions.inpaint_mask, box), hand)
                tried.append(candidate.rank)
                yield candidate

        def attempt(key, **options):
            painted = self.paint(images, mask, depth, skeleton, input_ids, key, **options)
            return min(candidates(painted), key=lambda one: one.order)

        best = self.search(attempt, rng)
        ranks = sum(tried, before)
        status, reason = verdict(best, before, len(tried))
        result = best.pasted if status == "fixed" else (image, np.zeros(image.shape[:2], bool))
        place = (tuple(hand.box.tolist()), hand.score)
        return *result, HandRepair(status, reason, *place, best.score, best.known_error, ranks)

    def search(self, attempt: Callable[..., Attempt], rng: PRNGKeyArray) -> Attempt:
        """Paints candidates, from noise alone first, until one has the wanted pose.

        Args:
          attempt: takes a key and options of `paint`, and gives the best of the candidates in their place.
          rng: key of the noise.

        Returns:
          The best candidate.
        """
        best = None
        for number, strength in enumerate(self.settings.strengths):
            latest = attempt(jax.random.fold_in(rng, number), strength=strength)
            best = latest if best is None else min(best, latest, key=lambda one: one.order)
            if best.posed:
                break
        assert best is not None  # there is at least one strength
        return best

    def _attempt(self, pasted, hand: DetectedHand) -> Attempt:
        return Attempt(pasted, *self.judge(pasted[0], hand), self._rank(pasted[0], hand))

    def _rank(self, image, hand: DetectedHand) -> tuple[float, ...]:
        """The rank of the hand's surroundings; empty where nobody ranks."""
        return () if self.rank is None else (self.rank(crop_image(image, hand_box(hand.keypoints, RECORD_CROP_SCALE))),)

    def judge(self, image: UInt8[np.ndarray, "height width 3"], hand: DetectedHand) -> tuple[float, float | None]:
        """Looks for a hand where it should be.

        Args:
          image: a picture with a repaired hand.
          hand: what the repair was conditioned on, pixels of `image`.

        Returns:
          Mean keypoint distance from the condition as a share of the box, and the detector's score; infinity and
          None where no hand is found.
        """
        box = hand_box(hand.keypoints, RECORD_CROP_SCALE)
        return closest_hand(self.detector, crop_image(image, box), hand_in_crop(hand, box).keypoints[:, :2])


def closest_hand(
    detector: HandDetector, picture: UInt8[np.ndarray, "height width 3"], keypoints: Float[np.ndarray, "21 2"]
) -> tuple[float, float | None]:
    """Finds the hand that is closest to the wanted keypoints.

    Args:
      detector: finds the hands.
      picture: where to look.
      keypoints: wanted, pixels of `picture`.

    Returns:
      Mean keypoint distance as a share of the wanted hand's box, and the detector's score; infinity and None where
      no hand is found.
    """
    found = [
        (float(np.linalg.norm(hand.keypoints[:, :2] - keypoints, axis=1).mean()) / box_side(keypoints), hand.score)
        for hand in detector.detect(picture)
    ]
    return min(found, default=(float("inf"), None))


@partial(jax.jit, static_argnames=("painter", "sgm"))
def _paint(painter, sgm, model, sgm_params, images, mask, depth, skeleton, input_ids, empty_ids, rng):
    noise_key, sampler_key = jax.random.split(rng)
    residuals = {} if depth is None else sgm.apply({"params": sgm_params}, depth, skeleton).residuals
    painted = painter(
        model,
        images,
        mask,
        context=model.embed_ids(input_ids),
        empty_context=model.embed_ids(jnp.broadcast_to(empty_ids, input_ids.shape)),
        noise=model.initial_noise(jax.random.split(noise_key, len(images)), images.shape[1]),
        rng=sampler_key,
        residuals=residuals,
    )
    return to_bytes(painted)


def to_model_range(image: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Brings bytes to [-1, 1]."""
    return image.astype(np.float32) / 127.5 - 1
