"""ASL alphabet: a hand making each letter of the American Sign Language's alphabet, before a webcam.

Layout as on Kaggle (grassknoted/asl-alphabet): asl_alphabet_train/asl_alphabet_train/LABEL/LABELn.jpg and, a picture a
label, asl_alphabet_test/asl_alphabet_test/LABEL_test.jpg, of 200 x 200 pixels. Labels are A to Z, del, space and
nothing, whose pictures show no hand and are left out. There are no keypoints: the hand detector finds the hand.
"""

from collections.abc import Iterator
from pathlib import Path

from data_pipelines.datasets.annotation import HandAnnotation, Sample
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.found import found_hand, hand_detector
from handjax.errors import InputError
from handjax.images import read_image

_LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MEANINGS = {"del": "delete", "space": "space"}
_NO_HAND = "nothing"


class AslAlphabet(HandDataset):
    """TFDS builder of the ASL alphabet."""

    FACTS = DatasetFacts(
        name="asl_alphabet",
        description="84,000 and 28 pictures of a hand that signs letters of the ASL alphabet, 200 x 200.",
        homepage="https://www.kaggle.com/datasets/grassknoted/asl-alphabet",
        licence="GPL 2 (Kaggle)",
        citation="""@misc{nagaraj2018asl,
  author = {Akash Nagaraj},
  title = {ASL Alphabet},
  year = {2018},
  publisher = {Kaggle},
  doi = {10.34740/KAGGLE/DSV/29550},
}""",
        download="unpack the archive of https://www.kaggle.com/datasets/grassknoted/asl-alphabet and name the folder "
        "that holds asl_alphabet_train and asl_alphabet_test",
        parts={"train": "asl_alphabet_train", "eval": "asl_alphabet_test"},
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Takes the label from the folder of a picture or, in the test, from its name."""
        place = folder / part / part
        labels = (*_LETTERS, *_MEANINGS)
        if part == "asl_alphabet_train":
            missing = [label for label in labels if not any((place / label).glob("*.jpg"))]
            if missing:
                raise InputError(f"{place / missing[0]}/*.jpg: missing; {self.FACTS.download}")
            paths = [(label, path) for label in labels for path in sorted((place / label).glob("*.jpg"))]
        else:
            paths = [(path.stem.removesuffix("_test"), path) for path in sorted(place.glob("*_test.jpg"))]
        paths = [(label, path) for label, path in paths if label in labels]
        if not paths:
            raise InputError(f"{place}/*_test.jpg: missing; {self.FACTS.download}")
        for label, path in paths:
            yield Sample(f"{part}/{path.stem}", path, label)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The surest hand that is found."""
        hands = hand_detector().detect(read_image(sample.picture))
        if not hands:
            self.failures.add(sample.picture, "no hand found", f"{sample.picture}: no hand found")
        for hand in hands[:1]:
            yield found_hand(hand, caption=f"a photo of a {hand.side} hand {_signing(sample.entry)}")


def _signing(label: str) -> str:
    if label in _MEANINGS:
        return f"signing {_MEANINGS[label]} in American Sign Language"
    return f"signing the letter {label} of the American Sign Language alphabet"
