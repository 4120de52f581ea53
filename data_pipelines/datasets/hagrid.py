"""HaGRID: people before their own cameras, showing gestures, with MediaPipe's landmarks.

Layout and meaning of both versions are those of the authors' repository (github.com/hukenovs/hagrid): of the first, the
branch Hagrid_v1 (README, section Annotations; converters/converter_config.yaml and hagrid_to_yolo.py for the folders);
of the second, README of master. Landmarks are in OpenPose's order and relative to the picture's width and height,
which counts the left edge as 0, as here. Where MediaPipe found no hand their list is empty.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.datasets.annotation import HandAnnotation, Sample, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import read_json
from handjax.errors import InputError
from handjax.hand.describe import with_article
from handjax.record import Side

_HOMEPAGE = "https://github.com/hukenovs/hagrid"
_LICENCE = "a variant of CC BY-SA 4.0, see license/en_us.pdf of https://github.com/hukenovs/hagrid"
_NO_GESTURE = "no_gesture"
_OTHER: dict[str, Side] = {"left": "right", "right": "left"}


class Hagrid(HandDataset):
    """TFDS builder of the first version, 18 gestures, which says with which hand the gesture is made."""

    FACTS = DatasetFacts(
        name="hagrid",
        description="552,992 pictures of 34,730 people making 18 gestures, Full HD, with MediaPipe's landmarks.",
        homepage=_HOMEPAGE,
        licence=_LICENCE,
        citation="""@inproceedings{Kapitanov_2024_WACV,
  author = {Alexander Kapitanov and Karina Kvanchiani and Alexander Nagaev and Roman Kraynov and Andrei Makhliarchuk},
  title = {HaGRID -- HAnd Gesture Recognition Image Dataset},
  booktitle = {Winter Conference on Applications of Computer Vision (WACV)},
  year = {2024},
  pages = {4572-4581},
}""",
        download="get annotations and one archive or more of pictures from the branch Hagrid_v1 of "
        "https://github.com/hukenovs/hagrid and name the folder that holds annotations/PART/GESTURE.json and "
        "dataset/PART/GESTURE/*.jpg for the parts train and test",
        parts={"train": "train", "eval": "test"},
        paper_eval=("eval", 12_000),
    )
    ANNOTATIONS, PICTURES, LANDMARKS = "annotations/{part}", "dataset/{part}", "landmarks"

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads the annotations of each gesture whose pictures are there, because each has its own archive."""
        annotations, pictures = (folder / form.format(part=part) for form in (self.ANNOTATIONS, self.PICTURES))
        files = sorted(annotations.glob("*.json"))
        if not files:
            raise InputError(f"{annotations}/*.json: missing; {self.FACTS.download}")
        files = [file for file in files if (pictures / file.stem).is_dir()]
        if not files:
            raise InputError(f"{pictures}/GESTURE: missing for every gesture; {self.FACTS.download}")
        for file in files:
            for name, entry in read_json(file, self.FACTS.download).items():
                if len(entry.get(self.LANDMARKS, ())) != len(entry["labels"]):
                    raise InputError(f"{file}: {name} has not one of {self.LANDMARKS} a label; {self.FACTS.download}")
                yield Sample(f"{part}/{file.stem}/{name}", pictures / file.stem / f"{name}.jpg", entry)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """All hands with a box, those that MediaPipe did not find without any keypoint."""
        entry = sample.entry
        for label, landmarks in zip(entry["labels"], entry[self.LANDMARKS], strict=True):
            points = np.array(landmarks) * [size[1], size[0]] if landmarks else np.full((21, 2), np.nan)
            side = _side(entry, label)
            yield HandAnnotation(
                keypoints_2d=with_confidence(points, 1.0 if landmarks else 0.0),
                side=side,
                caption=_caption(label, side),
            )


class HagridV2(Hagrid):
    """TFDS builder of the second version, 33 gestures, of one or two hands that have no name."""

    FACTS = DatasetFacts(
        name="hagrid_v2",
        description="1,086,158 pictures of 65,977 people making 33 gestures, Full HD, with MediaPipe's landmarks.",
        homepage=_HOMEPAGE,
        licence=_LICENCE,
        citation="""@misc{nuzhdin2024hagridv2,
  author = {Anton Nuzhdin and Alexander Nagaev and Alexander Sautin and Alexander Kapitanov and Karina Kvanchiani},
  title = {HaGRIDv2: 1M Images for Static and Dynamic Hand Gesture Recognition},
  year = {2024},
  eprint = {2412.01508},
  archivePrefix = {arXiv},
}""",
        download="get annotations_with_landmarks/annotations.zip and one archive or more of pictures from "
        "https://github.com/hukenovs/hagrid and name the folder that holds hagrid_annotations/PART/GESTURE.json for "
        "the parts train, val and test, and hagrid_dataset/GESTURE/*.jpg",
        parts={"train": "train", "val": "val", "eval": "test"},
        paper_eval=("eval", 12_000),
    )
    ANNOTATIONS, PICTURES, LANDMARKS = "hagrid_annotations/{part}", "hagrid_dataset", "hand_landmarks"


def _side(entry: dict, label: str) -> Side | None:
    """The leading hand makes the gesture and the other one none; with two gestures it is not said which is which."""
    leading = entry.get("leading_hand")
    gestures = [other for other in entry["labels"] if other != _NO_GESTURE]
    if leading not in _OTHER or len(gestures) != 1 or len(entry["labels"]) > 2:
        return None
    return _OTHER[leading] if label == _NO_GESTURE else _OTHER[_OTHER[leading]]


def _caption(label: str, side: Side | None) -> str | None:
    """Names the gesture; a hand that makes none is described by its shape, as everywhere."""
    if label == _NO_GESTURE:
        return None
    return f"a photo of {with_article(f'{side} hand' if side else 'hand')} making the gesture {label.replace('_', ' ')}"
