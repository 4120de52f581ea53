"""Two steps of VQ-MANO on one device and on eight in three ways; prints the differences as one JSON document.

`python -m tests.tasks.codebook_runs`, with JAX_NUM_CPU_DEVICES=8.
"""

import json
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from handjax.tasks import make_task, resolve
from handjax.training.config import default_config, load_config
from handjax.training.parallel import make_engine
from handjax.training.state import create_state
from handjax.training.step import make_train_step

SMALL = ("network.width=8", "network.blocks=1", "quantizer.codes=24", "quantizer.dim=4")
BATCH, STEPS = 16, 2
RUNS: dict[str, dict[str, Any]] = {
    "jit": {},
    "pmap": {"mode": "pmap"},
    "micro": {"mode": "pmap", "accumulation": 2},
}


def main() -> None:
    config = load_config("vq_mano.py:tiny", [f"--config.{field}" for field in SMALL])
    task = make_task(config)
    # gradient descent, so that rounding never decides the sign of an update
    tx, schedule = optax.sgd(1e-2), optax.constant_schedule(0.0)
    loader = resolve(config.data.loader)(config.data, task.batch_spec(), BATCH, 0, "train")
    batches = [batch for batch, _ in zip(loader, range(STEPS), strict=False)]
    start = jax.device_get(create_state(task, tx, 0, with_ema=False))
    step, expected = jax.jit(make_train_step(task, tx, schedule)), start
    for batch in batches:
        expected, _ = step(expected, task.frozen(), batch)
    report = {"devices": jax.device_count(), "moved": _apart(start, expected)}
    for name, fields in RUNS.items():
        engine = make_engine(ml_collections.ConfigDict({**default_config().parallel, **fields}), BATCH, 1)
        options = {"layout": engine.layout, "accumulation": fields.get("accumulation", 1)}
        run = engine.compile(make_train_step(task, tx, schedule, **options), start)
        state, frozen = engine.place(start), engine.place_frozen(task.frozen())
        for batch in batches:
            state, _ = run(state, frozen, engine.place_batch(batch))
        report[name] = _apart(engine.gather(state), expected)
    print(json.dumps(report))


def _apart(state: Any, other: Any) -> dict[str, float]:
    """Largest difference of the codebook and of the parameters, relative to their largest value."""

    def apart(a, b):
        return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())

    trees = (state.model_state["vq"], state.params), (other.model_state["vq"], other.params)
    vq, params = (jax.tree.map(apart, *pair) for pair in zip(*trees, strict=True))
    return {**vq, "params": max(jax.tree.leaves(params))}


if __name__ == "__main__":
    main()
