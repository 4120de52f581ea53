"""VQ-MANO as it is trained: its losses, its codebook over devices, its resumption."""

import functools
import itertools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.poses import pose_maker
from handjax.errors import ConfigError
from handjax.hand.angles import angles_from_pose
from handjax.hand.model import load_open_hand, pose_hand, pose_hand_matrices
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.hand.topology import JOINT_LIMITS
from handjax.metrics import alignment, keypoints
from handjax.recovery.quantizer import nearest_codes
from handjax.recovery.tokenizer import load_tokenizer
from handjax.tasks import make_task, resolve
from handjax.training.config import load_config
from handjax.training.loop import train
from handjax.training.optimizer import make_optimizer
from handjax.training.state import create_state
from handjax.training.step import make_train_step
from launch import export
from tests.hand.mano_files import mano_arrays, write_python2
from tests.tasks.codebook_runs import RUNS, SMALL

FIELDS = (*SMALL, "batch_size=16", "eval_every=0", "preview_every=0", "log_every=1", "checkpoint.every=3")


def _config(*fields):
    return load_config("vq_mano.py:tiny", [f"--config.{field}" for field in (*FIELDS, *fields)])


def _load(config, task, split="train", **more):
    loader = resolve(config.data.loader)
    spec = task.batch_spec()
    return loader(config.data, batch_spec=spec, batch_size=config.batch_size, seed=config.seed, split=split, **more)


@pytest.fixture(scope="module")
def task():
    return make_task(_config())


@pytest.fixture(scope="module")
def batch(task):
    return next(iter(_load(_config(), task)))


@pytest.fixture(scope="module")
def start(task):
    params, state = task.init(jax.random.key(0))
    return params, state, jax.random.split(jax.random.key(1), 16)


def test_losses_are_those_of_the_paper(task, batch, start):
    params, state, keys = start
    losses, _, _ = jax.jit(task.loss)(params, task.frozen(), state, batch, keys)
    truth = axis_angle_to_matrix(batch["pose"])
    latents = np.float64(task.network.apply({"params": params}, truth, method="encode"))
    codebook = np.float64(state["vq"]["sums"] / state["vq"]["counts"][:, None])
    codes = codebook[np.linalg.norm(latents[:, :, None] - codebook, axis=-1).argmin(-1)]
    decoded = task.network.apply({"params": params}, jnp.float32(codes), method="decode")
    values = {name: float(total / weight) for name, (total, weight) in losses.items()}
    assert values["commitment"] == pytest.approx(np.square(latents - codes).mean(), rel=1e-4)
    assert values["rotation"] == pytest.approx(np.abs(np.float64(decoded) - truth).mean(), rel=1e-4)
    assert task.loss_weights == {"rotation": 1.0, "vertex": 0.5, "joint": 0.3, "commitment": 1.0}


def test_evaluation_in_millimetres_is_that_of_the_metrics(task, batch, start):
    params, state, keys = start
    terms = jax.jit(task.evaluate)(params, task.frozen(), state, batch, keys)
    codebook, _ = task.quantizer.revived(state["vq"])
    truth = axis_angle_to_matrix(batch["pose"])
    latents = task.network.apply({"params": params}, truth, method="encode")
    chosen = jnp.linalg.norm(latents[:, :, None] - codebook, axis=-1).argmin(-1)
    decoded = task.network.apply({"params": params}, codebook[chosen], method="decode")
    posed = [_posed(task.hand, turns, batch["betas"]) for turns in (decoded, truth)]
    for name, part in (("pa_mpjpe_mm", "keypoints"), ("pa_mpvpe_mm", "vertices")):
        made, right = (np.float64(getattr(hand, part)) for hand in posed)
        expected = 1000 * keypoints.mean_position_error(alignment.procrustes_align(made, right), right)
        assert float(terms[name][0] / terms[name][1]) == pytest.approx(expected, rel=1e-3)


def _posed(hand, rotations, betas):
    return jax.vmap(lambda turns, shape: pose_hand_matrices(hand, turns, shape, jnp.zeros(3)))(rotations, betas)


def test_poses_are_within_the_limits_of_motion_and_the_same_again():
    hand = load_open_hand()
    poses = pose_maker(hand, 3)(np.arange(200))
    angles = jax.vmap(functools.partial(angles_from_pose, hand))(jnp.asarray(poses["pose"]).at[:, 0].set(0))
    low, high = np.moveaxis(JOINT_LIMITS, -1, 0)
    assert ((angles >= low - 1e-3) & (angles <= high + 1e-3)).all()
    again = pose_maker(hand, 3)(np.array([7, 2**32 - 1]))
    np.testing.assert_allclose(again["pose"][0], poses["pose"][7], atol=1e-5)  # batches of other sizes round anew
    assert not np.allclose(again["pose"][1], poses["pose"][199])
    assert np.linalg.norm(poses["pose"][:, 0], axis=-1).mean() > 1.5  # turned every way: π/2 + 2/π on average


def test_processes_share_the_batches_and_held_out_poses_are_fixed(task):
    config = _config()
    whole = next(itertools.islice(_load(config, task), 1, None))
    parts = [next(itertools.islice(_load(config, task, process_index=p, process_count=2), 1, None)) for p in (0, 1)]
    np.testing.assert_allclose(np.concatenate([part["pose"] for part in parts]), whole["pose"], atol=1e-5)
    held_out = [next(iter(_load(_config(f"seed={seed}"), task, "eval")))["pose"] for seed in (0, 1)]
    np.testing.assert_array_equal(*held_out)
    assert not np.allclose(held_out[0], next(iter(_load(config, task)))["pose"])


@pytest.mark.slow
def test_training_lowers_every_error_and_uses_the_codes():
    sizes = ("network.width=32", "quantizer.codes=32", "quantizer.dim=8")
    config = _config("steps=400", "optim.lr=3e-3", *sizes)
    task = make_task(config)
    tx, schedule = make_optimizer(config.optim, config.steps)
    state, step = create_state(task, tx, 0, with_ema=False), jax.jit(make_train_step(task, tx, schedule))
    reports = []
    for batch in itertools.islice(_load(config, task), config.steps):
        state, metrics = step(state, task.frozen(), batch)
        reports.append(metrics)
    reports = jax.device_get(reports)

    def mean(name, part):
        return np.mean([report[name] for report in reports[part]])

    first, last = slice(5), slice(-20, None)
    assert mean("loss", last) < 0.6 * mean("loss", first)
    for name in ("rotation", "vertex", "joint"):
        assert mean(name, last) < 0.6 * mean(name, first), name
    assert mean("usage", last) > 0.7
    assert 10 < mean("perplexity", last) <= 32.01


def test_a_codebook_is_learnt_by_its_gradient_where_it_has_a_weight(task, start):
    """λ_E·‖sg[z] - c‖² pulls each code towards the latents that chose it, and no network; ‖z - sg[c]‖² no code."""
    learnt = make_task(_config("loss.embedding_weight=0.02", "ema_decay=0.9"))
    assert learnt.loss_weights["embedding"] == 0.02
    params, state = learnt.init(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, next(iter(_load(_config(), task))))

    @functools.partial(jax.jit, static_argnums=1)
    def slopes(params, name):
        def term(params):
            total, weight = learnt.loss(params, learnt.frozen(), state, batch, start[2])[0][name]
            return total / weight

        return jax.grad(term)(params)

    of_embedding, of_commitment = slopes(params, "embedding"), slopes(params, "commitment")
    assert not any(np.any(leaf) for name in ("encoder", "decoder") for leaf in jax.tree.leaves(of_embedding[name]))
    assert not np.any(of_commitment["codebook"]) and np.any(jax.tree.leaves(of_commitment["encoder"])[0])
    codebook = np.float64(params["codebook"])
    truth = axis_angle_to_matrix(batch["pose"])
    latents = np.float64(learnt.network.apply({"params": params}, truth, method="encode")).reshape(-1, 4)
    chosen = np.linalg.norm(latents[:, None] - codebook, axis=-1).argmin(-1)
    expected = np.zeros_like(codebook)
    np.add.at(expected, chosen, 2 * (codebook[chosen] - latents) / latents.size)
    np.testing.assert_allclose(of_embedding["codebook"], expected, rtol=1e-3, atol=1e-7)
    terms = jax.eval_shape(learnt.evaluate, params, learnt.frozen(), state, batch, None)
    assert terms.keys() >= learnt.loss_weights.keys()


@pytest.mark.slow
def test_eight_devices_keep_the_codebook_of_one():
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.tasks.codebook_runs"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["devices"] == 8
    assert min(report["moved"].values()) > 1e-3
    for name in RUNS:
        assert max(report[name].values()) < 2e-5, name


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, task):
    def run(folder, steps):
        looked_at = ("eval_every=3", "preview_every=3", "eval_batches=1")
        config = _config(f"steps={steps}", "optim.schedule=constant", *looked_at)
        return train(config, task, lambda split: _load(config, task, split), tmp_path / folder)

    alone = run("alone", 6)
    run("cut", 3)
    resumed = run("cut", 6)
    assert int(resumed.step) == 6
    held_out = [line for line in map(json.loads, (tmp_path / "cut/metrics.jsonl").open()) if "eval/loss" in line]
    weights = make_task(_config()).loss_weights
    for line in held_out:
        assert line["eval/loss"] == pytest.approx(sum(weights[name] * line[f"eval/{name}"] for name in weights))
    assert [line["step"] for line in held_out] == [0, 3, 6]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), jax.device_get(alone))


def test_manos_class_is_tokenised_as_well(tmp_path):
    write_python2(tmp_path / "MANO_RIGHT.pkl", mano_arrays())
    config = _config(f"data.hand_model={tmp_path / 'MANO_RIGHT.pkl'}", "batch_size=4")
    task = make_task(config)
    assert task.hand.name == "mano"
    batch = next(iter(_load(config, task)))
    params, state = task.init(jax.random.key(0))
    terms = jax.jit(task.evaluate)(params, task.frozen(), state, batch, None)
    hand = pose_hand(task.hand, batch["pose"][0], batch["betas"][0], jnp.zeros(3))
    assert hand.vertices.shape == (778, 3)
    assert all(np.isfinite(total) for total, _ in terms.values())


def test_a_preview_is_drawn(task, batch, start):
    params, state, keys = start
    picture = jax.jit(task.preview)(params, task.frozen(), state, batch, keys)["reconstruction"]
    assert picture.shape == (8 * 96, 2 * 96, 3)
    assert picture[:, :96].max() > 200 and picture[:, 96:].max() > 200


def test_tokens_that_joints_cannot_share_are_refused():
    with pytest.raises(ConfigError, match="network.tokens=48 does not fit 16 joints"):
        make_task(_config("network.tokens=48"))


def test_averaged_parameters_are_refused_beside_an_averaged_codebook():
    with pytest.raises(ConfigError, match="ema_decay=0.99 does not fit a codebook of averages") as caught:
        make_task(_config("ema_decay=0.99"))
    assert "\n" not in str(caught.value)


def test_the_full_recipe_is_the_papers():
    config = load_config("vq_mano.py")
    assert (config.steps, config.batch_size, config.network.tokens) == (400_000, 512, 64)
    assert (config.quantizer.codes, config.quantizer.dim, config.quantizer.decay) == (2048, 256, 0.99)
    tx, schedule = make_optimizer(config.optim, config.steps)
    gradient, params = jnp.array([300.0, -4e-3]), jnp.array([1.0, 2.0])
    update, _ = tx.update(gradient, tx.init(params), params)
    np.testing.assert_allclose(update, [-1e-4, 1e-4], rtol=1e-4)  # plain Adam: neither clipped nor decayed
    assert float(schedule(0)) == float(schedule(399_999)) == pytest.approx(1e-4)


@pytest.mark.parametrize("fields", [(), pytest.param(("loss.embedding_weight=0.02",), marks=pytest.mark.slow)])
def test_a_run_is_exported_and_read_again(fields, tmp_path, batch, monkeypatch, capsys):
    config = _config("steps=2", *fields)
    task = make_task(config)
    state = train(config, task, lambda split: _load(config, task, split), tmp_path / "run")
    words = ["--run", str(tmp_path / "run"), "--to", "handjax", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["launch.export", *words])
    export.main()
    assert "step 2" in capsys.readouterr().out
    again = load_tokenizer(tmp_path / "out")
    assert (again.network, again.hand, again.codebook.shape) == (task.network, "open_hand", (24, 4))
    rotations = axis_angle_to_matrix(batch["pose"])
    latents = again.network.apply({"params": again.params}, rotations, method="encode")
    codes = again.codebook[nearest_codes(latents, again.codebook)]
    decoded = again.network.apply({"params": again.params}, codes, method="decode")
    terms = jax.jit(task.evaluate)(state.params, task.frozen(), state.model_state, batch, None)
    expected = float(terms["rotation"][0] / terms["rotation"][1])
    assert float(jnp.abs(decoded - rotations).mean()) == pytest.approx(expected, rel=1e-5)
