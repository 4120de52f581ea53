"""Mesh recovery: what decoding costs and gains, and the network at the paper's size beside PyTorch."""

import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handjax.hand.model import load_open_hand
from handjax.metrics.recovery import recovery_figures
from handjax.recovery.decoding import BEST, ITERATIONS, decode, ranked
from handjax.recovery.files import ASSET, RecoveryModel, load_recovery
from handjax.recovery.network import RecoveryConfig, RecoveryNetwork, example_inputs
from handjax.weights.names import to_torch
from launch.bench_sd import count_flops, utilisation
from launch.evaluate_recovery import recover_held_out
from launch.peers import load_torch
from launch.timing import interleaved, seconds, summary

HANDS = 400
FULL = RecoveryConfig()


class Place(NamedTuple):
    """Where it is timed: PyTorch's name of the device, crops at a time, and what the networks compute in."""

    device: str
    batch: int
    dtype: str


CPU, GPU = Place("cpu", 2, "float32"), Place("cuda", 32, "bfloat16")
COMPILER = "inductor"
PRODUCT, PRODUCT_RUNS = 4096, 3
"""Side of the matrices whose product tells what a device without published figures can do."""
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
    """Errors by the number of iterations and by the rank of the token that is taken, from pictures alone; then those of
    the mean codes that hands are reconstructed from (DECISIONS F14)."""
    for iterations, paper in ITERATION_TABLE.items():
        yield from _errors(data, model, f"iterations_{iterations}", paper, BEST, iterations)
    for rank, paper in RANK_TABLE.items():
        yield from _errors(data, model, f"rank_{rank}", paper, ranked(rank), ITERATIONS)
    yield from _errors(data, model, "mean_codes", ITERATION_TABLE[ITERATIONS], BEST, ITERATIONS, mean_codes=True)


def _errors(data, model, name, paper, choose, iterations, mean_codes=False) -> Iterator[dict[str, Any]]:
    options = {"choose": choose, "iterations": iterations, "mean_codes": mean_codes}
    hands = recover_held_out(model, load_open_hand(), str(data), HANDS, with_cue=False, **options)
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
    """Five iterations beside one, then one pass of the network beside the same network in PyTorch, eager and compiled.

    In float32 on CPUs; on a GPU that JAX and PyTorch both have in bfloat16, ours in the encoder, PyTorch's throughout.
    MFU counts PyTorch's operations.
    """
    torch = load_torch()
    place = GPU if jax.default_backend() == "gpu" and torch.cuda.is_available() else CPU
    about = {"batch": place.batch, "dtype": place.dtype}
    network = RecoveryNetwork(FULL, jnp.dtype(place.dtype))
    shapes = jax.eval_shape(network.init, jax.random.key(0), *example_inputs(network))["params"]
    # in one program: a program for each shape would take minutes
    params = jax.jit(lambda: jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes))()
    size, batch = FULL.encoder.image_size, place.batch
    images = np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
    cue, tokens = np.zeros((batch, 21, 3), np.float32), np.full((batch, FULL.tokens), FULL.codes)
    five, one = (decoder(network, params, images, cue, iterations) for iterations in (ITERATIONS, 1))
    jax.block_until_ready((five(), one()))
    item = summary("five_iterations", "one iteration", interleaved(five, one, runs))
    yield item | about | {"ratio_bound": RATIO_BOUND}
    inputs = jax.device_put((images, tokens, cue))
    forward = jax.jit(network.apply).lower({"params": params}, *inputs).compile()
    peer = make_peer(params).to(place.device)
    tensors = [torch.from_numpy(each).to(place.device) for each in (images.transpose(0, 3, 1, 2).copy(), tokens, cue)]
    flops, (peak, peak_from) = count_flops(peer_forward(peer, tensors, place)), device_peak(place.dtype)
    compiled = torch.compile(peer, backend=COMPILER, dynamic=False)
    for peer_name, module in (("PyTorch", peer), ("PyTorch with torch.compile", compiled)):
        theirs = peer_forward(module, tensors, place)
        try:
            theirs()
        except importlib.import_module("torch._dynamo.exc").BackendCompilerFailed as error:
            print(f"{peer_name} is left out: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        jax.block_until_ready(forward({"params": params}, *inputs))
        item = summary("forward", peer_name, interleaved(lambda: forward({"params": params}, *inputs), theirs, runs))
        speed = {"per_second": batch / item["ours"], "peer_per_second": batch / item["peer"], "what": "crops"}
        use = {"tflop": flops / 1e12, "mfu": flops / item["ours"] / peak, "peak_tflops": peak / 1e12}
        yield item | about | speed | use | {"peak_from": peak_from}


def device_peak(dtype: str) -> tuple[float, str]:
    """Operations a second of the device, and where the figure is from: its maker, or a large product timed here."""
    share = utilisation(1.0)
    if share is not None:
        return 1 / share, "data sheet"
    matrix = jnp.ones((PRODUCT, PRODUCT), dtype)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    best = min(seconds(lambda: product(matrix, matrix)) for _ in range(PRODUCT_RUNS))
    return 2 * PRODUCT**3 / best, f"product of {PRODUCT}x{PRODUCT} matrices"


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


def make_peer(params: Any) -> Any:
    """The module that `launch.export --to torch` writes, with these weights."""
    torch = load_torch()
    with torch.device("meta"):
        peer = importlib.import_module("handjax.recovery.pytorch.mmhmr").MMHMR(dataclasses.asdict(FULL))
    state = {name: torch.from_numpy(np.array(value)) for name, value in to_torch(jax.device_get(params)).items()}
    peer.load_state_dict(state, assign=True)
    return peer.eval().requires_grad_(False)  # counting operations in inference_mode wants that


def peer_forward(peer: Any, tensors: list[Any], place: Place) -> Callable[[], None]:
    """One pass of PyTorch's network."""
    torch = load_torch()
    narrow = place.dtype != "float32"

    def call() -> None:
        with torch.inference_mode(), torch.autocast(place.device, getattr(torch, place.dtype), enabled=narrow):
            peer(*tensors)
        if place.device == "cuda":
            torch.cuda.synchronize()

    return call
