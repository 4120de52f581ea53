"""The pure step against gradients written out by hand, and its independence of how the batch is cut."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from handjax.training.config import load_config
from handjax.training.state import create_state, held_out_keys, step_keys
from handjax.training.step import make_train_step
from tests.training import toy_task

FEATURES, BATCH, LAMBDA = 6, 8, 0.3
TASK = toy_task.make(load_config("tests/training/toy_config.py"))


def _batch(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Very different numbers of unmasked entries, so that a mean of micro-batch means would be wrong.
    mask = rng.random((BATCH, FEATURES)) < np.linspace(0.05, 1, BATCH)[:, None]
    return {"x": rng.standard_normal((BATCH, FEATURES), np.float32), "mask": mask.astype(np.float32)}


def _pure_step(tx=None, *, with_ema: bool = False, **kwargs):
    tx = tx or optax.sgd(0.5)
    state = create_state(TASK, tx, 3, with_ema=with_ema)
    return state, make_train_step(TASK, tx, optax.constant_schedule(0.5), **kwargs)


def _step(*args, **kwargs):
    state, step = _pure_step(*args, **kwargs)
    return state, jax.jit(step)


class Variants(chex.TestCase):
    """The step is pure: whatever runs it, the gradient written out by hand comes out."""

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_step_follows_the_gradient_written_out_by_hand(self):
        state, step = _pure_step()
        batch, frozen = _batch(), TASK.frozen()
        after, metrics = self.variant(step)(state, frozen, batch)

        keys = step_keys(state.seed, state.step, jnp.arange(BATCH))
        noise = np.stack([jax.random.normal(key, (FEATURES,)) for key in keys])
        x = batch["x"].astype(np.float64) + 0.1 * noise
        w, b = (np.asarray(state.params[name], np.float64) for name in "wb")
        error = x @ w + b - x @ frozen["target"]
        d_error = 2 * batch["mask"] * error / batch["mask"].sum() + LAMBDA * np.sign(error) / error.size

        np.testing.assert_allclose(after.params["w"], w - 0.5 * x.T @ d_error, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after.params["b"], b - 0.5 * d_error.sum(0), rtol=1e-5, atol=1e-6)
        masked = (batch["mask"] * error**2).sum() / batch["mask"].sum()
        np.testing.assert_allclose(metrics["masked"], masked, rtol=1e-5)
        np.testing.assert_allclose(metrics["loss"], masked + LAMBDA * np.abs(error).mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics["x_mean"], x.mean(), rtol=1e-5)
        norm = np.sqrt(((x.T @ d_error) ** 2).sum() + (d_error.sum(0) ** 2).sum())
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
        np.testing.assert_allclose(after.model_state["mean"], 0.1 * batch["x"].mean(0), rtol=1e-5)
        assert int(after.step) == 1

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_accumulation_and_moving_average(self):
        state, whole = _step(optax.adam(0.1, eps=1e-3), with_ema=True, ema_decay=0.75)
        _, cut = _pure_step(optax.adam(0.1, eps=1e-3), with_ema=True, ema_decay=0.75, accumulation=4)
        expected, actual = whole(state, TASK.frozen(), _batch()), self.variant(cut)(state, TASK.frozen(), _batch())
        chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulation", [2, 8])
def test_accumulation_gives_the_step_of_the_whole_batch(accumulation):
    state, whole = _step()
    _, cut = _step(accumulation=accumulation)
    for expected, actual in zip(*(step(state, TASK.frozen(), _batch()) for step in (whole, cut)), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), expected, actual)


def test_moving_average_of_parameters():
    state, step = _step(with_ema=True, ema_decay=0.75)
    after, _ = step(state, TASK.frozen(), _batch())
    expected = 0.75 * state.params["w"] + 0.25 * after.params["w"]
    np.testing.assert_allclose(after.ema["w"], expected, rtol=1e-6)
    assert after.best_params is after.ema


def test_nothing_to_learn_from_is_no_nan():
    state, step = _step()
    empty = _batch() | {"mask": np.zeros((BATCH, FEATURES), np.float32)}
    after, metrics = step(state, TASK.frozen(), empty)
    assert float(metrics["masked"]) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))


def test_frozen_weights_are_an_argument_and_get_no_optimiser_state():
    state, step = _step(optax.adam(0.1))
    frozen = TASK.frozen()
    moved, _ = step(state, jax.tree.map(lambda x: x + 1, frozen), _batch())
    assert not np.allclose(moved.params["b"], step(state, frozen, _batch())[0].params["b"])
    shapes = {leaf.shape for leaf in jax.tree.leaves(state.opt_state)}
    assert shapes == {(), (FEATURES,), (FEATURES, FEATURES)}
    assert len(jax.tree.leaves(state.opt_state)) == 2 * len(jax.tree.leaves(state.params)) + 1


def test_keys_differ_by_example_step_and_seed_and_not_by_anything_else():
    def data(keys):
        return {tuple(row) for row in np.asarray(jax.random.key_data(keys))}

    index = jnp.arange(4)
    streams = [step_keys(jnp.uint32(seed), jnp.int32(step), index) for seed in (0, 1) for step in (0, 1)]
    streams.append(held_out_keys(jnp.uint32(0), index))
    assert len(set.union(*map(data, streams))) == 4 * len(streams)
    alone = step_keys(jnp.uint32(0), jnp.int32(1), jnp.array([2]))
    assert data(alone) == data(streams[1][2:3])


def test_the_pass_for_the_weights_costs_no_network():
    """The weights depend on the mask alone: the compiled step must multiply no more matrices than one gradient."""
    state, step = _step(accumulation=2)
    args = state, TASK.frozen(), _batch()
    assert step.lower(*args).compile().as_text().count(" dot(") <= 3  # two products forward, one backward
