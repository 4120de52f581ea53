"""The pictures of a study: found, checked, and named by tokens that tell nothing of where they come from."""

import dataclasses
import functools
import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from handjax.errors import InputError
from handjax.images import encode_png, find_images, read_image, resize


@dataclasses.dataclass(frozen=True)
class StudyPicture:
    """One picture.

    Attributes:
      token: its name on the page.
      condition: the folder it is of, as the user called it.
      name: its path in the folder without suffix; pictures of one name are shown side by side.
      path: of the file.
      sha256: of the file's content.
    """

    token: str
    condition: str
    name: str
    path: str
    sha256: str


def find_pictures(folders: Mapping[str, Path], secret: str) -> list[StudyPicture]:
    """Lists the pictures of all folders.

    Args:
      folders: condition → folder.
      secret: of the study; tokens depend on it, so that nobody can tell them from the files.

    Raises:
      InputError: a folder holds no pictures, two of one name, or one that cannot be read.
    """
    pictures = []
    for condition, folder in folders.items():
        names: dict[str, Path] = {}
        for path in find_images([folder]):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in names:
                raise InputError(f"{path}: of the same name as {names[name]}; remove one of them")
            names[name] = path
            token = hmac.new(secret.encode(), f"{condition}\0{name}".encode(), hashlib.sha256).hexdigest()[:24]
            pictures.append(StudyPicture(token, condition, name, str(path.resolve()), file_hash(path)))
    return pictures


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); the study needs every picture") from error


def check_pictures(pictures: list[StudyPicture]) -> str | None:
    """Reads every picture, so that a damaged one is found before any rater sees it.

    Returns:
      A warning where the conditions have pictures of other shapes, by which a rater could tell them apart.
    """
    shapes: dict[str, set[float]] = {}
    for picture in tqdm(pictures, "check", unit="picture", disable=None):
        height, width = read_image(picture.path).shape[:2]
        shapes.setdefault(picture.condition, set()).add(round(width / height, 2))
    if len(set(map(frozenset, shapes.values()))) < 2:
        return None
    told = "; ".join(f"{condition} {', '.join(map(str, sorted(of)[:4]))}" for condition, of in shapes.items())
    return f"the folders differ in width over height ({told}): raters may tell them apart; crop them alike"


@functools.lru_cache(maxsize=64)
def encode_picture(path: str, side: int) -> bytes:
    """The picture as all are shown: its longer side scaled to `side` pixels, as PNG without a word about itself."""
    image = read_image(path)
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return encode_png(resize(image, (height, width)))
