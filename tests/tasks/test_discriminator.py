"""The discriminator's training on toy features: its loss, its state, what it learns, resumption."""

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.real_generated import make_loader
from handjax.errors import ConfigError, InputError, WeightsError
from handjax.guidance import discriminator as network
from handjax.guidance.diff_augment import diff_augment
from handjax.guidance.discriminator import DiscriminatorConfig, Heads, hinge
from handjax.guidance.spectral import spectral_normalised
from handjax.tasks import discriminator, make_task
from handjax.tasks.discriminator import DiscriminatorTask
from handjax.training.config import load_config
from handjax.training.loop import train
from handjax.weights.names import to_flax
from handjax.weights.safetensors import read_tensors

SIZE, WORDS = 32, 8
SMALL = ("steps=6", "batch_size=4", "log_every=1", "eval_every=0", "preview_every=0", "checkpoint.every=3")


def toy_features(config, backbone_params, images):
    """Mean colours of an 8th and of a quarter of the side, times frozen weights."""
    levels = []
    for cells in (4, 8):
        side = images.shape[1] // cells
        means = images.reshape(len(images), cells, side, cells, side, 3).mean(axis=(2, 4))
        levels.append(means.reshape(len(images), -1, 3) @ backbone_params)
    return tuple(levels)


@pytest.fixture
def task(model, monkeypatch):
    monkeypatch.setattr(discriminator, "level_features", toy_features)
    monkeypatch.setattr(network, "level_features", toy_features)
    monkeypatch.setattr(network, "_zero_backbone", lambda config: jnp.zeros((3, 4)))
    config = DiscriminatorConfig("efficientnet_lite0", SIZE, 8)
    weights = np.float32(np.random.default_rng(0).normal(size=(3, 4)))
    return DiscriminatorTask(config, weights, model.text_encoder, model.text_params, WORDS)


def pairs(count, seed=0):
    """Real crops are reddish, generated ones bluish."""
    rng = np.random.default_rng(seed)
    color = np.array([0.3, 0.0, -0.3])
    noise = rng.uniform(-0.3, 0.3, (2, count, SIZE, SIZE, 3))
    return {
        "real_image": np.float32(noise[0] + color),
        "generated_image": np.float32(noise[1] - color),
        "real_ids": rng.integers(0, 1796, (count, WORDS)).astype(np.int32),
        "generated_ids": rng.integers(0, 1796, (count, WORDS)).astype(np.int32),
    }


def test_the_loss_is_the_hinge_of_augmented_crops_under_normalised_heads(task, model):
    params, state = task.init(jax.random.key(0))
    batch, keys = pairs(3), jax.random.split(jax.random.key(1), 3)
    losses, new_state, metrics = jax.jit(task.loss)(params, task.frozen(), state, batch, keys)
    normalised, vectors = spectral_normalised(params, state["spectral"])
    for side, number in (("real", 0), ("generated", 1)):
        own = jnp.stack([jax.random.split(key)[number] for key in keys])
        crops = diff_augment(jnp.asarray(batch[f"{side}_image"]), own)
        features = toy_features(None, task.backbone_params, crops)
        logits = Heads().apply({"params": normalised}, features, model.embed_ids(jnp.asarray(batch[f"{side}_ids"])))
        wanted = np.asarray(hinge(logits, side == "real"), np.float64).sum()
        np.testing.assert_allclose(losses[f"hinge_{side}"][0], wanted, rtol=1e-3)
        scores = np.mean([np.asarray(level).mean(axis=1) for level in logits], axis=0)
        right = (scores > 0) if side == "real" else (scores < 0)
        assert metrics[f"{side}_right"] == (right.sum(), 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), new_state["spectral"], vectors)
    assert set(new_state["spectral"]) == {"heads_0", "heads_1"}  # what is told of the prompt keeps its size


def recipe(*fields):
    return load_config("mghand_discriminator.py:tiny", [f"--config.{field}" for field in (*SMALL, *fields)])


def run(task, config, folder):
    def load(split):
        rows = [{name: values[i] for name, values in pairs(16).items()} for i in range(16)]
        return grain.MapDataset.source(rows).shuffle(seed=0).repeat().batch(4, drop_remainder=True).to_iter_dataset()

    return train(config, task, load, folder)


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(task, tmp_path):
    alone = run(task, recipe(), tmp_path / "alone")
    run(task, recipe("steps=3"), tmp_path / "cut")
    resumed = run(task, recipe(), tmp_path / "cut")
    assert int(resumed.step) == 6
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), jax.device_get(alone))


@pytest.mark.slow
def test_it_learns_to_tell_them_apart_and_what_is_exported_tells_the_same(task, tmp_path):
    state = run(task, recipe("steps=60", "optim.lr=1e-2", "checkpoint.every=60", "ema_decay=0.0"), tmp_path / "run")
    held_out, keys = pairs(8, seed=1), jax.random.split(jax.random.key(0), 8)
    evaluate = jax.jit(task.evaluate)
    params, first_state = task.init(jax.random.key(0))
    before = evaluate(params, task.frozen(), first_state, held_out, keys)
    terms = evaluate(state.best_params, task.frozen(), state.model_state, held_out, keys)
    assert float(terms["real_right"][0]) == float(terms["generated_right"][0]) == 8
    assert sum(float(terms[f"hinge_{s}"][0]) for s in discriminator.SIDES) < 0.7 * sum(
        float(before[f"hinge_{s}"][0]) for s in discriminator.SIDES
    )
    task.exports["handjax"](state.best_params, state.model_state, tmp_path / "out", np.dtype(np.float32))
    saved = to_flax(read_tensors(tmp_path / "out" / "discriminator.safetensors"))
    features = toy_features(None, task.backbone_params, jnp.asarray(held_out["real_image"]))
    context = task.text_encoder.apply({"params": task.text_params}, jnp.asarray(held_out["real_ids"]))
    logits = Heads().apply({"params": saved}, features, context)
    np.testing.assert_allclose(np.asarray(hinge(logits, True)).sum(), terms["hinge_real"][0], rtol=1e-3)


def test_preview_shows_crops_beside_augmented_ones(task):
    batch, keys = pairs(2), jax.random.split(jax.random.key(0), 2)
    crops = np.asarray(task.preview({}, {}, {}, batch, keys)["crops"])
    assert crops.shape == (2 * SIZE, 4 * SIZE, 3)
    np.testing.assert_allclose(crops[:SIZE, :SIZE] / 127.5 - 1, batch["real_image"][0], atol=0.01)
    assert (crops[:, SIZE : 2 * SIZE] != crops[:, :SIZE]).any()


def test_the_recipes():
    config = load_config("mghand_discriminator.py")
    assert (config.backbone, config.data.image_size, config.optim.b1) == ("dino_vits16", 224, 0.0)
    with pytest.raises(WeightsError, match=r"^nowhere.*`--config mghand_discriminator\.py:tiny` needs no download$"):
        make_task(recipe("model=nowhere"))
    with pytest.raises(ConfigError, match="no variant 'huge'"):
        load_config("mghand_discriminator.py:huge")


def test_a_side_without_records_is_told():
    task = make_task(recipe())
    assert task.batch_spec()["real_image"].shape == (64, 64, 3)
    section = load_config("mghand_discriminator.py:tiny").data
    with pytest.raises(InputError, match=r"data\.generated is empty; make pictures by launch\.generate"):
        make_loader(section, task.batch_spec(), 4, 0, "train")
