"""Pictures in and out: every format becomes uint8 RGB, and nothing is ever half-written."""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from handjax.errors import InputError
from handjax.files import atomic_write

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
# Those of the suffixes. Pillow reads more, some by starting other programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})
"""Of files that hold a clip which nothing here decodes."""
MAX_PIXELS = 100_000_000
"""Decoding takes up to 14 bytes a pixel, of WebP 22: at most 1.4 and 2.1 GiB."""
_File = io.BytesIO | io.BufferedReader
# What Pillow's readers raise on damaged data.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)


def read_image(path: str | os.PathLike) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a picture as upright RGB.

    Args:
      path: a JPEG, PNG, WebP, BMP, TIFF or GIF file.

    Returns:
      uint8 RGB; EXIF orientation applied, alpha over white, the high bytes of 16-bit values, first frame of an
      animation.

    Raises:
      InputError: the file is missing, not to be read, empty, truncated, not a picture, or larger than `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: a folder, not a picture; give the path of a picture")
        if not path.is_file():
            raise InputError(f"{path}: no such file; give the path of a picture")
        with path.open("rb") as file:
            return _decode(file, str(path))
    except OSError as error:
        raise _unreadable(path, error) from error


def decode_image(data: bytes, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes an encoded picture as upright RGB; `name` says in errors where it came from. Raises as `read_image`."""
    return _decode(io.BytesIO(data), name)


def _decode(file: _File, name: str) -> UInt8[np.ndarray, "height width 3"]:
    if not file.seek(0, os.SEEK_END):
        raise InputError(f"{name}: the file is empty; replace or remove it")
    file.seek(0)
    try:
        image = _open(file)
        if image.width * image.height > MAX_PIXELS:
            raise InputError(
                f"{name}: {image.width}x{image.height} pixels are more than {MAX_PIXELS:,}; scale it down first"
            )
        return np.asarray(_to_rgb(image))
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: its pixels are more than {MAX_PIXELS:,}; scale it down first") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: {_what_to_give(name)}") from error
    except _DAMAGE as error:
        raise InputError(f"{name}: the picture is damaged ({error}); replace it") from error


def _what_to_give(name: str) -> str:
    if Path(name).suffix.lower() in VIDEO_SUFFIXES:
        return "a video is read as a folder of its frames; make one, by `ffmpeg -i VIDEO frames/%06d.png`"
    return "not a picture; give JPEG, PNG, WebP, BMP, TIFF or GIF"


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({error.strerror}); give a picture that you may read")


def _open(file: _File | Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `MAX_PIXELS` is ours
        return Image.open(file, formats=FORMATS)


def read_frames(path: str | os.PathLike) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Reads a clip one frame at a time, as upright RGB.

    Args:
      path: an animated picture (GIF, WebP, APNG), or a folder of frames that is read by name.

    Raises:
      InputError: as `read_image` and `find_images`, for each frame when it is read.
    """
    path = Path(path)
    if path.is_dir():
        yield from map(read_image, find_images([path]))
        return
    yield read_image(path)
    with _open(path) as animation:
        for number in range(1, getattr(animation, "n_frames", 1)):
            try:
                animation.seek(number)
                frame = np.asarray(_to_rgb(animation.copy()))
            except _DAMAGE as error:
                raise InputError(f"{path}: frame {number} is damaged ({error}); replace the file") from error
            yield frame


def _to_rgb(image: Image.Image) -> Image.Image:
    """Turns a picture upright, in place, and returns it as RGB; of its own pixels as few copies as can be."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise ValueError("its values are floating-point; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = Image.fromarray(_high_bytes(np.asarray(image)))
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _high_bytes(values: Integer[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    if values.min(initial=0) < 0 or values.max(initial=0) >= 2**16:
        raise ValueError("its values are not of 16 bits; save it with 8 or 16 bits")
    return (values >> 8).astype(np.uint8)


def resize(
    image: UInt8[np.ndarray, "height width channels"], size: tuple[int, int]
) -> UInt8[np.ndarray, "new_height new_width channels"]:
    """Resizes with Pillow's antialiased bicubic filter to `size` = (height, width)."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def encode_png(image: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    """Encodes uint8 grey [h, w] or RGB [h, w, 3] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def color_profile(path: str | os.PathLike) -> bytes | None:
    """Returns the ICC profile of a picture's RGB, for `write_image`; `read_image` gives the values as they are."""
    with _open(Path(path)) as image:
        return image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None


def read_text(path: str | os.PathLike) -> dict[str, str]:
    """What a PNG file says of itself, by keyword: the `text` of `write_image`; nothing for other formats."""
    with _open(Path(path)) as image:
        return {key: value for key, value in getattr(image, "text", {}).items() if isinstance(value, str)}


def write_image(
    path: str | os.PathLike,
    image: UInt8[np.ndarray, "height width *channels"],
    profile: bytes | None = None,
    text: Mapping[str, str] | None = None,
) -> None:
    """Writes a picture, format by suffix, atomically.

    Args:
      path: the file.
      image: grey or RGB.
      profile: how its values look (ICC).
      text: what a PNG file says of itself, by keyword.
    """
    chunks = PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_text(keyword, value)
    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary, icc_profile=profile, pnginfo=chunks)


def find_images(inputs: Iterable[str | os.PathLike]) -> list[Path]:
    """Expands files and folders (searched recursively, sorted) into picture paths.

    Files are taken as they are named, so that an unreadable one is reported and not skipped.

    Raises:
      InputError: an input does not exist or cannot be read, or a folder holds no picture.
    """
    found: list[Path] = []
    for item in map(Path, inputs):
        try:
            found += _pictures_in(item) if item.is_dir() else [item]
            if not item.exists():
                raise InputError(f"{item}: no such file or folder")
        except OSError as error:
            raise _unreadable(item, error) from error
    return found


def _pictures_in(folder: Path) -> list[Path]:
    inside = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not inside:
        raise InputError(f"{folder}: the folder holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return inside
