"""The train step from shapes alone: memory and operations against sums done by hand."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import ConfigError, InputError
from handjax.tasks import make_task
from handjax.training import ahead
from handjax.training.config import load_config
from handjax.training.program import argument_elements
from handjax.training.state import create_state

TOY = "tests/training/toy_config.py"
CONFIG = load_config(TOY)
FEATURES, BATCH = 6, 8
INPUTS, HIDDEN, OUTPUTS = 128, 256, 64


@pytest.fixture(scope="module")
def lowered():
    return ahead.lower_step(CONFIG, make_task(CONFIG), jax.devices()[:1])


@pytest.fixture(scope="module")
def compiled(lowered):
    return ahead.compile_step(lowered)


def test_arguments_of_a_compiled_step(compiled):
    # parameters, two moments, average; model state; frozen matrix; two fields of the batch; besides, the guard's
    # average and three counts, step, the optimiser's two counts and the seed
    floats = 4 * (FEATURES**2 + FEATURES) + FEATURES + FEATURES**2 + 2 * BATCH * FEATURES
    assert argument_elements(compiled.as_text()) == {"f32": floats + 1, "s32": 3 + 3, "u32": 1}
    memory = ahead.memory_of(compiled)
    assert memory.arguments == 4 * (floats + 8)
    assert memory.peak >= memory.arguments + memory.temporaries


def test_the_peak_has_what_is_made_on_the_way():
    """The gradient of sin(A)·cos(A) needs both factors at once, beside A and the result."""
    gradient = jax.grad(lambda a: (jnp.sin(a @ a) @ jnp.cos(a.T @ a)).sum())
    matrix = jax.ShapeDtypeStruct((512, 512), jnp.float32)
    memory = ahead.memory_of(jax.jit(gradient).lower(matrix).compile())
    assert memory.arguments == 512 * 512 * 4
    assert memory.peak >= 4 * memory.arguments


def test_a_compiled_step_is_saved_and_runs(lowered, compiled, tmp_path):
    ahead.save_step(compiled, tmp_path / "step")
    task = make_task(CONFIG)

    def run(step):
        rng = np.random.default_rng(0)
        shapes = ahead.argument_shapes(CONFIG, task)[2]
        batch = {name: rng.random(array.shape, np.float32) for name, array in shapes.items()}
        _, tx = ahead.make_step(CONFIG, task, ahead.Layout())
        return step(create_state(task, tx, 0, with_ema=True), task.frozen(), batch)

    loaded, made = run(ahead.load_step(tmp_path / "step", lowered)), run(compiled)
    jax.tree.map(np.testing.assert_array_equal, loaded, made)
    assert float(made[1]["loss"]) > 0


@pytest.mark.parametrize("content", [None, b"", b"something else"])
def test_what_is_no_compiled_step_is_refused(content, lowered, tmp_path):
    path = tmp_path / "step"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="no compiled step for these devices"):
        ahead.load_step(path, lowered)


def test_pmap_is_not_compiled_ahead():
    config = load_config(TOY, ["--config.parallel.mode=pmap"])
    with pytest.raises(ConfigError, match="use parallel.mode='jit'"):
        ahead.lower_step(config, make_task(config), jax.devices()[:1])


@dataclasses.dataclass(frozen=True)
class TwoLayers:
    """Sum of tanh(x·a)·b over a batch: products of known size and little else."""

    loss_weights: ClassVar[dict[str, float]] = {"sum": 1.0}
    exports: ClassVar[dict[str, Any]] = {}

    def init(self, rng):
        return {"a": jnp.zeros((INPUTS, HIDDEN)), "b": jnp.zeros((HIDDEN, OUTPUTS))}, {}

    def frozen(self):
        return {}

    def batch_spec(self):
        return {"x": jax.ShapeDtypeStruct((INPUTS,), jnp.float32)}

    def loss(self, trainable, frozen, state, batch, rng):
        out = jnp.tanh(batch["x"] @ trainable["a"]) @ trainable["b"]
        return {"sum": (out.sum(), jnp.float32(len(out)))}, state, {}

    def evaluate(self, trainable, frozen, state, batch, rng):
        return self.loss(trainable, frozen, state, batch, rng)[0]

    def preview(self, trainable, frozen, state, batch, rng):
        return {}


def _flops_an_example(recomputed: bool, *words: str) -> float:
    """What one more example costs: the optimiser's share does not depend on their number."""
    counts = []
    for batch in (64, 128):
        config = load_config(TOY, [f"--config.batch_size={batch}", *words])
        counts.append(ahead.count_flops(config, TwoLayers(), recomputed=recomputed))
    return (counts[1] - counts[0]) / 64


def test_operations_are_those_of_the_products():
    first, second = 2 * INPUTS * HIDDEN, 2 * HIDDEN * OUTPUTS
    # forwards, weights' gradients, and the gradient that goes back through the second
    assert _flops_an_example(recomputed=True) == pytest.approx(2 * first + 3 * second, rel=0.02)


def test_what_is_computed_again_is_counted_apart():
    first = 2 * INPUTS * HIDDEN
    remat, plain = "--config.parallel.remat=blocks", _flops_an_example(recomputed=True)
    assert _flops_an_example(False, remat) == plain
    # nothing is marked as kept, so the first product runs twice
    assert _flops_an_example(True, remat) - plain == pytest.approx(first, rel=0.02)


def test_accumulation_costs_no_operations():
    assert _flops_an_example(False, "--config.accumulation=4") == _flops_an_example(False)


MESSAGE = """RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm.

Total hbm usage >= 20.75G:
    reserved        258.00M
    program          18.00G
    arguments         2.50G

  Largest program allocations in hbm:

  1. Size: 1.50G
     Operator: op_name="jit(run)/jvp(UNet)/up_blocks_3/conv" source_file="a.py" source_line=3
     Shape: bf16[8,64,64,960]{0,3,2,1:T(8,128)(2,1)}
     Unpadded size: 1.40G
     XLA label: fusion.1
     Allocation type: HLO temp
     ==========================

  2. Size: 512.0M
     Shape: f32[8,4096,4096]{2,1,0:T(8,128)}
     Unpadded size: 512.0M
     Allocation type: HLO temp
"""


def test_what_does_not_fit_names_its_largest_arrays():
    found = ahead.read_too_large(MESSAGE)
    assert (found.needed, found.available) == (20.5 * 2**30, 15.75 * 2**30)
    assert [tensor.bytes for tensor in found.largest] == [1.5 * 2**30, 2**29]
    assert found.largest[0].shape.startswith("bf16[8,64,64,960]")
    assert found.largest[0].operator == "jit(run)/jvp(UNet)/up_blocks_3/conv"
    assert found.largest[1].operator == ""


def test_other_messages_are_no_lack_of_memory():
    assert ahead.read_too_large("INVALID_ARGUMENT: no such operation") is None
