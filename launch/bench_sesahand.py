"""What SesaHand's two modules cost a training step, beside a plain ControlNet of the same mesh."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from handjax.adapters.structural_fusion import FORMS
from handjax.diffusion.shapes import SHAPES_ONLY
from handjax.tasks import make_task
from handjax.training import ahead
from handjax.training.config import OVERRIDE_PREFIX, load_config
from handjax.training.loop import make_step
from handjax.training.roofline import GIB, TERA
from handjax.training.state import create_state
from handjax.training.step import Layout
from launch.flops import count_flops
from launch.timing import interleaved, summary

RECIPE, TINY = "sesahand.py", "sesahand.py:tiny"
PLAIN = ("structural_fusion=none", "hand_alpha=0.0")
BATCH = 4
RATIO_BOUND = 1.05
"""Of the recipe's own form."""


def bench_sesahand(runs: int) -> Iterator[dict[str, Any]]:
    """A step of the tiny recipe on this machine, then the operations of one at the paper's size, of each form."""
    (ours, our_peak), (plain, plain_peak) = (compiled_step(*words) for words in ((), PLAIN))
    times = interleaved(ours, plain, runs)
    peaks = {"peak_gib": our_peak, "peer_peak_gib": plain_peak, "memory_ratio": our_peak / plain_peak}
    yield {**summary("step_tiny", "ControlNet", times), **peaks}
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


def compiled_step(*words: str):
    """Compiles a step of the tiny recipe.

    Args:
      words: overrides of the recipe.

    Returns:
      A function that runs the step once, again and again from the same state; and GiB at the worst moment, by the
      compiler's account.
    """
    config = read_recipe(TINY, f"batch_size={BATCH}", *words)
    task = make_task(config)
    step, tx = make_step(config, task, Layout())
    state, frozen = create_state(task, tx, config.seed, with_ema=False), jax.device_put(task.frozen())
    batch = draw_batch(task.batch_spec(), task.model.tokenizer.end)
    compiled = jax.jit(step).lower(state, frozen, batch).compile()
    compiled(state, frozen, batch)
    return lambda: compiled(state, frozen, batch), ahead.memory_of(compiled).peak / GIB


def draw_batch(spec: dict[str, jax.ShapeDtypeStruct], words: int) -> dict[str, jax.Array]:
    """A batch of noise, whose captions have `words` different tokens."""
    rng = np.random.default_rng(0)

    def draw(field):
        whole = np.issubdtype(field.dtype, np.integer)
        shape = (BATCH, *field.shape)
        return jax.device_put((rng.integers(0, words, shape) if whole else rng.random(shape)).astype(field.dtype))

    return {name: draw(field) for name, field in spec.items()}


def tflop(*words: str) -> float:
    """Operations of the full recipe's step on one picture, in units of 10¹²; needs no weights."""
    config = read_recipe(RECIPE, f"model={SHAPES_ONLY}{load_config(RECIPE).model}", "batch_size=1", *words)
    return count_flops(config, make_task(config)) / TERA


def read_recipe(name: str, *words: str) -> FrozenConfigDict:
    """A recipe with overrides."""
    return load_config(name, [f"{OVERRIDE_PREFIX}{word}" for word in words])
