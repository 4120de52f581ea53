"""What became of the captions of a batch: how many are refined, and which a reader should look at."""

from collections import Counter
from typing import Any

from handjax.captioning.failures import BadAnswer, NoAnswer, NoHand
from handjax.captioning.refinement import REPAIRED, VALID
from handjax.hand.words import hand_words, told_by

KEPT_PLAIN = {
    NoAnswer.status: "the model did not answer",
    BadAnswer.status: "the answer was not the four fields",
    NoHand.status: "no hand was found",
}
MANY_WORDS = 55
"""Words of English that about fill the 75 tokens CLIP reads; what stands beyond them is lost."""


class ValidationReport:
    """Counts captions by status, and those without words on hands, over-long and absent ones."""

    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._without_hand_words = self._long = self._absent = 0

    def add(self, caption: str, status: str) -> None:
        """Counts one picture."""
        self._statuses[status] += 1
        self._without_hand_words += not hand_words(caption)
        self._long += len(caption.split()) > MANY_WORDS
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
            f"of more than {MANY_WORDS} words {counts['over_long']}, absent {counts['without_caption']}"
        )
