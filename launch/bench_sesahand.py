"""What SesaHand's two modules cost a training step, beside a plain ControlNet of the same mesh."""

import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from handjax.adapters.structural_fusion import FORMS
from handjax.diffusion.shapes import SHAPES_ONLY
from handjax.tasks import make_task
from handjax.training import ahead
from handjax.training.config import OVERRIDE_PREFIX, load_config
from handjax.training.loop import make_step
from handjax.training.roofline import GIB, TERA
from handjax.training.step import Layout
from launch.flops import count_flops
from launch.timing import seconds, summary

RECIPE, TINY = "sesahand.py", "sesahand.py:tiny"
PLAIN = ("structural_fusion=none", "hand_alpha=0.0")
TINY_BATCH, FULL_BATCH = 4, 1
FULL_RUNS = 3
"""At most, of the paper's size."""
RATIO_BOUND = 1.05
"""Of the recipe's own form."""


def bench_sesahand(runs: int) -> Iterator[dict[str, Any]]:
    """A step of the tiny recipe on this machine, then one at the paper's size where memory allows, and the operations
    of that, of each form."""
    yield from bench_step("tiny", runs, TINY, f"batch_size={TINY_BATCH}")
    jax.clear_caches()
    yield from bench_step("full", min(runs, FULL_RUNS), RECIPE, *full_size())
    plain_tflop = tflop(*PLAIN)
    for form in FORMS[1:]:
        ours_tflop = tflop(f"structural_fusion={form}")
        bound = {"ratio_bound": RATIO_BOUND} if form == load_config(RECIPE).structural_fusion else {}
        yield {
            "name": f"operations_{form}",
            "ours": ours_tflop,
            "peer": plain_tflop,
            "peer_name": "ControlNet",
            "ratio": ours_tflop / plain_tflop,
            **bound,
            "unit": "TFLOP a step and picture",
            "runs": 1,
        }


def bench_step(size: str, runs: int, recipe: str, *words: str) -> Iterator[dict[str, Any]]:
    """What a step needs of memory, by the compiler's account, and of time, each in turn.

    Args:
      size: its name.
      runs: of each.
      recipe: of SesaHand.
      words: overrides of it.
    """
    ours, plain = Step(recipe, *words), Step(recipe, *words, *PLAIN)
    item = {"ours": ours.peak, "peer": plain.peak, "peer_name": "ControlNet", "ratio": ours.peak / plain.peak}
    yield {"name": f"memory_{size}", **item, "unit": "GiB", "runs": 1}
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    if max(ours.peak, plain.peak) > memory:
        print(f"step_{size} is left out: {ours.peak:.1f} GiB, of {memory:.1f} here", file=sys.stderr)
        return
    for step in (ours, plain):
        step.seconds()
    bound = {"ratio_bound": RATIO_BOUND} if size == "full" else {}
    times = [(ours.seconds(), plain.seconds()) for _ in range(runs)]
    yield {**summary(f"step_{size}", "ControlNet", times), **bound}


class Step:
    """A compiled step that is given constants anew each time: of the paper's size one state at a time fits in memory.

    Attributes:
      peak: GiB at the worst moment, by the compiler's account.
    """

    def __init__(self, recipe: str, *words: str):
        config = read_recipe(recipe, *words)
        task = make_task(config)
        step, _ = make_step(config, task, Layout())
        self.shapes = ahead.argument_shapes(config, task)
        self.compiled = jax.jit(step, donate_argnums=0).lower(*self.shapes).compile()
        self.peak = ahead.memory_of(self.compiled).peak / GIB

    def seconds(self) -> float:
        """Runs the step once."""
        arguments = jax.tree.map(_constant, self.shapes)
        jax.block_until_ready(arguments)
        return seconds(functools.partial(self.compiled, *arguments))


def _constant(shape: jax.ShapeDtypeStruct) -> jax.Array:
    whole = jnp.issubdtype(shape.dtype, jnp.integer)
    return jnp.full(shape.shape, 1 if whole else 0.01, shape.dtype)


def full_size() -> tuple[str, ...]:
    """Overrides for the paper's model without its weights, on one picture."""
    return f"model={SHAPES_ONLY}{load_config(RECIPE).model}", f"batch_size={FULL_BATCH}"


def tflop(*words: str) -> float:
    """Operations of the full recipe's step on one picture, in units of 10¹²; needs no weights."""
    config = read_recipe(RECIPE, *full_size(), *words)
    return count_flops(config, make_task(config)) / TERA


def read_recipe(name: str, *words: str) -> FrozenConfigDict:
    """A recipe with overrides."""
    return load_config(name, [f"{OVERRIDE_PREFIX}{word}" for word in words])
