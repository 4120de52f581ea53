"""MMHMR with random weights, as small as it can be."""

import functools

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


@functools.cache
def random_tokenizer(tokens: int = 16, codes: int = CODES) -> Tokenizer:
    """Tokens of few codes."""
    network = VQMano(tokens=tokens, width=8, blocks=1, dim=4)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 16, 3, 3)))["params"]
    return Tokenizer(network, params, jax.random.normal(jax.random.key(1), (codes, 4)), "open_hand")


def tiny_network(codes: int = CODES) -> RecoveryNetwork:
    """The transformer on top of it."""
    return RecoveryNetwork(RecoveryConfig(tokens=16, codes=codes, encoder=ViTConfig(**ENCODER), **NETWORK))


@functools.cache
def random_model(codes: int = CODES) -> RecoveryModel:
    """Both, untrained."""
    network = tiny_network(codes)
    params = jax.jit(network.init)(jax.random.key(2), *example_inputs(network))["params"]
    return RecoveryModel(network, params, random_tokenizer(codes=codes))
