"""Which records train, are held out and lie together: decided by name, so that it holds when the data set grows."""

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")
EVAL_FRACTION = 0.1
_DIGITS = 15
_ESTIMATE = re.compile(r"-t\d+(?=\.[^./]*$)")


def estimate_name(picture: str, timestep: float) -> str:
    """Names what a model saw at a timestep on its way to a picture: "hand.png" gives "hand-t150.png"."""
    stem, dot, suffix = picture.rpartition(".")
    return f"{stem}-t{timestep:.0f}{dot}{suffix}"


def picture_of(name: str) -> str:
    """The picture that an estimate leads to; every other name is its own."""
    return _ESTIMATE.sub("", name)


def split_names(names: Iterable[str], eval_fraction: float = EVAL_FRACTION) -> dict[str, list[str]]:
    """Divides names into "train" and "eval".

    Args:
      names: of pictures, not of hands: two hands of one picture must not be on both sides, nor a picture and what
        the model saw on its way to it (`estimate_name`).
      eval_fraction: expected share that is held out. Above 0, two or more names hold out at least one.

    Returns:
      Split → names in their given order; empty splits are left out.
    """
    pictures = {name: picture_of(name) for name in names}
    place = {picture: int(_digits(picture)[:_DIGITS], 16) / 16**_DIGITS for picture in pictures.values()}
    held_out = {picture for picture in place if place[picture] < eval_fraction}
    if not held_out and eval_fraction > 0 and len(place) > 1:
        held_out = {min(place, key=place.__getitem__)}
    splits = {
        "train": [name for name, picture in pictures.items() if picture not in held_out],
        "eval": [name for name, picture in pictures.items() if picture in held_out],
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
