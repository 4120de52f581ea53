"""Pictures in [0, 1] as the encoded bytes that records hold."""

import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from handjax.images import encode_png

# 4:4:4 at 95: no visible difference from the original, at a sixth of a PNG's size
JPEG_QUALITY = 95


def to_bytes(picture: Float[np.ndarray, "height width *channels"]) -> UInt8[np.ndarray, "height width *channels"]:
    """Rounds [0, 1] to 0..255."""
    return np.round(np.clip(picture, 0.0, 1.0) * 255).astype(np.uint8)


def png(picture: Float[np.ndarray, "height width *channels"]) -> bytes:
    """Encodes a condition picture without loss beyond its 8 bits."""
    return encode_png(to_bytes(picture))


def jpeg(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Encodes a photo or a rendering."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
