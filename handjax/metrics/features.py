"""Features of pictures, for distances between sets of them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from handjax.errors import InputError
from handjax.images import read_image
from handjax.perception.efficientnet import EfficientNetLite0, load_params, normalised, square

BATCH = 32


@dataclass(frozen=True)
class FeatureExtractor:
    """What turns pictures into features.

    Args:
        name: stands behind the names of distances.
        prepare: brings a picture of any size to the one that `extract` takes.
        extract: features of prepared pictures.
    """

    name: str
    prepare: Callable[[UInt8[np.ndarray, "height width 3"]], UInt8[np.ndarray, "size size 3"]]
    extract: Callable[[UInt8[np.ndarray, "batch size size 3"]], Float[Array, "batch features"]]


def effnet_lite0() -> FeatureExtractor:
    """The 1280 features that EfficientNet-Lite0 classifies ImageNet by.

    Raises:
        BackendError: the package that carries the weights is not installed.
        WeightsError: its file is missing or damaged.
    """
    network, params = EfficientNetLite0(), jax.device_put(load_params())
    features = jax.jit(lambda params, images: network.apply(params, normalised(images))[0])
    return FeatureExtractor("EffNet-Lite0", square, lambda images: features(params, images))


def picture_features(
    paths: Sequence[Path], extractor: FeatureExtractor
) -> Iterator[tuple[Path, Float[np.ndarray, " features"] | InputError]]:
    """Yields each path in order with the features of its picture, or why it cannot be read.

    Pictures are read beside the network, a batch ahead.
    """

    def read(path: Path) -> UInt8[np.ndarray, "size size 3"] | InputError:
        try:
            return extractor.prepare(read_image(path))
        except InputError as error:
            return error

    with ThreadPoolExecutor() as pool:
        ahead = pool.map(read, paths[:BATCH])
        for end in range(BATCH, len(paths) + BATCH, BATCH):
            results, ahead = list(ahead), pool.map(read, paths[end : end + BATCH])
            pictures = [result for result in results if not isinstance(result, InputError)]
            features = iter(_features(pictures, extractor))
            for path, result in zip(paths[end - BATCH : end], results, strict=True):
                yield path, result if isinstance(result, InputError) else next(features)


def _features(pictures: list[UInt8[np.ndarray, "size size 3"]], extractor: FeatureExtractor) -> np.ndarray:
    """Features of up to `BATCH` pictures; the batch is filled up, so that there is one program."""
    if not pictures:
        return np.empty((0, 0), np.float32)
    filled = np.stack([*pictures, *[pictures[0]] * (BATCH - len(pictures))])
    return np.asarray(extractor.extract(filled))[: len(pictures)]
