"""The learned head of HandAnat: class of a hand and number of its fingers, read from the picture.

Landmarks tell neither: their network finds five normal fingers in every hand. Its feature maps know more, and a small
convolutional network reads them.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from handjax.errors import WeightsError
from handjax.perception.detector import TASK_FILE
from handjax.perception.hands import DetectedHand
from handjax.perception.landmarks import landmark_region
from handjax.perception.networks import LANDMARK_SIZE, LandmarkNetwork
from handjax.perception.regions import Picture, Region, cut_out, pad_picture
from handjax.perception.tflite import load_parameters
from handjax.weights.names import check_tree, to_flax, to_torch
from handjax.weights.safetensors import read_metadata, read_tensors, write_tensors

Kind = Literal["normal", "count", "angle", "proportion", "fused"]
KINDS: tuple[Kind, ...] = ("normal", "count", "angle", "proportion", "fused")
"""Classes of hands, as HandAnat's detector tells them apart."""
COUNTS: tuple[int | None, ...] = (3, 4, 5, 6, 7, None)
"""Numbers of fingers; None where they cannot be counted, as in a fist."""
NOT_COUNTED = -1
"""Label of hands whose fingers could perhaps be counted, but nobody has done so."""

ASSET = Path(__file__).parents[1] / "assets" / "anatomy_head" / "head.safetensors"
MARGIN = 1.25
"""Side of the crop, in sides of the landmark network's: fingers that are too long are to be in it."""
SURE_OF_COUNT = 0.5
"""Probability of a number of fingers below which it is unknown."""
MAPS: dict[str, tuple[int, int, float]] = {
    "InvertedResidual_1": (56, 24, 1.8),
    "InvertedResidual_3": (28, 40, 1.6),
    "InvertedResidual_9": (14, 112, 2.2),
    "InvertedResidual_13": (7, 192, 1.9),
}
"""Layers of the landmark network that are read: side, features, usual standard deviation."""

Maps = Mapping[str, Float[Array, "batch side side features"]]


class HeadNetwork(nn.Module):
    """Convolutions down the maps, from the finest; 0.47 M parameters."""

    features: tuple[int, int, int] = (32, 80, 128)
    dropout: float = 0.3

    @nn.compact
    def __call__(
        self, maps: Maps, training: bool = False
    ) -> tuple[Float[Array, "batch kinds"], Float[Array, "batch counts"]]:
        """Judges hands.

        Args:
          maps: of `MAPS`, by name.
          training: whether features are dropped, by the random stream "dropout".

        Returns:
          Logits of `KINDS` and of `COUNTS`.
        """
        x, *rest = (maps[name].astype(jnp.float32) / scale for name, (_, _, scale) in MAPS.items())
        for number, (y, features) in enumerate(zip(rest, self.features, strict=True)):
            x = self._convolve(x, features, f"down_{number}", stride=2)
            x = jnp.concatenate([x, nn.Dense(features // 2, name=f"enter_{number}")(y)], axis=-1)
            x = self._convolve(x, features, f"mix_{number}")
        pooled = jnp.concatenate([x.mean(axis=(1, 2)), x.max(axis=(1, 2))], axis=-1)
        pooled = nn.Dropout(self.dropout, deterministic=not training)(pooled)
        return nn.Dense(len(KINDS), name="kinds")(pooled), nn.Dense(len(COUNTS), name="counts")(pooled)

    def _convolve(self, x, features, name, stride=1):
        x = nn.Conv(features, (3, 3), (stride, stride), name=name)(x)
        return nn.relu(nn.GroupNorm(num_groups=8, name=f"{name}_norm")(x))


def initial_params(rng: PRNGKeyArray | None = None) -> Mapping[str, Any]:
    """Draws a head's parameters; with `jax.eval_shape`, their shapes."""
    maps = {name: jnp.zeros((1, side, side, features)) for name, (side, features, _) in MAPS.items()}
    return HeadNetwork().init(jax.random.key(0) if rng is None else rng, maps)["params"]


@struct.dataclass
class HeadWeights:
    """What a head consists of.

    Args:
        landmark: variables of the landmark network.
        head: parameters of `HeadNetwork`.
        temperature: by which the logits of kinds and of counts are divided, so that probabilities are frequencies.
    """

    landmark: dict[str, Any]
    head: Mapping[str, Any]
    temperature: Float[Array, "2"]


def head_region(keypoints: Float[Array, "21 2"]) -> Region:
    """The square of the picture that the head looks at, for keypoints in pixels."""
    region = landmark_region(keypoints)
    return dataclasses.replace(region, side=MARGIN * region.side)


def feature_maps(landmark: dict[str, Any], crops: Float[Array, "batch 224 224 3"]) -> Maps:
    """The landmark network's maps of crops in [0, 1], by the names of `MAPS`."""
    _, state = LandmarkNetwork().apply(
        landmark, crops, capture_intermediates=lambda module, _: module.name in MAPS, mutable=["intermediates"]
    )
    return {name: state["intermediates"][name]["__call__"][0] for name in MAPS}


def cut_hand(picture: Picture, region: Region) -> Float[Array, "224 224 3"]:
    """Cuts out the crop of a region of `head_region`, in [0, 1]."""
    return cut_out(picture, region, LANDMARK_SIZE, black_outside=False)


def load_landmark_network(task: str | os.PathLike = TASK_FILE) -> dict[str, Any]:
    """Reads the landmark network's variables; raises WeightsError where that fails."""
    return load_parameters(task, "hand_landmarks_detector.tflite", LandmarkNetwork(), LANDMARK_SIZE)


def save_head(
    folder: str | os.PathLike,
    params: Mapping[str, Any],
    dtype: np.dtype,
    temperature: Sequence[float] = (1.0, 1.0),
    threshold: float = 0.5,
) -> None:
    """Writes a head's parameters, temperature and threshold to head.safetensors in a folder, made when missing."""
    tensors = {name: value.astype(dtype) for name, value in to_torch(params).items()}
    settings = {"temperature": list(temperature), "threshold": threshold}
    write_tensors(Path(folder) / ASSET.name, tensors, {"settings": json.dumps(settings)})


@dataclasses.dataclass(frozen=True)
class HandReading:
    """What the head says of one hand.

    Attributes:
      kinds: probability of each of `KINDS`.
      counts: probability of each of `COUNTS`.
    """

    kinds: Float[np.ndarray, "5"]
    counts: Float[np.ndarray, "6"]

    @property
    def malformed(self) -> float:
        """Probability that anything is wrong with the hand."""
        return float(1 - self.kinds[0])

    @property
    def kind(self) -> Kind:
        """The likeliest class."""
        return KINDS[int(self.kinds.argmax())]

    @property
    def worst(self) -> Kind:
        """What is likeliest wrong with the hand, if anything is."""
        return KINDS[1 + int(self.kinds[1:].argmax())]

    @property
    def fingers(self) -> int | None:
        """Number of fingers; None where the head is not sure of one."""
        best = int(self.counts.argmax())
        return COUNTS[best] if self.counts[best] >= SURE_OF_COUNT else None


@dataclasses.dataclass(frozen=True)
class HandHead:
    """Reads hands that were found.

    Attributes:
      weights: of the networks.
      threshold: probability of being malformed from which a hand is called so; 3 % of the normal hands in photographs
        that training did not see reach the embedded one.
    """

    weights: HeadWeights
    threshold: float

    @classmethod
    def load(cls, path: Path = ASSET) -> "HandHead":
        """Loads a head, by default the embedded one.

        Raises:
          WeightsError: a file is missing, damaged or of another architecture.
        """
        params = to_flax((name, value.astype(np.float32)) for name, value in read_tensors(path))
        check_tree(params, jax.eval_shape(initial_params), str(path))
        try:
            settings = json.loads(read_metadata(path)["settings"])
            temperature, threshold = jnp.array(settings["temperature"]), float(settings["threshold"])
        except (KeyError, ValueError, TypeError) as error:
            raise WeightsError(f"{path}: no settings of a head ({error!r}); copy the file again") from error
        return cls(HeadWeights(load_landmark_network(), params, temperature), threshold)

    def __call__(self, image: UInt8[np.ndarray, "height width 3"], hands: Sequence[DetectedHand]) -> list[HandReading]:
        """Reads hands of a picture, in their order."""
        if not hands:
            return []
        points = np.stack([hand.keypoints[:, :2] for hand in hands])
        batch = 1 << (len(hands) - 1).bit_length()  # programs are compiled per number of hands
        padded = np.pad(points, ((0, batch - len(hands)), (0, 0), (0, 0)), mode="edge").astype(np.float32)
        kinds, counts = jax.device_get(_read(self.weights, pad_picture(image), padded))
        return [HandReading(kinds[number], counts[number]) for number in range(len(hands))]


@jax.jit
def _read(weights: HeadWeights, picture: Picture, keypoints: Float[Array, "hands 21 2"]):
    crops = jax.vmap(lambda points: cut_hand(picture, head_region(points)))(keypoints)
    with jax.default_matmul_precision("float32"):
        logits: Any = HeadNetwork().apply({"params": weights.head}, feature_maps(weights.landmark, crops))
    kinds, counts = logits
    return jax.nn.softmax(kinds / weights.temperature[0]), jax.nn.softmax(counts / weights.temperature[1])
