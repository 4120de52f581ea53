import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.files import load_sgm
from handjax.adapters.sgm import SGM, SGMConfig
from handjax.diffusion.inpainting import add_training_noise, encode_pair
from handjax.diffusion.model import find_model, save_stable_diffusion
from handjax.errors import ConfigError, WeightsError
from handjax.tasks import make_task
from handjax.tasks.sgm import SGMTask
from handjax.training.config import load_config
from handjax.training.optimizer import make_optimizer
from handjax.training.state import create_state
from handjax.training.step import make_train_step

SGM_CONFIG = SGMConfig(stem_channels=(4, 4, 8), unet_channels=(8, 8, 16), layers_per_block=1, fusion_channels=12)


def make(model, *, ka_weight=0.3, ka_reduction="mean", caption_dropout=0.0, **sgm):
    module = SGM(dataclasses.replace(SGM_CONFIG, **sgm))
    return SGMTask(model, module, 32, ka_weight, ka_reduction, caption_dropout)


def training_noise(model, batch, keys):
    return add_training_noise(model, *encode_pair(model, batch["image"], batch["mask"]), batch["mask"], keys)


@jax.jit
def predict(model, noisy, ids):
    return model.predict(noisy.sample, noisy.timesteps, model.embed_ids(ids))


@pytest.fixture(scope="module")
def task(model):
    return make(model)


@pytest.fixture(scope="module")
def params(task):
    return task.init(jax.random.key(0))[0]


@pytest.fixture(scope="module")
def noisy(model, batch, keys):
    return jax.jit(training_noise)(model, batch, keys)


@pytest.fixture(scope="module")
def stepped(task, batch):
    """The state before and after one step, and the step's metrics."""
    tx, schedule = make_optimizer(load_config("sgm.py").optim, 10)
    before = create_state(task, tx, 0, with_ema=False)
    after, metrics = jax.jit(make_train_step(task, tx, schedule))(before, task.frozen(), batch)
    return before, after, metrics


@pytest.mark.parametrize("levels", [(), pytest.param((0, 1), marks=pytest.mark.slow)])
def test_at_step_0_the_network_equals_the_frozen_unet_bit_for_bit(model, batch, noisy, levels):
    task = make(model, levels=levels)
    params, _ = task.init(jax.random.key(0))
    context = jax.jit(model.embed_ids)(batch["input_ids"])

    @jax.jit
    def with_sgm(params):
        residuals = task.sgm.apply({"params": params}, batch["depth"], batch["skeleton"]).residuals
        return model.predict(noisy.sample, noisy.timesteps, context, **residuals)

    frozen = jax.jit(lambda: model.predict(noisy.sample, noisy.timesteps, context))()
    np.testing.assert_array_equal(with_sgm(params), frozen)
    changed = jax.tree.map(lambda leaf: leaf + 0.1, params)
    assert np.abs(with_sgm(changed) - frozen).max() > 1e-4


def test_masked_mse_of_the_task_equals_equation_11(task, params, model, batch, keys, noisy):
    terms = jax.jit(task.evaluate)(params, model, {}, batch, keys)
    predicted = predict(model, noisy, batch["input_ids"])
    # 16x16 pixels to be painted are 4x4 of the 8x8 cells
    error = np.square(np.float64(predicted) - noisy.target)[:, 2:6, 1:5].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(terms["mmse"][0] / terms["mmse"][1], error.mean(), rtol=1e-4)
    assert terms["ka"][1] == 2


def test_the_objective_is_equation_12(task, stepped):
    _, _, metrics = stepped
    assert dict(task.loss_weights) == {"mmse": 1.0, "ka": 0.3}
    np.testing.assert_allclose(metrics["loss"], metrics["mmse"] + 0.3 * metrics["ka"], rtol=1e-6)


@pytest.mark.slow
def test_encoded_pictures_give_the_loss_of_their_pixels(task, params, model, batch, keys):
    latents, hidden = jax.jit(encode_pair)(model, batch["image"], batch["mask"])
    encoded = {name: value for name, value in batch.items() if name != "image"}
    encoded |= {"latents": latents, "hidden_latents": hidden}
    ahead = dataclasses.replace(task, encoded=True)
    assert {name: value.shape[1:] for name, value in encoded.items()} == {
        name: spec.shape for name, spec in ahead.batch_spec().items()
    }
    first, second = (jax.jit(t.evaluate)(params, model, {}, b, keys) for t, b in ((task, batch), (ahead, encoded)))
    np.testing.assert_allclose(second["mmse"][0], first["mmse"][0], rtol=1e-5)
    picture = jax.jit(ahead.preview)(params, model, {}, encoded, keys)["repair"]
    decoded = np.clip(jax.jit(lambda: model.decode(latents))(), -1, 1)
    np.testing.assert_allclose(picture[:32, :32] / 127.5 - 1, decoded[0], atol=0.01)


def test_only_the_module_has_optimiser_state(stepped):
    before, after, _ = stepped
    count = sum(leaf.size for leaf in jax.tree.leaves(before.params))
    moments = [leaf for leaf in jax.tree.leaves(before.opt_state) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * count
    assert set(before.params) == {"depth", "skeleton", "attention", "modulator", "output_mid"}
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before.params, after.params)
    assert changed["output_mid"]["kernel"] and changed["attention"]["phi_depth"]["kernel"]


@pytest.mark.slow
def test_half_precision_steps_have_float32_parameters_and_a_finite_loss(model, batch):
    half = dataclasses.replace(
        jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model),
        **{name: type(net)(net.config, jnp.bfloat16) for name, net in vars(model).items() if hasattr(net, "dtype")},
    )
    task = dataclasses.replace(make(half), sgm=SGM(SGM_CONFIG, jnp.bfloat16))
    tx, schedule = make_optimizer(load_config("sgm.py").optim, 10)
    before = create_state(task, tx, 0, with_ema=False)
    after, metrics = jax.jit(make_train_step(task, tx, schedule))(before, task.frozen(), batch)
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype(jnp.float32)}
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0


def test_without_ka_weight_the_attention_learns_nothing_at_step_0(task, params, model, batch, keys):
    def losses(params):
        terms, _, _ = task.loss(params, model, {}, batch, keys)
        return {name: total for name, (total, _) in terms.items()}

    gradients = jax.jit(jax.jacrev(losses))(params)
    # behind the zero projection only the keypoint-aware loss reaches the attention
    for name, reached in (("ka", True), ("mmse", False)):
        gradient = gradients[name]["attention"]["phi_skeleton"]["kernel"]
        assert bool(jnp.abs(gradient).max() > 0) is reached
    assert make(model, ka_weight=0.0).loss_weights == {"mmse": 1.0, "ka": 0.0}


@pytest.mark.slow
def test_sum_is_the_mean_times_the_pixels_of_the_map(model, params, batch, keys):
    mean, total = (
        jax.jit(make(model, ka_reduction=reduction).evaluate)(params, model, {}, batch, keys)["ka"][0]
        for reduction in ("mean", "sum")
    )
    np.testing.assert_allclose(total, 16 * mean, rtol=1e-5)


def test_captions_are_dropped_in_training_only(model, params, batch, keys):
    task = make(model, caption_dropout=1.0)
    other = batch | {"input_ids": batch["input_ids"][:, ::-1]}
    loss = jax.jit(task.loss)
    evaluate = jax.jit(task.evaluate)
    first, second = (loss(params, model, {}, b, keys)[0]["mmse"][0] for b in (batch, other))
    assert first == second
    first, second = (evaluate(params, model, {}, b, keys)["mmse"][0] for b in (batch, other))
    assert first != second


def test_preview_is_a_row_an_example_and_six_pictures(task, params, model, batch, keys):
    picture = jax.jit(task.preview)(params, model, {}, batch, keys)["repair"]
    assert picture.shape == (3 * 32, 6 * 32, 3) and picture.dtype == jnp.uint8
    np.testing.assert_allclose(picture[:32, :32] / 127.5 - 1, batch["image"][0], atol=0.01)
    assert (picture[8:24, 36:52] == 128).all()  # hidden
    np.testing.assert_allclose(picture[32:64, 96:128] / 255, batch["skeleton"][1], atol=0.01)


def test_export_to_torch_writes_weights_config_and_module(task, params, tmp_path):
    task.exports["torch"](params, {}, tmp_path / "out", np.dtype(np.float32))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "sgm.safetensors", "sgm.py"}
    sgm, read = load_sgm(tmp_path / "out")
    assert sgm.config == task.sgm.config
    jax.tree.map(np.testing.assert_array_equal, read, params)


def test_it_goes_on_from_an_exported_module_of_its_settings():
    folder = find_model("tiny_inpainting") / "sgm"
    trainable, _ = make_task(load_config("sgm.py:tiny", [f"--config.start={folder}"])).init(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, trainable, load_sgm(folder)[1])
    with pytest.raises(ConfigError, match=r"modulator=True.*but the recipe has.*modulator=False"):
        make_task(load_config("sgm.py:tiny", [f"--config.start={folder}", "--config.sgm.modulator=False"]))


def test_the_recipe_is_the_papers():
    config = load_config("sgm.py")
    assert (config.optim.lr, config.batch_size, config.steps) == (5e-5, 8, 10_000)
    assert (config.loss.ka_weight, config.data.image_size, config.data.path) == (0.3, 512, "rhd")
    assert config.sgm.fusion_channels == 640


def test_missing_weights_are_told_in_one_line():
    with pytest.raises(WeightsError, match=r"^stable-diffusion-v1-5/.*hf download .*sgm\.py:tiny[^\n]*$"):
        make_task(load_config("sgm.py"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("loss.ka_reduction=max", "ka_reduction='max' is unknown"),
        ("dtype=float12", "dtype='float12' is unknown"),
        ("sgm.stem_channels=(4,8)", "has stride 2, the autoencoder 4"),
        ("sgm.levels=(2,)", "give 0 to 1"),
        ("data.image_size=40", "use a multiple of 16"),
    ],
)
def test_values_that_do_not_fit_are_refused(model, tmp_path, word, message):
    save_stable_diffusion(model, tmp_path)
    with pytest.raises(ConfigError, match=message):
        make_task(load_config("sgm.py:tiny", [f"--config.model={tmp_path}", f"--config.{word}"]))


def test_a_variant_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="no variant 'small'"):
        load_config("sgm.py:small")
