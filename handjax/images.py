"""Pictures in and out: every format becomes uint8 RGB, and nothing is ever half-written."""

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from handjax.errors import InputError
from handjax.files import atomic_write

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_PIXELS = 100_000_000


def read_image(path: str | os.PathLike) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a picture as upright RGB.

    Args:
      path: a picture in any format Pillow reads.

    Returns:
      uint8 RGB; EXIF orientation applied, alpha over white, first frame of an animation.

    Raises:
      InputError: the file is missing, unreadable, empty, truncated, not a picture, or larger than `MAX_PIXELS`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a picture")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes an encoded picture as upright RGB; `name` says in errors where it came from. Raises as `read_image`."""
    if not data:
        raise InputError(f"{name}: the file is empty; replace or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise InputError(
                f"{name}: {image.width}x{image.height} pixels are more than {MAX_PIXELS:,}; scale it down first"
            )
        image = ImageOps.exif_transpose(image)
        return np.asarray(_to_rgb(image))
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: the picture is far too large ({error}); scale it down first") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not a picture; give JPEG, PNG, WebP, BMP, TIFF or GIF") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{name}: the picture is damaged ({error}); replace it") from error


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
    with Image.open(path) as animation:
        for number in range(1, getattr(animation, "n_frames", 1)):
            try:
                animation.seek(number)
                frame = np.asarray(_to_rgb(ImageOps.exif_transpose(animation)))
            except (OSError, SyntaxError, ValueError, EOFError) as error:
                raise InputError(f"{path}: frame {number} is damaged ({error}); replace the file") from error
            yield frame


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        scale = 257.0 if values.max(initial=0) > 255 else 1.0
        image = Image.fromarray(np.clip(values / scale, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba)
    return image.convert("RGB")


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
    with Image.open(path) as image:
        return image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None


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
      InputError: an input does not exist, or a folder holds no picture.
    """
    found: list[Path] = []
    for item in map(Path, inputs):
        if item.is_dir():
            inside = sorted(p for p in item.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not inside:
                raise InputError(f"{item}: the folder holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
            found += inside
        elif item.exists():
            found.append(item)
        else:
            raise InputError(f"{item}: no such file or folder")
    return found
