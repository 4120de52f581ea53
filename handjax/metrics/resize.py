"""How the published figures bring pictures to Inception's size; another resize is another FID.

Source: Parmar et al. 2022, "On aliased resizing and surprising subtleties in GAN evaluation".
"""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from handjax.metrics.inception import SIZE


def resize_clean(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "299 299 3"]:
    """Pillow's antialiased bicubic filter on each channel in float32, cut off to [0, 255], not rounded.

    Source: clean-fid, mode "clean".
    """
    channels = [
        np.asarray(Image.fromarray(channel).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        for channel in np.moveaxis(image.astype(np.float32), -1, 0)
    ]
    return np.stack(channels, axis=-1).clip(0, 255)


def resize_tensorflow(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "299 299 3"]:
    """TensorFlow 1's bilinear filter, not antialiased; corners of pixels lie on corners.

    Source: TensorFlow 1's `tf.image.resize_bilinear(align_corners=False)`, as torch-fidelity has it.
    """
    columns = _between(np.swapaxes(image.astype(np.float32), 0, 1))
    return _between(np.swapaxes(columns, 0, 1))


def _between(image: Float[np.ndarray, "length across 3"]) -> Float[np.ndarray, "299 across 3"]:
    places = np.arange(SIZE, dtype=np.float32) * np.float32(len(image) / SIZE)
    before = places.astype(int)
    after = np.minimum(before + 1, len(image) - 1)
    share = (places - before)[:, None, None]
    return image[before] + (image[after] - image[before]) * share
