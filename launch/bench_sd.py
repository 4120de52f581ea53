"""Stable Diffusion beside PyTorch: on CPUs in float32 with memory, on GPUs in bfloat16 with DDIM and torch.compile."""

import functools
import importlib
import json
import multiprocessing
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from handjax.diffusion.networks import initial_params
from handjax.diffusion.samplers import DDIM
from handjax.diffusion.sampling import guided_denoise, sample
from handjax.diffusion.schedules import NoiseSchedule
from handjax.training.roofline import chip_of
from launch.memory import return_memory_after_compiling
from launch.peers import FULL, SIZES, Arrays, Part, flax_variables, load_torch, to_tensors
from launch.timing import interleaved, summary

# How often each is run for every run asked: what is short varies more.
PARTS = {"unet": 1, "vae_decoder": 1, "text_encoder": 20}
BATCHES = (1, 8)
DDIM_STEPS = 50
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def bench_sd(runs: int) -> Iterator[dict[str, Any]]:
    """Stable Diffusion 1.x at 512², on the GPU where JAX and PyTorch have one.

    Raises:
        BackendError: PyTorch is not installed.
    """
    if jax.default_backend() == "gpu" and load_torch().cuda.is_available():
        for batch in BATCHES:
            yield from bench_half_precision(FULL["unet"], batch, runs, "cuda")
        return
    print("no GPU: bfloat16, DDIM and torch.compile are left out", file=sys.stderr)
    yield from bench_float32(tuple(PARTS), "full", runs)


def bench_float32(names: Sequence[str], size: str, runs: int) -> Iterator[dict[str, Any]]:
    """One forward pass of each part at batch 1: times in one process, peak memory each in its own."""
    # Before this process grows, because a child's peak starts at its parent's. The first run fills the compile cache.
    ours = [[peak_memory(name, size) for _ in range(2)][-1] for name in names]
    peers = [peer_peak_memory(name, size) for name in names]
    for name, peak, peer_peak in zip(names, ours, peers, strict=True):
        yield time_float32(name, size, runs * PARTS[name]) | {"peak_gib": peak, "peer_peak_gib": peer_peak}


def time_float32(name: str, size: str, runs: int) -> dict[str, Any]:
    """One forward pass of a part at batch 1, its peer's in turn."""
    part = SIZES[size][name]
    peer = part.make_peer().eval()
    inputs = part.draw(1)
    ours = our_call(part, flax_variables(peer), inputs)
    theirs = peer_call(part, peer, inputs)
    warm_up(ours, theirs)
    peer_name = "transformers" if name == "text_encoder" else "diffusers"
    return summary(name, peer_name, interleaved(ours, theirs, runs)) | {"batch": 1, "dtype": "float32"}


def our_call(part: Part, variables: Any, inputs: Arrays) -> Callable[[], Any]:
    """Our forward pass, its arguments on the device."""
    apply = jax.jit(functools.partial(part.make_ours().apply, method=part.method))
    arguments = jax.device_put((variables, *inputs))
    return lambda: apply(*arguments)


def peer_call(part: Part, peer: Any, inputs: Arrays) -> Callable[[], None]:
    """PyTorch's forward pass, its arguments on the device."""
    tensors = to_tensors(peer, inputs)

    def call() -> None:
        with load_torch().no_grad():
            part.call_peer(peer, *tensors)

    return call


def warm_up(*calls: Callable[[], Any]) -> None:
    """Runs each once, so that compilation and first allocations are not timed."""
    for call in calls:
        jax.block_until_ready(call())


def peak_memory(name: str, size: str) -> float:
    """GiB of a process that makes our weights and runs one forward pass, its libraries included."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure_peak, name, size).result()


def _measure_peak(name: str, size: str) -> float:
    return_memory_after_compiling()  # as every command does
    part = SIZES[size][name]
    shapes = jax.eval_shape(functools.partial(initial_params, part.make_ours()), jax.random.key(0))
    # In one program, because a program for each shape would weigh tens of MB.
    params = jax.jit(lambda: jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes))()
    warm_up(our_call(part, {"params": params}, part.draw(1)))
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peer_peak_memory(name: str, size: str) -> float:
    """GiB of a process that does the same with PyTorch and without JAX."""
    part = SIZES[size][name]
    inputs = [
        (array.transpose(0, 3, 1, 2).shape if array.ndim == 4 else array.shape, array.dtype.name)
        for array in part.draw(1)
    ]
    request = {"network": part.network, "document": part.document, "inputs": inputs}
    request["method"] = "forward" if part.method == "__call__" else part.method
    command = [sys.executable, "-m", "launch.peer_memory", json.dumps(request)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def bench_half_precision(part: Part, batch: int, runs: int, device: str) -> Iterator[dict[str, Any]]:
    """The UNet in bfloat16, once and in DDIM without guidance, beside PyTorch eager and compiled."""
    torch = load_torch()
    network = part.make_ours().clone(dtype=jnp.bfloat16)
    peer = part.make_peer().eval()
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), flax_variables(peer))
    peer = peer.to(device, torch.bfloat16, memory_format=torch.channels_last)
    compiled = torch.compile(peer, mode="reduce-overhead", fullgraph=True)
    inputs = jax.device_put(part.draw(batch))
    tensors = to_tensors(peer, part.draw(batch))
    flops = count_flops(lambda: peer_forward(peer, tensors)())
    for task, ours, theirs, evaluations in (
        ("unet", our_forward, peer_forward, 1),
        (f"ddim{DDIM_STEPS}", our_ddim, peer_ddim, DDIM_STEPS),
    ):
        call = ours(network, variables, inputs)
        for peer_name, module in (("diffusers", peer), ("diffusers with torch.compile", compiled)):
            call_peer = theirs(module, tensors)
            warm_up(call, call_peer, call_peer)
            item = summary(task, peer_name, interleaved(call, call_peer, runs))
            mfu = utilisation(evaluations * flops / item["ours"])
            yield item | {"batch": batch, "dtype": "bfloat16", "tflop": evaluations * flops / 1e12, "mfu": mfu}


def our_forward(network: nn.Module, variables: Any, inputs: Any) -> Callable[[], Any]:
    """One evaluation of our network."""
    apply = jax.jit(network.apply)
    return lambda: apply(variables, *inputs)


def our_ddim(network: nn.Module, variables: Any, inputs: Any) -> Callable[[], Any]:
    """All steps of our DDIM."""
    schedule = NoiseSchedule.from_diffusers(SCHEDULE)

    @jax.jit
    def run(variables: Any, noise: Any, context: Any) -> Any:
        def predict(z: Any, timesteps: Any, context: Any) -> Any:
            return network.apply(variables, z, timesteps, context)

        denoise = guided_denoise(predict, schedule, context, context, scale=1.0)
        return sample(DDIM(schedule, DDIM_STEPS), denoise, noise, jax.random.key(0))[0]

    noise, _, context = inputs
    return lambda: run(variables, noise, context)


def peer_forward(network: Any, tensors: list[Any]) -> Callable[[], None]:
    """One evaluation of PyTorch's network."""
    torch = load_torch()
    noise, timesteps, context = tensors

    def call() -> None:
        with torch.no_grad():
            network(noise.to(network.dtype), timesteps, context.to(network.dtype), return_dict=False)
        _wait(noise)

    return call


def peer_ddim(network: Any, tensors: list[Any]) -> Callable[[], None]:
    """All steps of diffusers' DDIM."""
    torch = load_torch()
    scheduler = importlib.import_module("diffusers").DDIMScheduler(**SCHEDULE)
    noise, timesteps, context = tensors

    def call() -> None:
        scheduler.set_timesteps(DDIM_STEPS, device=noise.device)
        z = noise.to(network.dtype)
        with torch.no_grad():
            for t in scheduler.timesteps:
                prediction = network(z, t.expand(len(timesteps)), context.to(network.dtype), return_dict=False)[0]
                z = scheduler.step(prediction, t, z, return_dict=False)[0]
        _wait(noise)

    return call


def _wait(tensor: Any) -> None:
    """Until the GPU, if it is one, has done what it was told."""
    if tensor.is_cuda:
        load_torch().cuda.synchronize()


def count_flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of PyTorch's matrix products, convolutions and attention in a call."""
    counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    with counter:
        call()
    return counter.get_total_flops()


def utilisation(flops_per_second: float) -> float | None:
    """The share of the device's peak, None where that is not known."""
    chip = chip_of(jax.devices()[0].device_kind)
    return None if chip is None else flops_per_second / chip.flops
