"""What a rater is shown, in an order of the rater's own."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from handjax.errors import InputError
from launch.study.pictures import StudyPicture

JUDGE, PREFER, RATE = "judge", "prefer", "rate"
TASKS = (JUDGE, PREFER, RATE)
REAL, GENERATED, NO_DIFFERENCE = "real", "generated", "none"
RATINGS = ("1", "2", "3", "4", "5")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a study asks.

    Attributes:
      real: the condition of photographs; None where there is none.
      tasks: of `TASKS`, in the order in which they are set.
      trials: of each task, for each rater, where there are pictures enough.
      seed: of the raters' orders.
      side: pixels of the longer side of a shown picture.
    """

    real: str | None
    tasks: tuple[str, ...]
    trials: int
    seed: int
    side: int


@dataclasses.dataclass(frozen=True)
class Trial:
    """One question: the task, and the tokens of the pictures in their order on the page."""

    number: int
    task: str
    shown: tuple[str, ...]

    def answers(self) -> tuple[str, ...]:
        """What can be answered."""
        if self.task == JUDGE:
            return REAL, GENERATED
        return RATINGS if self.task == RATE else (*self.shown, NO_DIFFERENCE)


def common_names(pictures: Sequence[StudyPicture], real: str | None) -> list[str]:
    """The names that all generated conditions have.

    Raises:
      InputError: there are none, or fewer than two such conditions: nothing can be preferred.
    """
    names: dict[str, set[str]] = {}
    for picture in pictures:
        if picture.condition != real:
            names.setdefault(picture.condition, set()).add(picture.name)
    common = sorted(set.intersection(*names.values())) if len(names) > 1 else []
    if not common:
        raise InputError(
            "--tasks prefer shows pictures of one name from two or more generated folders, and there are none; "
            "name them alike, or give --tasks judge,rate"
        )
    return common


def plan(pictures: Sequence[StudyPicture], settings: Settings, rater: str) -> list[Trial]:
    """Draws a rater's trials; the same rater always gets the same ones.

    Single pictures are spread evenly over the conditions.
    """
    digest = hashlib.sha256(f"{settings.seed}\0{rater}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    by_condition: dict[str, dict[str, str]] = {}
    for picture in pictures:
        by_condition.setdefault(picture.condition, {})[picture.name] = picture.token
    shown: list[tuple[str, tuple[str, ...]]] = []
    for task in settings.tasks:
        if task == PREFER:
            names = rng.permutation(common_names(pictures, settings.real))[: settings.trials]
            generated = [tokens for condition, tokens in by_condition.items() if condition != settings.real]
            for name in names:
                shown.append((task, tuple(str(t) for t in rng.permutation([tokens[name] for tokens in generated]))))
        else:
            tokens = _spread(rng, [list(named.values()) for named in by_condition.values()], settings.trials)
            shown += [(task, (token,)) for token in tokens]
    return [Trial(number, task, tokens) for number, (task, tokens) in enumerate(shown)]


def _spread(rng: np.random.Generator, conditions: list[list[str]], count: int) -> list[str]:
    """Draws `count` tokens without repetition, as many of each condition as of any other, in random order."""
    turns = [[str(token) for token in rng.permutation(tokens)] for tokens in conditions]
    turns = [turns[place] for place in rng.permutation(len(turns))]
    drawn = [tokens[turn] for turn in range(max(map(len, turns))) for tokens in turns if turn < len(tokens)][:count]
    return [str(token) for token in rng.permutation(drawn)]
