"""Painted hands as a job: a diffusion model paints rendered hands anew, so that pictures vary and labels stay exact.

What does not show the hands that were asked for, or shows others or a malformed one, is left out and counted.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.painted_poses import CONDITIONS, PosedPicture, Poses
from data_pipelines.precompute import Failures
from data_pipelines.shards import RecordMaker, maker_hash
from data_pipelines.shared_pictures import PlacedHand
from handjax.adapters.files import load_controlnet
from handjax.anatomy.head import HandHead
from handjax.conditions.crops import box_side
from handjax.diffusion.model import find_model, load_stable_diffusion
from handjax.diffusion.samplers import DPMSolver
from handjax.errors import ConfigError, WeightsError
from handjax.hand.describe import describe_hand, with_article
from handjax.images import decode_image, resize
from handjax.inference.generate import Control, Generator, Wish
from handjax.inference.score import SURE_OF_SIDE, FingerCounter, HeadCounter, score_hand
from handjax.perception import HandDetector
from handjax.perception.margin import add_margin, origin
from handjax.record import HandRecord

BATCH = 8
"""Painted at once."""
MOST_OFF = 0.1
"""Mean distance of the keypoints that are found from those that were asked for, as a share of the box, up to which a
label is true of its picture."""
_MAKERS = (
    "handjax/adapters",
    "handjax/anatomy",
    "handjax/assets/anatomy_head/head.safetensors",
    "handjax/diffusion",
    "handjax/inference",
    "handjax/weights",
)
"""Paint and judge, beside what makes all records."""
NOT_FOUND, ELSEWHERE, OTHER_SIDE = "no hand found", "keypoints elsewhere", "the other hand"
MISSING, MORE, MALFORMED = "one hand found of two", "one hand too many", "implausible anatomy"
_MOST_HANDS = 3
"""To look for: two, and one that nobody has asked for."""


@dataclasses.dataclass(frozen=True)
class PaintedJob:
    """Rendered hands that a model has painted (a `Job`).

    Attributes:
      poses: of the hands to paint; those that fail the checks are left out.
      controlnets: condition → exported ControlNet that follows it.
      model: text-to-image or inpainting, as `load_stable_diffusion` takes it.
      steps: of the sampler.
      guidance_scale: of the prompt.
      control_scale: of each ControlNet's residuals.
      licence: of the pictures, which the model's licence decides.
    """

    poses: Poses
    controlnets: Mapping[str, Path]
    model: str = "tiny_inpainting"
    steps: int = 30
    guidance_scale: float = 4.0
    control_scale: float = 1.0
    licence: str | None = None

    name = "painted_hands"
    description = "The open hand of handjax in many poses, painted by a diffusion model under ControlNets."
    citation = None

    def __post_init__(self):
        if not self.controlnets or not set(self.controlnets) <= set(CONDITIONS):
            raise ConfigError(
                f"painted hands follow ControlNets of {', '.join(CONDITIONS)}; name at least one of them, not "
                f"{', '.join(self.controlnets) or 'none'}"
            )
        if self.steps < 1:
            raise ConfigError(f"--steps is {self.steps}; it must be at least 1")
        for folder in self.controlnets.values():
            if not folder.exists():
                raise WeightsError(f"{folder}: no such file or folder; export a ControlNet there with launch.export")

    def settings(self) -> dict[str, Any]:
        """What all records depend on, the networks' code and files among it."""
        names = ("model", "steps", "guidance_scale", "control_scale", "licence")
        folders = {"model": find_model(self.model), **self.controlnets}
        files = {f"{name}_files": _files(Path(folder)) for name, folder in folders.items()}
        return (
            {name: getattr(self, name) for name in names}
            | self.poses.settings()
            | files
            | {"makers": maker_hash(_MAKERS)}
        )

    def splits(self) -> dict[str, list[str]]:
        """Names of the hands."""
        return self.poses.splits()

    def states(self, names: Sequence[str]) -> list[Any]:
        """What sets hands apart besides."""
        return self.poses.states(names)

    def open(self) -> RecordMaker:
        """Loads the networks.

        Raises:
          WeightsError: one is missing, damaged, of another model, or of another condition.
        """
        painter = HandPainter.load(self)
        return lambda names, failures: painted_records(names, self.poses, painter, failures, self.licence)


@dataclasses.dataclass(frozen=True)
class HandPainter:
    """Paints hands under their conditions, and judges what came out.

    Args:
      generator: with a ControlNet for each of `conditions`, in their order.
      conditions: names of pictures that records have.
      detector: finds the painted hand.
      counter: sees malformed ones.
    """

    generator: Generator
    conditions: tuple[str, ...]
    detector: HandDetector
    counter: FingerCounter

    @classmethod
    def load(cls, job: PaintedJob) -> "HandPainter":
        """Loads what a job names; raises as `PaintedJob.open`."""
        model = load_stable_diffusion(job.model)
        size = model.unet.config.sample_size * model.vae.config.factor
        controls = []
        for condition, folder in job.controlnets.items():
            network, params = load_controlnet(folder, condition=condition)
            if not network.config.fits(model.unet.config, model.vae.config):
                raise WeightsError(f"{folder}: a ControlNet of another model than {job.model}; name that one")
            nothing = np.zeros((size, size, 3), np.float32)
            controls.append(Control(network, params, nothing, job.control_scale))
        model, controls = jax.device_put((model, tuple(controls)))
        sampler = DPMSolver(model.schedule, job.steps)
        generator = Generator(model, sampler, (size, size), job.guidance_scale, BATCH, controls)
        counter = HeadCounter(HandHead.load())
        return cls(generator, tuple(job.controlnets), HandDetector.load(max_hands=_MOST_HANDS), counter)

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.generator.size[0]

    def __call__(
        self, pictures: Sequence[PosedPicture], prompts: Sequence[str]
    ) -> list[UInt8[np.ndarray, "size size 3"]]:
        """Paints pictures."""
        wishes = [Wish(prompt, seed=picture.seed) for picture, prompt in zip(pictures, prompts, strict=True)]
        conditions = [np.stack([self._condition(picture, name) for picture in pictures]) for name in self.conditions]
        made = {wish.seed: image for wish, image, _ in self.generator.steered(wishes, conditions)}
        return [made[picture.seed] for picture in pictures]

    def refuse(self, picture: UInt8[np.ndarray, "height width 3"], asked: Sequence[PlacedHand]) -> str | None:
        """Why a picture does not show these hands, each of them good, and no other; None where it does."""
        wide = add_margin(picture)
        hands = self.detector.detect(wide)
        if not hands:
            return NOT_FOUND
        nearest = []
        for placed in asked:
            off = [_distance(hand.keypoints[:, :2] - origin(picture.shape), placed.keypoints) for hand in hands]
            nearest.append(int(np.argmin(off)))
            if off[nearest[-1]] > MOST_OFF * box_side(placed.keypoints):
                return MISSING if len(hands) < len(asked) else ELSEWHERE
        if len(set(nearest)) < len(asked):
            return MISSING
        for number, placed in zip(nearest, asked, strict=True):
            if hands[number].side != placed.record.side and hands[number].score >= SURE_OF_SIDE:
                return OTHER_SIDE
        if len(hands) > len(asked):  # which nobody has labelled
            return MORE
        verdicts = [score_hand(wide, hands[number], self.counter).anatomy.verdict for number in nearest]
        return MALFORMED if "implausible" in verdicts else None

    def _condition(self, picture: PosedPicture, name: str) -> Float[np.ndarray, "size size 3"]:
        encoded = decode_image(picture.conditions[name], f"{picture.hands[0].record.id} ({name})")
        return resize(encoded, (self.size, self.size)) / np.float32(255)


def painted_records(
    names: Iterable[str], poses: Poses, painter: HandPainter, failures: Failures, licence: str | None = None
) -> Iterator[HandRecord]:
    """Paints rendered hands.

    Args:
      names: which pictures of `poses`.
      poses: says what they show.
      painter: paints and judges them.
      failures: receives how many pictures are left out, by reason.
      licence: of the pictures.

    Yields:
      Records with the labels and conditions of the rendered hands and what the painted pictures show of each; those of
      one picture follow each other.
    """
    waiting = iter(names)
    while part := list(itertools.islice(waiting, BATCH)):
        pictures = poses.render(part, painter.size, failures)
        prompts = [_prompt([hand.record for hand in picture.hands]) for picture in pictures]
        images = painter(pictures, prompts) if pictures else []
        for picture, image in zip(pictures, images, strict=True):
            if reason := painter.refuse(image, picture.hands):
                failures.leave_out(reason)
                continue
            for hand in picture.hands:
                caption = _prompt([hand.record])
                yield dataclasses.replace(hand.cut_from(image), caption=caption, licence=licence)


def _prompt(records: Sequence[HandRecord]) -> str:
    return f"a photo of {' and '.join(map(_description, records))}"


def _description(record: HandRecord) -> str:
    assert record.keypoints_3d is not None and record.side is not None
    return with_article(describe_hand(record.keypoints_3d[:, :3], record.side))


def _distance(points: Float[np.ndarray, "21 2"], others: Float[np.ndarray, "21 2"]) -> float:
    return float(np.linalg.norm(points - others, axis=1).mean())


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the last change."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
    return [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
