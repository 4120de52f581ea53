"""Text-to-mesh with random weights, as small as it can be, and prompts with a pose each."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handjax.diffusion.text_model import load_text_model
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.recovery.text_files import TextMeshModel
from handjax.recovery.text_network import TextMeshConfig, TextMeshNetwork, example_inputs
from handjax.recovery.tokenizer import Tokenizer
from tests.recovery.tiny_models import random_tokenizer

PROMPTS = ("a photo of a right hand, a fist", "an open right hand", "a right hand, index finger extended")
NETWORK = {"features": 16, "heads": 2, "graph_blocks": 1, "layers": 1}


def poses() -> np.ndarray:
    """Of the prompts, axis-angle."""
    return np.random.default_rng(3).normal(0, 0.6, (len(PROMPTS), 16, 3)).astype(np.float32)


def speaking_tokenizer(codes: int) -> Tokenizer:
    """Random networks whose codebook is of the poses' own latents, so that each pose has tokens of its own."""
    random = random_tokenizer()
    encode = jax.jit(functools.partial(random.network.apply, method="encode"))
    latents = encode({"params": random.params}, axis_angle_to_matrix(poses()))
    others = 9 + jax.random.normal(jax.random.key(1), (codes, random.network.dim))
    return random._replace(codebook=jnp.concatenate([latents.reshape(-1, random.network.dim), others])[:codes])


def drawn_params(network: TextMeshNetwork) -> Any:
    """Parameters drawn by NumPy: the network's own start takes long to compile."""
    rng = np.random.default_rng(2)

    def draw(path, shape):
        value = rng.normal(0, shape.shape[0] ** -0.5, shape.shape).astype(np.float32)
        return 1 + value if path[-1].key == "scale" else value

    shapes = jax.eval_shape(network.init, jax.random.key(0), *example_inputs(network))
    return jax.tree.map_with_path(draw, shapes["params"])


@functools.cache
def random_text_model(codes: int = 48) -> TextMeshModel:
    """The transformer on top of it, under the embedded model's text encoder."""
    tokenizer, text = speaking_tokenizer(codes), load_text_model("tiny_inpainting")
    network = TextMeshNetwork(TextMeshConfig(16, codes, text.network.config.hidden_size, **NETWORK))
    return TextMeshModel(network, drawn_params(network), tokenizer, text)
