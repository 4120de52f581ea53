"""A trained tokenizer: the networks, their weights and the codebook, in memory and on disk."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from handjax.errors import ConfigError, WeightsError
from handjax.files import write_json
from handjax.hand.model import HandModel
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.recovery.quantizer import nearest_codes
from handjax.recovery.vq_mano import JOINTS, VQMano
from handjax.weights.files import read_weights
from handjax.weights.safetensors import write_tensors

CONFIG, WEIGHTS, CODEBOOK = "config.json", "vq_mano.safetensors", "codebook"
REMEDY = "export the run again"
MANO_PAGE = "https://mano.is.tue.mpg.de"


class Tokenizer(NamedTuple):
    """VQ-MANO, trained.

    Attributes:
        network: encoder and decoder.
        params: their parameters.
        codebook: the codes.
        hand: name of the hand model whose poses it knows, "open_hand" or "mano".
    """

    network: VQMano
    params: Any
    codebook: Float[Array, "K D"]
    hand: str

    @property
    def arrays(self) -> dict[str, Any]:
        """What does not change in training on top of it."""
        return {"params": self.params, "codebook": self.codebook}


def check_hand(tokenizer: Tokenizer, hand: HandModel) -> None:
    """Makes sure that a hand model is the right hand that a tokenizer knows.

    Raises:
        ConfigError: it is another hand model, or a left hand.
    """
    if hand.name != tokenizer.hand:
        remedy = f"its MANO_RIGHT.pkl, from {MANO_PAGE}" if tokenizer.hand == "mano" else "none"
        raise ConfigError(f"the model knows {tokenizer.hand}, not {hand.name}; as hand model give {remedy}")
    if hand.side != "right":
        raise ConfigError("the hand model is a left hand; give the right one, left hands are its mirror images")


def pose_tokens(network: VQMano, arrays: Mapping[str, Any], pose: Float[Array, "batch 16 3"]) -> Int[Array, "batch L"]:
    """The tokens of poses in axis-angle; `arrays` are those of `Tokenizer`."""
    latents: Any = network.apply({"params": arrays["params"]}, axis_angle_to_matrix(pose), method="encode")
    return nearest_codes(latents, arrays["codebook"])


def code_rotations(
    network: VQMano, arrays: Mapping[str, Any], codes: Float[Array, "batch L D"]
) -> Float[Array, "batch 16 3 3"]:
    """The poses of codes, which may be means of codes; `arrays` are those of `Tokenizer`."""
    rotations: Any = network.apply({"params": arrays["params"]}, codes, method="decode")
    return rotations


def save_tokenizer(tokenizer: Tokenizer, folder: Path, dtype: DTypeLike = np.float32) -> None:
    """Writes config.json and vq_mano.safetensors.

    Args:
        tokenizer: what is written.
        folder: made when missing.
        dtype: of the weights in the file.
    """
    flat = traverse_util.flatten_dict(tokenizer.params, sep=".") | {CODEBOOK: tokenizer.codebook}
    write_tensors(folder / WEIGHTS, {name: np.asarray(value).astype(dtype) for name, value in flat.items()})
    sizes = {field: getattr(tokenizer.network, field) for field in ("tokens", "width", "blocks", "dim")}
    write_json(folder / CONFIG, {**sizes, "codes": len(tokenizer.codebook), "hand": tokenizer.hand})


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads what `save_tokenizer` wrote.

    Raises:
        WeightsError: a file is missing, damaged or does not fit the other.
    """
    try:
        document: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        codes, hand = int(document.pop("codes")), str(document.pop("hand"))
        network = VQMano(**document)
        shapes = tokenizer_shapes(network, codes)
    except FileNotFoundError as error:
        raise WeightsError(f"{folder}: no {CONFIG}; give the folder of an exported tokenizer") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{folder / CONFIG}: not the configuration of a tokenizer ({error}); {REMEDY}") from error
    tensors = {name: jnp.asarray(value, jnp.float32) for name, value in read_weights(folder / WEIGHTS)}
    wrong = {name for name in shapes.keys() | tensors.keys() if _shape(tensors, name) != _shape(shapes, name)}
    if wrong:
        raise WeightsError(f"{folder / WEIGHTS}: {len(wrong)} tensors do not fit {CONFIG}, as {min(wrong)}; {REMEDY}")
    codebook = tensors.pop(CODEBOOK)
    return Tokenizer(network, traverse_util.unflatten_dict(tensors, sep="."), codebook, hand)


def tokenizer_shapes(network: VQMano, codes: int) -> dict[str, Any]:
    """Returns name -> shape of a tokenizer's tensors."""
    rotations = jax.ShapeDtypeStruct((1, JOINTS, 3, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), rotations)["params"]
    return traverse_util.flatten_dict(params, sep=".") | {
        CODEBOOK: jax.ShapeDtypeStruct((codes, network.dim), jnp.float32)
    }


def _shape(tensors: dict[str, Any], name: str) -> tuple[int, ...] | None:
    return tensors[name].shape if name in tensors else None
