"""Where the captions of photos come from: files beside them or of `launch.caption`, their folder, the hand's pose."""

import csv
import dataclasses
import json
import os
import string
from collections.abc import Iterable
from pathlib import Path

from handjax.errors import InputError
from handjax.hand.describe import with_article
from handjax.record import Side

DEFAULT_TEMPLATE = "a photo of {hand}"
_FIELDS = {"caption", "folder", "hand", "side"}


@dataclasses.dataclass(frozen=True)
class Captions:
    """Writes the caption of each hand.

    Attributes:
      given: path relative to the photos' folder → caption.
      template: text in which {caption} is the given caption, {folder} the name of the photo's folder, {side} left or
        right and {hand} the hand in words, as "an open left hand, all fingers extended". None is the given caption, and
        "a photo of {hand}" for photos without one.
    """

    given: dict[str, str]
    template: str | None = None

    @classmethod
    def load(
        cls, folder: Path, template: str | None = None, refined: Path | None = None, subfolders: bool = True
    ) -> "Captions":
        """Reads captions.json ({path: caption}), captions.csv (path,caption) and photo.txt beside photo.jpg.

        Args:
          folder: of the photos.
          template: see `Captions`.
          refined: a file of `launch.caption`, whose captions take the place of the others.
          subfolders: whether to look for photo.txt in them too.

        Raises:
          InputError: a file that cannot be read as that, or a template with other fields.
        """
        _check_template(template)
        texts = folder.rglob("*.txt") if subfolders else folder.glob("*.txt")
        given = {path.relative_to(folder).with_suffix("").as_posix(): _read(path) for path in texts}
        if (folder / "captions.csv").is_file():
            given |= _read_csv(folder / "captions.csv")
        if (folder / "captions.json").is_file():
            given |= _read_json(folder / "captions.json")
        if refined:
            given |= read_refined(refined, folder)
        return cls(given, template)

    def given_to(self, name: str) -> str:
        """Returns the given caption of a photo, named relative to the photos' folder; "" where there is none."""
        return self.given.get(name, self.given.get(Path(name).with_suffix("").as_posix(), ""))

    def write(self, photo: Path, folder: Path, hand: str, side: Side) -> str:
        """Gives the caption of a hand.

        Args:
          photo: path of the photo.
          folder: of all photos.
          hand: the hand in words, without article.
          side: which hand it is.
        """
        given = self.given_to(photo.relative_to(folder).as_posix())
        template = self.template or ("{caption}" if given else DEFAULT_TEMPLATE)
        return template.format(caption=given, folder=photo.parent.name, hand=with_article(hand), side=side)


def _check_template(template: str | None) -> None:
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template or "") if name is not None}
    except ValueError as error:
        raise InputError(f"caption {template!r}: {error}; its fields are {_named(_FIELDS)}") from error
    if fields - _FIELDS:
        raise InputError(f"caption {template!r}: no field {_named(fields - _FIELDS)}; there are {_named(_FIELDS)}")


def _named(fields: Iterable[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in sorted(fields))


def _read(path: Path) -> str:
    return " ".join(_decode(path).split())


def _decode(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8 ({error}); save it as UTF-8") from error


def _read_csv(path: Path) -> dict[str, str]:
    rows = list(csv.reader(_decode(path).splitlines()))
    if any(len(row) != 2 for row in rows if row):
        raise InputError(f"{path}: every line needs two columns, the photo's path and its caption")
    return {row[0]: row[1] for row in rows if row}


def _read_json(path: Path) -> dict[str, str]:
    try:
        captions = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(captions, dict) or not all(isinstance(text, str) for text in captions.values()):
        raise InputError(f"{path}: must be one object that maps a photo's path to its caption")
    return captions


def read_refined(path: Path, folder: Path) -> dict[str, str]:
    """Reads a file of `launch.caption`: JSON lines, whose paths are relative to it.

    Returns:
      The captions of photos in the folder, whose paths are relative to that.

    Raises:
      InputError: it cannot be read as that, or has no caption of such a photo.
    """
    captions = {}
    try:
        for line in path.read_text("utf-8").splitlines():
            entry = json.loads(line)
            photo = Path(os.path.normpath(path.resolve().parent / entry["input"]))
            if photo.is_relative_to(folder.resolve()):
                captions[photo.relative_to(folder.resolve()).as_posix()] = str(entry["caption"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file of launch.caption") from error
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: not the captions that launch.caption writes; make the file with it") from error
    if not captions:
        raise InputError(f"{path}: has no caption of a photo in {folder}; run launch.caption on that folder")
    return captions
