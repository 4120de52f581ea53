"""Repairs the hands of a picture: find, cut out, condition, inpaint, judge, paste back."""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray, UInt8

from handjax.adapters.sgm import SGM
from handjax.conditions.crops import RECORD_CROP_SCALE, box_side, crop_image, hand_box, hand_in_crop
from handjax.conditions.photo import conditions_from_hand
from handjax.diffusion.inpainting import Painter
from handjax.diffusion.model import StableDiffusion
from handjax.diffusion.samplers import DDIM
from handjax.hand.describe import describe_hand, with_article
from handjax.inference.finite import finite_pictures, to_bytes
from handjax.inference.paste import paste_back
from handjax.perception import DetectedHand, HandDetector

Status = Literal["fixed", "failed"]
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
      status: "fixed", or "failed" where no candidate was a hand of the wanted pose; its pixels are then the input's.
      reason: why, in words.
      box: tight box of the keypoints, pixels.
      score_before: the detector's score in the input.
      score_after: the detector's score in the result; None where it finds no hand.
      keypoint_error: mean distance of the result's keypoints from the condition, share of the box; None likewise.
    """

    status: Status
    reason: str
    box: tuple[float, float, float, float]
    score_before: float
    score_after: float | None
    keypoint_error: float | None


@dataclasses.dataclass(frozen=True)
class Refinement:
    """The repaired picture, where it may differ from the input, and what became of each hand (none: none was found)."""

    image: UInt8[np.ndarray, "height width 3"]
    changed: Bool[np.ndarray, "height width"]
    hands: list[HandRepair]


@dataclasses.dataclass(frozen=True)
class Refiner:
    """Repairs hands with an inpainting model that SGM steers.

    Args:
      model: an inpainting model.
      sgm: the module that was trained on it.
      sgm_params: its parameters.
      detector: finds the hands, and judges the repairs.
      settings: how hands are repainted.
    """

    model: StableDiffusion
    sgm: SGM
    sgm_params: Any
    detector: HandDetector
    settings: RepairSettings = RepairSettings()

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
        return finite_pictures(*_paint(painter, self.sgm, self.model, self.sgm_params, *inputs, rng))

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
        error, score, attempt = float("inf"), None, None
        for number, strength in enumerate(self.settings.strengths):
            key = jax.random.fold_in(rng, number)
            for painted in self.paint(images, mask, depth, skeleton, input_ids, key, strength):
                pasted = paste_back(image, painted, conditions.inpaint_mask, box)
                judged = self.judge(pasted[0], hand)
                if attempt is None or judged[0] < error:
                    (error, score), attempt = judged, pasted
            if error <= MAX_KEYPOINT_ERROR:
                break
        assert attempt is not None  # there is at least one candidate
        tried, untouched = count * len(self.settings.strengths), np.zeros(image.shape[:2], bool)
        repair = partial(HandRepair, box=tuple(hand.box.tolist()), score_before=hand.score, score_after=score)
        if score is None:
            reason = f"the detector finds no hand in any of {tried} candidates"
            return image, untouched, repair("failed", reason, keypoint_error=None)
        if error > MAX_KEYPOINT_ERROR:
            reason = f"keypoints of the best of {tried} candidates are off by {error:.0%} of the box"
            return image, untouched, repair("failed", reason, keypoint_error=error)
        return *attempt, repair("fixed", f"keypoints within {error:.1%} of the box", keypoint_error=error)

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
