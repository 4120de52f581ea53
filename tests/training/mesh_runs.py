"""Two steps on eight devices in all ways; prints what the tests compare as one JSON document.

`python -m tests.training.mesh_runs FOLDER`, with JAX_NUM_CPU_DEVICES=8.
"""

import contextlib
import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
import optax

from handjax.training import sharding
from handjax.training.checkpoints import Checkpoints
from handjax.training.clock import Clock
from handjax.training.collectives import collectives
from handjax.training.config import default_config, load_config
from handjax.training.parallel import make_engine
from handjax.training.remat import remat_policy
from handjax.training.sharding import path_name
from handjax.training.state import TrainState, create_state
from handjax.training.step import make_train_step
from tests.training import block_task

TASK = block_task.make(None)
EXAMPLES = 16
# a large epsilon, so that rounding never decides the sign of an update
ADAM = optax.adam(1e-2, eps=1e-3)
OPTIONS = {"ema_decay": 0.9}
RUNS: dict[str, dict[str, Any]] = {
    "8x1x1": {},
    "4x2x1": {"fsdp": 2},
    "2x2x2": {"fsdp": 2, "model": 2},
    "all": {"fsdp": 2, "model": 2, "frozen": "sharded", "remat": "blocks", "accumulation": 2},
    "pmap": {"mode": "pmap"},
}
MOVED = ("4x2x1", "2x2x2", "pmap")


def reference() -> tuple[TrainState, list[float], TrainState]:
    """Two steps with no engine, on one device: the state before, the losses, the state after."""
    step = jax.jit(make_train_step(TASK, ADAM, optax.constant_schedule(0.0), **OPTIONS))
    start, losses = create_state(TASK, ADAM, 0, with_ema=True), []
    state = start
    for number in range(2):
        state, metrics = step(state, TASK.frozen(), block_task.batch(number))
        losses.append(float(metrics["loss"]))
    return jax.device_get(start), losses, state


def engine_of(name: str) -> Any:
    fields = {**default_config().parallel, **RUNS[name]}
    return make_engine(ml_collections.ConfigDict(fields), EXAMPLES, fields.get("accumulation", 1))


def watching(seen: dict[str, list[int]]) -> optax.GradientTransformation:
    """Adam that writes down what one device holds of each gradient."""

    def update(grads: Any, state: Any, params: Any) -> Any:
        for path, grad in jax.tree_util.tree_leaves_with_path(grads):
            part = functools.partial(_note_part, seen, path_name(path), grad.shape)
            jax.debug.inspect_array_sharding(grad, callback=part)
        return ADAM.update(grads, state, params)

    return optax.GradientTransformation(ADAM.init, update)


def _note_part(seen: dict[str, list[int]], name: str, shape: tuple[int, ...], sharding: Any) -> None:
    seen[name] = list(sharding.shard_shape(shape))


def run(name: str, start: TrainState, losses: list[float], expected: TrainState) -> tuple[dict[str, Any], TrainState]:
    """Runs the same steps; returns the differences, how the state is cut and what was sent, and the state."""
    engine, fields = engine_of(name), RUNS[name]
    gradients: dict[str, list[int]] = {}
    tx = ADAM if name == "pmap" else watching(gradients)
    accumulation, remat = fields.get("accumulation", 1), remat_policy(fields.get("remat", "none"))
    options = {**OPTIONS, "accumulation": accumulation, "remat": remat, "layout": engine.layout}
    step = make_train_step(TASK, tx, optax.constant_schedule(0.0), **options)
    state = engine.place(start)
    frozen = engine.place_frozen(TASK.frozen())
    batches = [engine.place_batch(block_task.batch(number)) for number in range(2)]
    compiled = engine.compile(step, state).lower(state, frozen, batches[0]).compile()
    loss_errors = []
    for batch, loss in zip(batches, losses, strict=True):
        state, metrics = compiled(state, frozen, batch)
        loss_errors.append(abs(float(metrics["loss"]) - loss) / loss)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    report = {
        "loss_errors": loss_errors,
        "errors": differences(engine.gather(state), expected),
        "specs": {path_name(path): list(leaf.sharding.spec) for path, leaf in leaves},
        "parts": {path_name(path): leaf.sharding.shard_shape(leaf.shape) for path, leaf in leaves},
        "gradients": gradients,
        "collectives": {kind: dataclasses.asdict(traffic) for kind, traffic in collectives(compiled).items()},
        "state_bytes": sum(leaf.addressable_shards[0].data.nbytes for _, leaf in leaves),
        "frozen_bytes": sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(frozen)),
    }
    return report, state


def differences(state: TrainState, expected: TrainState) -> dict[str, float]:
    """Largest absolute difference of each part of the state."""
    parts = ("params", "opt_state", "ema", "step")
    pairs = {part: (getattr(state, part), getattr(expected, part)) for part in parts}
    apart = {
        part: jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), *pairs[part]) for part in parts
    }
    return {part: float(max(jax.tree.leaves(tree))) for part, tree in apart.items()}


def open_checkpoints(folder: Path) -> Any:
    return contextlib.closing(Checkpoints(folder, load_config("tests/training/toy_config.py"), "hash"))


def data() -> grain.DatasetIterator:
    return iter(grain.MapDataset.source(np.arange(4)).to_iter_dataset())


def move(folder: Path, state: TrainState) -> dict[str, Any]:
    """Saves a state of the first way, restores it in the others."""
    with open_checkpoints(folder) as checkpoints:
        checkpoints.save(2, engine_of(MOVED[0]).gather(state), data(), Clock(8), {})
    moved = {}
    for name in MOVED[1:]:
        engine = engine_of(name)
        fresh = create_state(TASK, ADAM, 0, with_ema=True, constrain=engine.layout.constrain)
        with open_checkpoints(folder) as checkpoints:
            restored = engine.place(checkpoints.restore(fresh, data(), Clock(8)))
        leaves = jax.tree_util.tree_leaves_with_path(restored)
        specs = {path_name(path): list(leaf.sharding.spec) for path, leaf in leaves}
        moved[name] = {"errors": differences(engine.gather(restored), state), "specs": specs}
    return moved


def main() -> None:
    assert jax.device_count() == 8
    sharding.SMALL = 2**10  # so that small matrices, which are fast, are cut
    start, losses, expected = reference()
    reports, states = {}, {}
    for name in RUNS:
        reports[name], states[name] = run(name, start, losses, expected)
    print(json.dumps({"runs": reports, "moved": move(Path(sys.argv[1]), states[MOVED[0]])}))


if __name__ == "__main__":
    main()
