"""Which records train, are held out and lie together: decided by name, so that it holds when the data set grows."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")
EVAL_FRACTION = 0.1
_DIGITS = 15


def split_names(names: Iterable[str], eval_fraction: float = EVAL_FRACTION) -> dict[str, list[str]]:
    """Divides names into "train" and "eval".

    Args:
      names: of pictures, not of hands: two hands of one picture must not be on both sides.
      eval_fraction: expected share that is held out. Above 0, two or more names hold out at least one.

    Returns:
      Split → names in their given order; empty splits are left out.
    """
    place = {name: int(_digits(name)[:_DIGITS], 16) / 16**_DIGITS for name in names}
    held_out = {name for name in place if place[name] < eval_fraction}
    if not held_out and eval_fraction > 0 and len(place) > 1:
        held_out = {min(place, key=place.__getitem__)}
    splits = {
        "train": [name for name in place if name not in held_out],
        "eval": [name for name in place if name in held_out],
    }
    return {split: members for split, members in splits.items() if members}


def draw_names(names: Iterable[str], count: int, seed: int) -> list[str]:
    """Draws names at random, without replacement.

    Args:
      names: all of them, each once.
      count: how many to draw; all of them where there are fewer.
      seed: of the draw. A smaller count draws some of the same names, and whether one of two names comes first does not
        depend on the others, so a data set that lacks a few pictures gives nearly the same draw.

    Returns:
      The names drawn, in their given order.
    """
    listed = list(names)
    drawn = set(sorted(listed, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:count])
    return [name for name in listed if name in drawn]


def spread_names(names: Iterable[str], count: int) -> list[list[str]]:
    """Spreads names over `count` parts of about the same size; which one a name is in depends on no other name."""
    parts: list[list[str]] = [[] for _ in range(count)]
    for name in names:
        parts[int(_digits(name)[_DIGITS : 2 * _DIGITS], 16) * count // 16**_DIGITS].append(name)
    return parts


def _digits(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def drop_empty(splits: Mapping[str, Iterator[T]]) -> dict[str, Iterator[T]]:
    """Leaves out splits that yield nothing, which TFDS cannot write."""
    kept: dict[str, Iterator[T]] = {}
    for split, examples in splits.items():
        for first in itertools.islice(examples, 1):
            kept[split] = itertools.chain([first], examples)
    return kept
