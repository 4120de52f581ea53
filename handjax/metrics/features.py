"""Features of pictures, for distances between sets of them."""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Num, UInt8

from handjax.errors import ConfigError, InputError
from handjax.images import read_image
from handjax.metrics.inception import InceptionV3, load_inception
from handjax.metrics.resize import resize_clean, resize_tensorflow
from handjax.perception.efficientnet import EfficientNetLite0, load_params, normalised, square

BATCH = 32
"""Pictures that go to all devices together, while as many are read."""
IN_CACHE = 4
"""Pictures of a batch that a CPU takes at once at most, so that maps stay in cache."""
RESIZES = {"clean-fid": resize_clean, "torch-fidelity": resize_tensorflow}
EXTRACTORS = ("effnet-lite0", *(f"inception:{resize}" for resize in RESIZES))


@dataclass(frozen=True)
class FeatureExtractor:
    """What turns pictures into features.

    Args:
        name: stands behind the names of distances.
        prepare: brings a picture of any size to the one that `extract` takes.
        extract: features of prepared pictures, in batches that all devices can share evenly.
        frechet: how the Fréchet distance of these features is called.
        classes: matrix that takes features to logits of classes; None where no Inception score is known of them.
    """

    name: str
    prepare: Callable[[UInt8[np.ndarray, "height width 3"]], Num[np.ndarray, "size size 3"]]
    extract: Callable[[Num[np.ndarray, "batch size size 3"]], Float[Array, "batch features"]]
    frechet: str = "FD"
    classes: Float[np.ndarray, "features classes"] | None = None


def make_extractor(name: str, inception_weights: Path | None = None) -> FeatureExtractor:
    """Makes one of `EXTRACTORS`.

    Args:
        name: "inception" is followed by the library whose resize it takes.
        inception_weights: the published weights; for Inception only.

    Raises:
        ConfigError: no such name, or weights that are missing or not used.
        BackendError: a package that it needs is not installed.
        WeightsError: weights that are missing or damaged.
    """
    network, _, resize = name.partition(":")
    if name not in EXTRACTORS:
        raise ConfigError(f"extractor {name!r} is unknown; use one of {', '.join(EXTRACTORS)}")
    if (network == "inception") != (inception_weights is not None):
        raise ConfigError("Inception-v3, and nothing else, needs --inception-weights FILE")
    return effnet_lite0() if inception_weights is None else inception(inception_weights, resize)


def inception(weights: Path, resize: str) -> FeatureExtractor:
    """The 2048 features of FID's Inception-v3, whose Fréchet distance is FID.

    Args:
        weights: the published file (`load_inception`).
        resize: a name of `RESIZES`.

    Raises:
        WeightsError: the file is missing, damaged or of another network.
    """
    params, classes = load_inception(weights)
    name = f"Inception-v3, {resize}'s resize"
    return FeatureExtractor(name, RESIZES[resize], _over_devices(InceptionV3().apply, params), "FID", classes)


def effnet_lite0() -> FeatureExtractor:
    """The 1280 features that EfficientNet-Lite0 classifies ImageNet by.

    Raises:
        BackendError: the package that carries the weights is not installed.
        WeightsError: its file is missing or damaged.
    """
    network = EfficientNetLite0()
    extract = _over_devices(lambda params, images: network.apply(params, normalised(images))[0], load_params())
    return FeatureExtractor("EffNet-Lite0", square, extract)


def _over_devices(apply: Callable[..., Any], params: Any) -> Callable[[Any], Array]:
    """A network with its parameters on every device, each of which takes a share of a batch.

    Products keep 32 bits: TPUs would take 16, and distances would differ from other machines'.
    """
    mesh = Mesh(np.array(jax.local_devices()), ("data",))
    whole, shared = PartitionSpec(), PartitionSpec("data")
    params = jax.device_put(params, NamedSharding(mesh, whole))

    def few_at_a_time(params: Any, images: Any) -> Any:
        together = max(n for n in range(1, IN_CACHE + 1) if len(images) % n == 0)
        few = images.reshape(-1, together, *images.shape[1:])
        return jax.lax.map(functools.partial(apply, params), few).reshape(len(images), -1)

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(whole, shared), out_specs=shared)
    def exact(params: Any, images: Any) -> Any:
        with jax.default_matmul_precision("float32"):
            return jax.lax.platform_dependent(params, images, cpu=few_at_a_time, default=apply)

    return lambda images: exact(params, jax.device_put(images, NamedSharding(mesh, shared)))


def picture_features(
    paths: Sequence[Path], extractor: FeatureExtractor
) -> Iterator[tuple[Path, Float[np.ndarray, " features"] | InputError]]:
    """Yields each path in order with the features of its picture, or why it cannot be read.

    Pictures are read beside the network, a batch ahead.
    """

    def read(path: Path) -> Num[np.ndarray, "size size 3"] | InputError:
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


def image_features(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], extractor: FeatureExtractor
) -> Float[np.ndarray, "n features"]:
    """Features of at least one picture, each of any size."""
    prepared = [extractor.prepare(image) for image in images]
    return np.concatenate([_features(prepared[i : i + BATCH], extractor) for i in range(0, len(prepared), BATCH)])


def _features(pictures: list[Num[np.ndarray, "size size 3"]], extractor: FeatureExtractor) -> np.ndarray:
    """Features of up to `BATCH` pictures; the batch is filled up, so that there is one program."""
    if not pictures:
        return np.empty((0, 0), np.float32)
    devices = jax.local_device_count()
    size = -(-BATCH // devices) * devices
    filled = np.stack([*pictures, *[pictures[0]] * (size - len(pictures))])
    return np.asarray(extractor.extract(filled))[: len(pictures)]
