"""HInt: hands at work in the pictures of New Days of Hands, Epic-Kitchens VISOR and Ego4D, annotated by people.

Layout and meaning are those of the authors' repository (github.com/ddshan/hint: README, visualize_HInt/draw_hand.py,
coco_wholebody_hand.py, prep_HInt/prep_ego4d.py). One hand a picture: its side ends the file's name, its keypoints are
in OpenPose's order and in pixels, `occlusion` is 1 where something hides one. `existence`, 0 where a keypoint lies
outside of the picture, is in the files but not in that code; its meaning is that of the readers of others. Where
pixels are counted from is not said; the authors draw a keypoint at the pixel of its whole part, which counts the left
edge as 0, as here.

A hand counts if more than four keypoints are seen, as in HaMeR's training (FILTER_NUM_KP of its data sets): what hides
hands is what HInt is about.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.datasets.annotation import HandAnnotation, Sample, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import read_json
from handjax.errors import InputError
from handjax.record import Side

_SOURCES = ("newdays_img", "epick_img")
_SOURCES_WITHOUT_PICTURES = ("ego4d_img", "ego4d_seq")
"""Ego4D's licence keeps its frames out of the download; who has it adds them."""
_SIDES: dict[str, Side] = {"l": "left", "r": "right"}


class Hint(HandDataset):
    """TFDS builder of HInt."""

    FACTS = DatasetFacts(
        name="hint",
        description="40,434 hands of New Days, Epic-Kitchens VISOR and Ego4D with 21 keypoints and what hides them.",
        homepage="https://github.com/ddshan/hint",
        licence="MIT (annotations); the pictures have the terms of Hands23, Epic-Kitchens VISOR and Ego4D",
        citation="""@inproceedings{pavlakos2024reconstructing,
  title = {Reconstructing Hands in 3{D} with Transformers},
  author = {Pavlakos, Georgios and Shan, Dandan and Radosavovic, Ilija and Kanazawa, Angjoo and Fouhey, David and
    Malik, Jitendra},
  booktitle = {CVPR},
  year = {2024},
}""",
        download="unpack HInt_annotation_partial.zip of https://github.com/ddshan/hint and name its folder, which "
        "holds TRAIN_newdays_img, TRAIN_epick_img and the same of VAL and TEST (how to add Ego4D is said there)",
        parts={"train": "TRAIN", "val": "VAL", "eval": "TEST"},
        min_seen=5,
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads the .json beside each .jpg; Ego4D's only where its pictures were added."""
        for source in (*_SOURCES, *_SOURCES_WITHOUT_PICTURES):
            place = folder / f"{part}_{source}"
            if source in _SOURCES_WITHOUT_PICTURES and not any(place.glob("*.jpg")):
                continue
            stems = sorted({path.stem for suffix in ("jpg", "json") for path in place.glob(f"*.{suffix}")})
            if not stems:
                raise InputError(f"{place}: missing; {self.FACTS.download}")
            for stem in stems:
                path = place / f"{stem}.json"
                entries = read_json(path, self.FACTS.download)
                if len(entries) != 1 or stem[-2:] not in ("_l", "_r"):
                    raise InputError(
                        f"{path}: {len(entries)} hands, not one that _l or _r names; {self.FACTS.download}"
                    )
                yield Sample(f"{place.name}/{stem}", place / f"{stem}.jpg", entries[0])

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The one annotated hand."""
        entry = sample.entry
        exists = np.array(entry.get("existence", np.ones(21)), bool)
        points = np.where(exists[:, None], np.array(entry["keypoints"], np.float64)[:, :2], np.nan)
        seen = exists & (np.array(entry["occlusion"]) == 0)
        yield HandAnnotation(with_confidence(points, seen.astype(np.float64)), side=_SIDES[sample.name[-1]])
