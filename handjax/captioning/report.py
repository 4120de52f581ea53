"""What became of the captions of a batch: how many are refined, and which a reader should look at."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from handjax.captioning.failures import BadAnswer, NoAnswer, NoHand
from handjax.captioning.refinement import REPAIRED, VALID
from handjax.hand.words import hand_words, told_by

KEPT_PLAIN = {
    NoAnswer.status: "the model did not answer",
    BadAnswer.status: "the answer was not the four fields",
    NoHand.status: "no hand was found",
}


class Length(NamedTuple):
    """How long a caption may be; what stands beyond that, a text encoder does not read.

    Attributes:
      most: so many units.
      unit: of `count`.
      count: the length of a caption.
    """

    most: int
    unit: str
    count: Callable[[str], int]

    def __str__(self) -> str:
        return f"{self.most} {self.unit}"


ABOUT_CLIPS = Length(55, "words", lambda caption: len(caption.split()))
"""Words of English that about fill the 75 tokens CLIP reads."""


class ValidationReport:
    """Counts captions by status, and those without words on hands, over-long and absent ones."""

    def __init__(self, length: Length = ABOUT_CLIPS) -> None:
        self._length = length
        self._statuses: Counter[str] = Counter()
        self._without_hand_words = self._long = self._absent = 0

    def add(self, caption: str, status: str) -> None:
        """Counts one picture."""
        self._statuses[status] += 1
        self._without_hand_words += not hand_words(caption)
        self._long += self._length.count(caption) > self._length.most
        self._absent += not caption

    def summary(self) -> dict[str, Any]:
        """The counts: `pictures` is `valid` + `repaired` + `kept_plain`; the others overlap with these."""
        reasons = {status: self._statuses[status] for status in KEPT_PLAIN}
        return {
            "pictures": self._statuses.total(),
            "valid": self._statuses[VALID],
            "repaired": self._statuses[REPAIRED],
            "kept_plain": sum(reasons.values()),
            "kept_plain_because": reasons,
            "without_hand_words": self._without_hand_words,
            "hand_words_by": told_by(),
            "over_long": self._long,
            "over_long_above": str(self._length),
            "without_caption": self._absent,
        }

    def lines(self) -> str:
        """The counts for people."""
        counts = self.summary()
        because = "; ".join(f"{n}: {KEPT_PLAIN[status]}" for status, n in counts["kept_plain_because"].items() if n)
        return (
            f"{counts['pictures']} pictures: {counts['valid']} valid, {counts['repaired']} repaired, "
            f"{counts['kept_plain']} kept plain{f' ({because})' if because else ''}\n"
            f"captions without words on hands (by {counts['hand_words_by']}) {counts['without_hand_words']}, "
            f"of more than {self._length} {counts['over_long']}, absent {counts['without_caption']}"
        )
