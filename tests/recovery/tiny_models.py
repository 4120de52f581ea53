"""MMHMR with random weights, as small as it can be."""

import jax
import jax.numpy as jnp

from handjax.recovery.files import RecoveryModel
from handjax.recovery.network import RecoveryConfig, RecoveryNetwork, example_inputs
from handjax.recovery.tokenizer import Tokenizer
from handjax.recovery.vit import ViTConfig
from handjax.recovery.vq_mano import VQMano

CODES = 12
ENCODER = {"width": 12, "depth": 1, "heads": 3}
NETWORK = {"features": 16, "heads": 2, "points": 2, "graph_blocks": 1, "layers": 1, "head_layers": 1}


def random_tokenizer(tokens: int = 16) -> Tokenizer:
    """Tokens of 12 codes."""
    network = VQMano(tokens=tokens, width=8, blocks=1, dim=4)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 16, 3, 3)))["params"]
    return Tokenizer(network, params, jax.random.normal(jax.random.key(1), (CODES, 4)), "open_hand")


def random_model() -> RecoveryModel:
    """The transformer on top of it."""
    network = RecoveryNetwork(RecoveryConfig(tokens=16, codes=CODES, encoder=ViTConfig(**ENCODER), **NETWORK))
    params = jax.jit(network.init)(jax.random.key(2), *example_inputs(network))["params"]
    return RecoveryModel(network, params, random_tokenizer())
