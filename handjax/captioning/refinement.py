"""The chain of the three steps, and what becomes of a picture where one of them fails."""

import dataclasses
import re
from collections.abc import Callable

from handjax.captioning.failures import Failure
from handjax.captioning.picture import Picture
from handjax.captioning.semantics import Semantics, parse

Captioner = Callable[[Picture], str]
"""Describes a picture in words: X_t = Captioner(X)."""
Extractor = Callable[[Picture, str], str]
"""Tells the four fields of a description as JSON: P = Extractor(X_t, P_e). A model is given the description only."""
Composer = Callable[[Semantics], str]
"""Makes one caption of the four fields: P_f = Composer(P)."""

VALID, REPAIRED = "valid", "repaired"


@dataclasses.dataclass(frozen=True)
class Refined:
    """A picture's caption.

    Attributes:
      caption: the composed one, or the plain one where a step failed; "" where there is no plain one either.
      status: "valid", "repaired" (the JSON was mended), or the status of the failure.
      reason: what failed; "" where nothing did.
      description: the captioner's words; "" where it failed.
      semantics: the four fields; None where a step failed, or none asks for them.
    """

    caption: str
    status: str
    reason: str = ""
    description: str = ""
    semantics: Semantics | None = None


@dataclasses.dataclass(frozen=True)
class Refinement:
    """Captions a picture by three steps; a failure keeps the plain caption and is told, never dropped.

    Attributes:
      captioner, extractor, composer: the steps.
      plain: gives the caption that is kept where one fails.

    Source: SesaHand, human behavior semantic refinement; DECISIONS D5.
    """

    captioner: Captioner
    extractor: Extractor
    composer: Composer
    plain: Captioner

    def __call__(self, picture: Picture) -> Refined:
        """Captions a picture. What a step raises beside a `Failure` is raised."""
        description = ""
        try:
            description = self.captioner(picture)
            semantics, mended = parse(self.extractor(picture, description))
            caption = self.composer(semantics)
        except Failure as failure:
            return Refined(self.plain(picture), failure.status, str(failure), description)
        return Refined(caption, REPAIRED if mended else VALID, "", description, semantics)


@dataclasses.dataclass(frozen=True)
class Answered:
    """Captions a picture by what a model says of it, in one step; a failure keeps the plain caption and is told.

    Attributes:
      captioner: the step.
      plain: gives the caption that is kept where it fails.

    Source: MMHMR, section H of the supplement.
    """

    captioner: Captioner
    plain: Captioner

    def __call__(self, picture: Picture) -> Refined:
        """Captions a picture. What the step raises beside a `Failure` is raised."""
        try:
            description = self.captioner(picture)
        except Failure as failure:
            return Refined(self.plain(picture), failure.status, str(failure))
        return Refined(" ".join(description.split()), VALID, "", description)


def compose(semantics: Semantics) -> str:
    """Makes each field that is not empty a sentence, the pose first and the environment last.

    A field that another one holds word for word is said once.
    """
    phrases = [phrase.rstrip(" .,;") for phrase in dataclasses.astuple(semantics)]
    kept = []
    for place, phrase in enumerate(phrases):
        others = phrases[:place] + [later for later in phrases[place:] if len(later) > len(phrase)]
        words = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)  # "reading" is not in "spreading"
        if phrase and not any(words.search(other) for other in others):
            kept.append(phrase)
    return " ".join(f"{phrase[0].upper()}{phrase[1:]}." for phrase in kept)
