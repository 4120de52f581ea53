"""Spectral normalisation of a parameter tree: every layer's largest singular value is brought to 1.

A pure function of parameters and the vectors of the power iteration, so that networks need no wrapper and what is
exported are ordinary layers.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float, Key

FIRST_ITERATIONS = 15
"""Of a new tree, as PyTorch takes; a step of training takes one more."""


def initial_vectors(rng: Key[Array, ""], params: Mapping[str, Any]) -> dict[str, Any]:
    """Draws the left singular vectors of all kernels, and improves them.

    Args:
        rng: key of the draw.
        params: a tree whose kernels have their outputs last.

    Returns:
        A tree like `params` with {"u"} in place of what has a kernel.
    """
    kernels = {path[:-1]: leaf for path, leaf in traverse_util.flatten_dict(params).items() if path[-1] == "kernel"}
    keys = jax.random.split(rng, len(kernels))
    drawn = {
        (*path, "u"): _unit(jax.random.normal(key, kernel.shape[-1:]))
        for key, (path, kernel) in zip(keys, kernels.items(), strict=True)
    }
    vectors = traverse_util.unflatten_dict(drawn)
    for _ in range(FIRST_ITERATIONS):
        vectors = spectral_normalised(params, vectors)[1]
    return vectors


def spectral_normalised(params: Mapping[str, Any], vectors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divides kernels by their largest singular values after one power iteration.

    Args:
        params: of the layers.
        vectors: of `initial_vectors`, or of the step before.

    Returns:
        The normalised parameters, and the vectors for the next step. The vectors take no gradient.

    Source:
        Miyato et al. 2018, algorithm 1.
    """
    flat, improved = dict(traverse_util.flatten_dict(params)), {}
    for path, u in traverse_util.flatten_dict(vectors).items():
        kernel = flat[(*path[:-1], "kernel")]
        matrix = kernel.reshape(-1, kernel.shape[-1])
        v, u = _iterate(jax.lax.stop_gradient(matrix), u)
        flat[(*path[:-1], "kernel")] = kernel / (v @ matrix @ u)
        improved[path] = u
    return traverse_util.unflatten_dict(flat), traverse_util.unflatten_dict(improved)


def _iterate(
    matrix: Float[Array, "inputs outputs"], u: Float[Array, " outputs"]
) -> tuple[Float[Array, " inputs"], Float[Array, " outputs"]]:
    v = _unit(matrix @ u)
    return v, _unit(v @ matrix)


def _unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)
