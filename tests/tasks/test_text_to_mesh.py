"""Text-to-mesh on tiny networks: what is hidden and learnt from, and that the prompt decides the hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import ConfigError, WeightsError
from handjax.hand.model import load_open_hand
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.recovery.masking import draw_masks
from handjax.recovery.posing import pose_hands
from handjax.recovery.text_files import load_text_to_mesh
from handjax.recovery.text_network import TextMeshNetwork
from handjax.recovery.tokenizer import code_rotations, pose_tokens, save_tokenizer
from handjax.tasks import make_task
from handjax.tasks.text_to_mesh import TextToMeshTask
from handjax.training.config import load_config
from handjax.training.optimizer import make_optimizer
from handjax.training.state import create_state
from handjax.training.step import make_train_step
from launch.train import data_section
from tests.recovery.tiny_texts import PROMPTS, poses, random_text_model

BATCH = len(PROMPTS) + 1
STEPS = 500
ALL_HIDDEN = 0.2  # upper end of τ by which each of 16 tokens is hidden: the words alone tell the pose
KEYS = jax.random.split(jax.random.key(5), BATCH)
WEIGHTS = {"mask": 1.0, "rotation": 1e-3, "joints_3d": 5e-2}


@pytest.fixture(scope="module")
def model():
    return random_text_model()


@pytest.fixture(scope="module")
def task(model):
    return TextToMeshTask(model.network, model.tokenizer, model.text, load_open_hand(), WEIGHTS, most=0.7)


@pytest.fixture(scope="module")
def batch(model):
    """A hand for each prompt, and one whose mesh is not known."""
    arrays = {
        "pose": np.concatenate([poses(), np.zeros((1, 16, 3), np.float32)]),
        "betas": np.random.default_rng(0).normal(0, 0.5, (BATCH, 10)).astype(np.float32),
        "mesh_known": np.arange(BATCH) < len(PROMPTS),
        "input_ids": model.text.ids([*PROMPTS, "a hand"]),
    }
    return jax.tree.map(jnp.asarray, arrays)


@pytest.fixture(scope="module")
def loss(task):
    return jax.jit(lambda params, batch: task.loss(params, task.frozen(), {}, batch, KEYS)[0])


def test_losses_are_those_of_hidden_tokens_and_of_expected_codes(model, task, batch, loss):
    losses = loss(model.params, batch)
    codes, book = model.network.config.codes, np.float64(model.tokenizer.codebook)
    tokens = np.array(pose_tokens(model.tokenizer.network, model.tokenizer.arrays, batch["pose"]))
    hidden = np.array(draw_masks(KEYS, 16, 0.7))
    hidden[-1] = False
    text = model.text.network.apply({"params": model.text.params}, batch["input_ids"])
    logits = model.network.apply({"params": model.params}, jnp.where(hidden, codes, tokens), text)
    shares = np.exp(np.float64(logits))
    shares /= shares.sum(-1, keepdims=True)
    right = np.take_along_axis(shares, tokens[..., None], axis=-1)[..., 0]
    assert float(losses["mask"][1]) == hidden.sum() and 0 < hidden.sum() < 48
    assert float(losses["mask"][0]) == pytest.approx(-np.log(right[hidden]).sum(), rel=1e-4)
    mixed = np.where(hidden[..., None], shares @ book, book[tokens]).astype(np.float32)
    made = code_rotations(model.tokenizer.network, model.tokenizer.arrays, jnp.asarray(mixed))
    truth = axis_angle_to_matrix(batch["pose"])
    ours, theirs = (np.float64(pose_hands(task.hand, r, batch["betas"]).keypoints) for r in (made, truth))
    away = np.abs((ours - ours[:, :1]) - (theirs - theirs[:, :1])).sum((1, 2))[:-1]
    turned = np.square(np.float64(made) - np.float64(truth)).sum((1, 2, 3))[:-1]
    assert float(losses["joints_3d"][0]) == pytest.approx(48 * away.sum(), rel=1e-3)
    assert float(losses["rotation"][0]) == pytest.approx(48 * turned.sum(), rel=1e-3)
    assert float(losses["joints_3d"][1]) == len(PROMPTS)
    assert task.loss_weights == WEIGHTS


def test_the_prompt_is_read_by_the_layers_alone(model, batch):
    text = model.text.network.apply({"params": model.text.params}, batch["input_ids"])
    tokens = jnp.full((BATCH, 16), model.network.config.codes)
    deaf = TextMeshNetwork(dataclasses.replace(model.network.config, layers=0))
    params = {name: value for name, value in model.params.items() if not name.startswith("layers")}
    for network, own, alike in ((model.network, model.params, False), (deaf, params, True)):
        logits = np.asarray(network.apply({"params": own}, tokens, text))
        assert np.allclose(logits[0], logits[1]) == alike


class StartedTask(TextToMeshTask):
    """Starts from drawn parameters, for its own start takes long to compile."""

    def init(self, rng):
        return random_text_model().params, {}


@pytest.mark.slow
def test_training_learns_which_hand_a_prompt_means(model, batch, tmp_path):
    weights = WEIGHTS | {"joints_3d": 1e-3}  # poses between those of random codes tell little
    task = StartedTask(model.network, model.tokenizer, model.text, load_open_hand(), weights, most=ALL_HIDDEN)
    tx, schedule = make_optimizer(load_config("text_to_mesh.py:tiny", ["--config.optim.lr=5e-3"]).optim, STEPS)
    state, step = create_state(task, tx, 0, with_ema=False), jax.jit(make_train_step(task, tx, schedule))
    reports = []
    for _ in range(STEPS):
        state, metrics = step(state, task.frozen(), batch)
        reports.append(float(metrics["mask"]))
    assert np.mean(reports[-20:]) < 0.75 * np.log(len(PROMPTS)) < reports[0]  # without reading, the logarithm at best
    task.exports["handjax"](state.params, {}, tmp_path / "out", np.dtype("float32"))
    read = load_text_to_mesh(tmp_path / "out")
    assert read.network == task.network
    jax.tree.map(np.testing.assert_array_equal, read.params, jax.device_get(dict(state.params)))


@pytest.mark.slow
def test_evaluation_draws_a_hand_for_each_caption(model, task, batch):
    terms = jax.jit(task.evaluate)(model.params, task.frozen(), {}, batch, KEYS)
    assert float(terms["pa_mpvpe_mm"][1]) == len(PROMPTS)
    mean = float(terms["pa_mpvpe_mm"][0]) / len(PROMPTS)
    assert 1 < mean < 100 and float(terms["confidence"][1]) == 16 * BATCH
    picture = jax.jit(task.preview)(model.params, task.frozen(), {}, batch, KEYS)["written"]
    assert picture.shape == (BATCH * 96, 4 * 96, 3)


def test_a_recipe_names_its_parts(model, tmp_path):
    save_tokenizer(model.tokenizer, tmp_path)

    def named(spec, *words):
        return load_config(spec, [f"--config.tokenizer={tmp_path}", *words])

    config = named("text_to_mesh.py:tiny")
    made = make_task(config)
    assert (made.network.config.codes, made.network.config.text, made.network.config.features) == (48, 128, 96)
    data = data_section(config, made)
    assert data.max_length == 32 and data.tokenizer.endswith("tiny_inpainting/tokenizer")
    assert made.batch_spec()["input_ids"].shape == (32,)
    with pytest.raises(WeightsError, match="openai/clip-vit-large-patch14: no such folder; `hf download"):
        make_task(named("text_to_mesh.py"))
    with pytest.raises(ConfigError, match="tokenizer is empty; train vq_mano.py"):
        make_task(load_config("text_to_mesh.py:tiny", []))
    with pytest.raises(ConfigError, match="data.hand_model is mano; use one hand model"):
        make_task(named("text_to_mesh.py:tiny", "--config.data.hand_model=mano"))
    for heads in (7, 0):
        with pytest.raises(ConfigError, match=f"network.heads={heads} cannot share its 96 channels; use a divisor"):
            make_task(named("text_to_mesh.py:tiny", f"--config.network.heads={heads}"))
