"""100DOH, 100 Days of Hands: frames of films of daily life with boxes around hands, their sides and what they touch.

Layout and meaning are those of the authors' reader (github.com/ddshan/hand_object_detector: README, section Data
preparation; lib/datasets/pascal_voc.py, voc_eval.py; lib/model/utils/viz_hand_obj.py): Pascal VOC's folders and .xml
files, whose boxes name their first and last pixel, counted from 1. `handside` is 0 for a left and 1 for a right hand,
`contactstate` is one of five. There are no keypoints: the landmark network reads them in the box. A reading whose own
box shares less than half with the annotated one shows something else.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

from data_pipelines.datasets.annotation import HandAnnotation, Sample
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.found import found_hand, hand_detector
from data_pipelines.datasets.layout import need_file
from handjax.errors import InputError
from handjax.images import read_image
from handjax.record import Side

_FOLDER = "VOC2007"
_SIDES: dict[int, Side] = {0: "left", 1: "right"}
_TOUCHED = {
    0: "nothing",
    1: "its owner's body",
    2: "another person",
    3: "a portable object",
    4: "a stationary object",
}
_MIN_OVERLAP = 0.5


class BoxedHand(NamedTuple):
    """x0, y0, x1, y1 of its edges in pixels, which hand it is, and what it touches in words."""

    box: Float[np.ndarray, "4"]
    side: Side | None
    touched: str | None


class Doh100(HandDataset):
    """TFDS builder of 100DOH's 100,000 annotated frames."""

    FACTS = DatasetFacts(
        name="doh100",
        description="100,000 frames of films on YouTube with boxes of hands, their sides and what they touch.",
        homepage="https://fouheylab.eecs.umich.edu/~dandans/projects/100DOH/",
        licence="not stated with the data, whose site asks to agree to terms; the frames are of films on YouTube",
        citation="""@inproceedings{Shan20,
  author = {Shan, Dandan and Geng, Jiaqi and Shu, Michelle and Fouhey, David},
  title = {Understanding Human Hands in Contact at Internet Scale},
  booktitle = {CVPR},
  year = {2020},
}""",
        download="unpack pascal_voc_format.zip of https://github.com/ddshan/hand_object_detector and name its folder "
        "VOCdevkit2007_handobj_100K, which holds VOC2007",
        parts={"train": "trainval", "eval": "test"},
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads `ImageSets/Main/PART.txt`, a name a line, and the `Annotations` of frames that show a hand."""
        names = need_file(folder / _FOLDER / "ImageSets" / "Main" / f"{part}.txt", self.FACTS.download)
        for name in names.read_text().split():
            hands = _boxed_hands(folder / _FOLDER / "Annotations" / f"{name}.xml", self.FACTS.download)
            if hands:
                yield Sample(f"{part}/{name}", folder / _FOLDER / "JPEGImages" / f"{name}.jpg", hands)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The hands that were read where their boxes are; the others count as failures."""
        boxes = np.stack([hand.box for hand in sample.entry])
        readings = hand_detector().read(read_image(sample.picture), boxes=boxes)
        for number, (hand, reading) in enumerate(zip(sample.entry, readings, strict=True)):
            if _overlap(hand.box, reading.box) < _MIN_OVERLAP:
                detail = f"{sample.picture}: box {number}: no hand was read in it"
                self.failures.add(sample.picture, "no hand found", detail)
            else:
                yield found_hand(reading, hand.side, _caption(hand))


def _caption(hand: BoxedHand) -> str | None:
    return hand.touched and f"a photo of a {f'{hand.side} hand' if hand.side else 'hand'} touching {hand.touched}"


def _boxed_hands(path: Path, remedy: str) -> list[BoxedHand]:
    """Hands of an .xml file; objects are passed by."""
    try:
        root = ElementTree.fromstring(need_file(path, remedy).read_bytes())
        return [_boxed_hand(entry) for entry in root.iter("object") if entry.findtext("name", "").strip() == "hand"]
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no annotation of hands ({error}); {remedy}") from error


def _boxed_hand(entry: ElementTree.Element) -> BoxedHand:
    x0, y0, x1, y1 = (float(entry.findtext(f"bndbox/{name}", "")) for name in ("xmin", "ymin", "xmax", "ymax"))
    if not (x0 <= x1 and y0 <= y1):
        raise ValueError(f"a box of {x0}, {y0}, {x1}, {y1}")
    side, contact = (entry.findtext(name) or "None" for name in ("handside", "contactstate"))
    return BoxedHand(
        np.array([x0 - 1, y0 - 1, x1, y1]),
        side=None if side == "None" else _SIDES[int(float(side))],
        touched=None if contact == "None" else _TOUCHED[int(float(contact))],
    )


def _overlap(first: Float[np.ndarray, "4"], second: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = np.prod(sides.clip(min=0.0))
    return float(shared / (np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - shared))
