"""Mesh recovery: what decoding costs and gains, and the network at the paper's size beside PyTorch."""

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handjax.hand.model import load_open_hand
from handjax.metrics.recovery import recovery_figures
from handjax.recovery.decoding import BEST, ITERATIONS, decode, ranked
from handjax.recovery.files import ASSET, RecoveryModel, load_recovery
from handjax.recovery.network import RecoveryConfig, RecoveryNetwork, example_inputs
from handjax.weights.names import to_torch
from launch.evaluate_recovery import recover_held_out
from launch.peers import load_torch
from launch.timing import interleaved, summary

HANDS = 400
FULL = RecoveryConfig()
BATCH = 2
RATIO_BOUND = 1.05
"""Of the time of five iterations to that of one."""
ITERATION_TABLE = {1: (5.9, 5.8), 3: (5.8, 5.7), 5: (5.7, 5.5), 10: (5.7, 5.5)}
"""PA-MPJPE and PA-MPVPE on FreiHAND, mm (MMHMR Table 6)."""
RANK_TABLE = {1: (5.7, 5.5), 3: (7.9, 8.0), 5: (7.9, 8.1), 10: (9.1, 9.2), 20: (10.63, 10.75)}
"""Likewise (MMHMR Table 12)."""


def bench_recovery(runs: int, data: Path | None = None) -> Iterator[dict[str, Any]]:
    """Times at ViT-H; with `data`, prepared records with exact meshes, also MMHMR's tables of decoding.

    Raises:
        BackendError: PyTorch is not installed.
        WeightsError: with `data`, the package's model is missing.
    """
    if data is not None:
        yield from bench_decoding(data, load_recovery(ASSET))
    yield from bench_network(runs)


def bench_decoding(data: Path, model: RecoveryModel) -> Iterator[dict[str, Any]]:
    """Errors by the number of iterations and by the rank of the token that is taken, from pictures alone."""
    for iterations, paper in ITERATION_TABLE.items():
        yield from _errors(data, model, f"iterations_{iterations}", paper, BEST, iterations)
    for rank, paper in RANK_TABLE.items():
        yield from _errors(data, model, f"rank_{rank}", paper, ranked(rank), ITERATIONS)


def _errors(data, model, name, paper, choose, iterations) -> Iterator[dict[str, Any]]:
    hands = recover_held_out(
        model, load_open_hand(), str(data), HANDS, with_cue=False, choose=choose, iterations=iterations
    )
    figures = {figure["name"]: figure for figure in recovery_figures(hands)}
    for measure, of_paper in zip(("pa_mpjpe_mm", "pa_mpvpe_mm"), paper, strict=True):
        figure = figures[measure]
        yield {
            "name": f"{name}/{measure}",
            "ours": figure["value"],
            "interval_95": figure["interval_95"],
            "paper": of_paper,
            "unit": "mm",
            "runs": figure["hands"],
        }


def bench_network(runs: int) -> Iterator[dict[str, Any]]:
    """Five iterations beside one, then one pass of the network beside the same network in PyTorch; float32."""
    network = RecoveryNetwork(FULL)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *example_inputs(network))["params"]
    # in one program: a program for each shape would take minutes
    params = jax.jit(lambda: jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes))()
    size = FULL.encoder.image_size
    images = np.random.default_rng(0).uniform(-1, 1, (BATCH, size, size, 3)).astype(np.float32)
    cue, tokens = np.zeros((BATCH, 21, 3), np.float32), np.full((BATCH, FULL.tokens), FULL.codes)
    five, one = (decoder(network, params, images, cue, iterations) for iterations in (ITERATIONS, 1))
    jax.block_until_ready((five(), one()))
    item = summary("five_iterations", "one iteration", interleaved(five, one, runs))
    yield item | {"ratio_bound": RATIO_BOUND, "batch": BATCH, "dtype": "float32"}
    forward = jax.jit(network.apply).lower({"params": params}, images, tokens, cue).compile()
    peer = peer_forward(params, images, tokens, cue)
    jax.block_until_ready(forward({"params": params}, images, tokens, cue))
    peer()
    item = summary(
        "forward", "PyTorch", interleaved(lambda: forward({"params": params}, images, tokens, cue), peer, runs)
    )
    yield item | {"batch": BATCH, "dtype": "float32", "per_second": BATCH / item["ours"], "what": "crops"}


def decoder(network: RecoveryNetwork, params: Any, images: Any, cue: Any, iterations: int) -> Callable[[], Any]:
    """Pictures to tokens in one program."""
    c = network.config

    @jax.jit
    def run(params: Any, images: Any, cue: Any) -> Any:
        context = network.apply({"params": params}, images, method="encode")

        def predict(tokens: Any) -> Any:
            return network.apply({"params": params}, tokens, cue, context, method="predict")

        return decode(predict, len(images), c.tokens, c.codes, jax.random.key(0), iterations=iterations)

    return lambda: run(params, images, cue)


def peer_forward(params: Any, images: np.ndarray, tokens: np.ndarray, cue: np.ndarray) -> Callable[[], None]:
    """The same pass by the module that `launch.export --to torch` writes."""
    torch = load_torch()
    with torch.device("meta"):
        peer = importlib.import_module("handjax.recovery.pytorch.mmhmr").MMHMR(dataclasses.asdict(FULL))
    state = {name: torch.from_numpy(np.array(value)) for name, value in to_torch(jax.device_get(params)).items()}
    peer.load_state_dict(state, assign=True)
    inputs = [torch.from_numpy(each) for each in (images.transpose(0, 3, 1, 2).copy(), tokens, cue)]

    def call() -> None:
        with torch.inference_mode():
            peer(*inputs)

    return call
