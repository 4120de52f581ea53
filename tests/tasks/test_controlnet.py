import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.controlnet import ControlNet, ControlNetConfig
from handjax.adapters.files import load_controlnet
from handjax.diffusion.inpainting import add_noise, hide, latent_mask
from handjax.errors import ConfigError, WeightsError
from handjax.tasks import make_task
from handjax.tasks.controlnet import ControlNetTask
from handjax.training.config import load_config
from handjax.training.optimizer import make_optimizer
from handjax.training.state import create_state
from handjax.training.step import make_train_step

SESAHAND = {"structural_fusion": "mid", "hand_alpha": 2.0}


def make(model, *conditions, network=None, **options):
    unet = dataclasses.replace(model.unet.config, in_channels=4)
    network = ControlNet(ControlNetConfig(unet, (4, 4, 8), **(network or {})))
    return ControlNetTask(model, network, conditions, 32, **{"caption_dropout": 0.0} | options)


@pytest.fixture(scope="module")
def from_text(model):
    """The text-to-image model that the inpainting model is without mask and hidden picture."""
    unet = type(model.unet)(dataclasses.replace(model.unet.config, in_channels=4))
    conv_in = {**model.unet_params["conv_in"], "kernel": model.unet_params["conv_in"]["kernel"][:, :, :4]}
    return model.replace(unet=unet, unet_params={**model.unet_params, "conv_in": conv_in})


@pytest.fixture(scope="module")
def fields(batch):
    """The first caption has no word on hands."""
    return batch | {
        "mesh": batch["depth"][:, ::-1],
        "hand_tokens": jnp.zeros((3, 8)).at[1, 2].set(1).at[2, 4:6].set(1),
    }


def only(task, fields):
    return {name: fields[name] for name in task.batch_spec()}


@pytest.fixture(scope="module")
def task(model):
    return make(model, "depth", "skeleton")


@pytest.fixture(scope="module")
def evaluated(model, fields, keys):
    """Of one condition: its parameters at the start, and what they are evaluated to."""
    task = make(model, "skeleton")
    params = task.init(jax.random.key(0))[0]
    return jax.jit(task.evaluate)(params, model, {}, only(task, fields), keys)


@pytest.fixture(scope="module")
def params(task):
    return task.init(jax.random.key(0))[0]


def test_it_starts_as_the_frozen_model_and_as_a_copy_of_its_encoder(evaluated, params, model, batch, keys):
    terms = evaluated
    assert float(terms["gain"][0]) == 0  # zero convolutions: no picture changes anything

    @jax.jit
    def frozen_error():
        latents, hidden = (model.encode(x) for x in (batch["image"], hide(batch["image"], batch["mask"])))
        noisy, timesteps, target = add_noise(model.schedule, latents, keys)
        inputs = jnp.concatenate([noisy, latent_mask(batch["mask"], 4), hidden], -1)
        predicted = model.predict(inputs, timesteps, model.embed_ids(batch["input_ids"]))
        return jnp.square(predicted - target).mean()

    np.testing.assert_allclose(terms["noise_mse"][0] / terms["noise_mse"][1], frozen_error(), rtol=1e-4)
    for name in ("down_blocks_1", "mid_block"):
        jax.tree.map(np.testing.assert_array_equal, params["skeleton"][name], model.unet_params[name])
    stems = [params[name]["controlnet_cond_embedding"]["conv_in"]["kernel"] for name in ("depth", "skeleton")]
    assert np.abs(stems[0] - stems[1]).max() > 0.01  # drawn apart


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [pytest.param({}, id="controlnet"), pytest.param(SESAHAND, id="sesahand", marks=pytest.mark.slow)]
)
def test_steps_learn_to_follow_the_pictures(network, from_text, fields, keys):
    """Nothing but the picture tells examples apart: all have one caption, and their latents are its cells."""
    task = make(from_text, "mesh", network=network, encoded=True)
    cells = np.random.default_rng(1).integers(0, 2, (3, 4, 4, 1)).astype(np.float32)
    small, large = (jnp.asarray(cells.repeat(times, 1).repeat(times, 2)) for times in (2, 8))
    same = jnp.broadcast_to(fields["input_ids"][:1], fields["input_ids"].shape)
    batch = only(task, fields | {"latents": (2 * small - 1) * jnp.ones(4), "mesh": large, "input_ids": same})
    assert set(batch) == {"latents", "mesh", "input_ids"} | ({"hand_tokens"} if network else set())
    optim = load_config("controlnet_mesh.py:tiny", ["--config.optim.lr=0.01", "--config.optim.warmup_steps=0"]).optim
    tx, schedule = make_optimizer(optim, 200)
    state = create_state(task, tx, 0, with_ema=False)
    step = jax.jit(make_train_step(task, tx, schedule))
    losses = []
    for _ in range(200):
        state, metrics = step(state, task.frozen(), batch)
        losses.append(float(metrics["noise_mse"]))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert float(metrics.get("captions_without_hands", 1 / 3)) == pytest.approx(1 / 3)
    gain, count = jax.jit(task.evaluate)(state.params, from_text, {}, batch, keys)["gain"]
    assert float(gain / count) > 0.01


def test_the_pictures_of_several_conditions_add_up(task, params, fields):
    pictures = {"depth": jnp.repeat(fields["depth"], 3, -1), "skeleton": fields["skeleton"]}
    moved = jax.tree.map(lambda leaf: leaf + 0.02, params)
    noisy, context = jax.random.normal(jax.random.key(1), (3, 8, 8, 4)), jnp.ones((3, 2, 8))
    run = jax.jit(lambda chosen: task.residuals(moved, noisy, jnp.arange(3.0), context, chosen))
    both = run(pictures)["mid_residual"]
    single = [run({name: picture})["mid_residual"] for name, picture in pictures.items()]
    np.testing.assert_allclose(both, sum(single), atol=1e-5)
    assert np.abs(single[0] - single[1]).max() > 1e-3


@pytest.mark.slow
def test_captions_are_dropped_in_training(from_text, fields, keys):
    task = make(from_text, "depth", caption_dropout=1.0)
    params, batch = task.init(jax.random.key(0))[0], only(task, fields)
    loss = jax.jit(lambda ids: task.loss(params, from_text, {}, batch | {"input_ids": ids}, keys)[0]["noise_mse"][0])
    assert loss(batch["input_ids"]) == loss(batch["input_ids"][:, ::-1])


def test_the_bias_is_on_words_on_hands_of_captions_that_are_not_dropped(from_text, fields, keys):
    plain, biased = make(from_text, "mesh"), make(from_text, "mesh", network={"hand_alpha": 2.0})
    params = plain.init(jax.random.key(0))[0]

    def make_loss(task):
        def loss(ids, words):
            batch = fields | {"input_ids": ids, "hand_tokens": words}
            return task.loss(params, from_text, {}, batch, keys)[0]["noise_mse"][0]

        return jax.jit(loss)

    plain_loss, biased_loss = make_loss(plain), make_loss(biased)
    ids, words = fields["input_ids"], fields["hand_tokens"]
    without = plain_loss(ids, words)
    assert abs(biased_loss(ids, words) - without) > 1e-5
    np.testing.assert_allclose(biased_loss(ids, jnp.zeros_like(words)), without, rtol=1e-6)
    empty = jnp.broadcast_to(plain._empty_ids(), ids.shape)
    np.testing.assert_allclose(biased_loss(empty, words), plain_loss(empty, words), rtol=1e-6)


@pytest.mark.slow
def test_network_and_unet_have_the_same_bias(from_text, fields, keys):
    task = make(from_text, "mesh", network=SESAHAND | {"hand_alpha": 40.0})
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + jnp.float32(0.3 * rng.normal(size=leaf.shape)), task.init(jax.random.key(0))[0]
    )
    error, count = jax.jit(task.evaluate)(params, from_text, {}, only(task, fields), keys)["noise_mse"]

    @jax.jit
    def expected(in_network, in_unet):
        noisy, timesteps, target = add_noise(from_text.schedule, from_text.encode(fields["image"]), keys)
        context, picture = from_text.embed_ids(fields["input_ids"]), jnp.repeat(fields["mesh"], 3, -1)
        inputs = (noisy, timesteps, context)
        added = task.control.apply({"params": params["mesh"]}, *inputs, picture, word_bias=in_network)
        return jnp.square(from_text.predict(*inputs, **added, word_bias=in_unet) - target).mean()

    bias, none = 40 * fields["hand_tokens"], 0 * fields["hand_tokens"]
    wanted = expected(bias, bias)
    np.testing.assert_allclose(error / count, wanted, rtol=2e-6)
    assert min(abs(expected(bias, none) - wanted), abs(expected(none, bias) - wanted)) > 5e-6 * wanted


@pytest.mark.parametrize("backbone, columns", [("model", 4), pytest.param("from_text", 3, marks=pytest.mark.slow)])
def test_preview_shows_picture_condition_and_result(backbone, columns, fields, keys, request):
    task = make(request.getfixturevalue(backbone), "depth", network=SESAHAND)
    params = task.init(jax.random.key(0))[0]
    picture = jax.jit(task.preview)(params, task.frozen(), {}, only(task, fields), keys)["controlled"]
    assert picture.shape == (3 * 32, columns * 32, 3)
    start = (columns - 2) * 32
    np.testing.assert_allclose(picture[:32, start : start + 32, 0] / 255, fields["depth"][0, ..., 0], atol=0.01)


def test_export_writes_a_folder_each(task, params, tmp_path):
    task.exports["diffusers"](params, {}, tmp_path / "both", np.dtype(np.float32))
    for name in ("depth", "skeleton"):
        network, read = load_controlnet(tmp_path / "both" / name)
        assert network.config.fits(task.model.unet.config, task.model.vae.config)
        assert network.config.condition == name
        jax.tree.map(np.testing.assert_array_equal, read, params[name])


@pytest.mark.parametrize("name", ["depth", "skeleton", "mesh", "combined"])
def test_recipes(name):
    config = load_config(f"controlnet_{name}.py")
    assert config.conditions == (("depth", "skeleton", "mesh") if name == "combined" else (name,))
    assert (config.optim.lr, config.caption_dropout) == (1e-5, 0.5)
    with pytest.raises(WeightsError, match=r"^stable-diffusion-v1-5/.*`:tiny` needs no download$"):
        make_task(config)
    tiny = make_task(load_config(f"controlnet_{name}.py:tiny"))
    assert {"image", "mask", *tiny.conditions} < set(tiny.batch_spec())
    with pytest.raises(ConfigError, match="no variant 'small'"):
        load_config(f"controlnet_{name}.py:small")


def test_a_run_goes_on_from_an_exported_network(tmp_path):
    begin = make_task(load_config("controlnet_depth.py:tiny"))
    params = begin.init(jax.random.key(0))[0]
    begin.exports["diffusers"](params, {}, tmp_path, np.dtype(np.float32))
    started = make_task(load_config("controlnet_mesh.py:tiny", [f"--config.start={tmp_path}"]))
    jax.tree.map(np.testing.assert_array_equal, started.init(jax.random.key(1))[0]["mesh"], params["depth"])
    words = [f"--config.start={tmp_path}", "--config.stem_channels=(16,32,32)"]
    with pytest.raises(ConfigError, match=r"its stem has \(16, 32, 64\) channels; write stem_channels="):
        make_task(load_config("controlnet_mesh.py:tiny", words))


def test_sesahands_recipe():
    config = load_config("sesahand.py")
    assert (config.structural_fusion, config.hand_alpha, config.conditions) == ("mid", 2.0, ("mesh",))
    tiny = make_task(load_config("sesahand.py:tiny"))
    assert tiny.control.config.structural_fusion == "mid" and tiny.control.config.hand_alpha == 2.0
    assert {"mesh", "hand_tokens"} < set(tiny.batch_spec())
    without = make_task(load_config("sesahand.py:tiny", ["--config.hand_alpha=0.0"]))
    assert "hand_tokens" not in without.batch_spec()


def test_mmhmrs_recipe():
    config = load_config("controlnet_mesh.py")
    assert (config.data.image_size, config.batch_size, config.data.path) == (256, 64, "dexycb")
    assert (config.optim.lr, config.optim.weight_decay, config.optim.schedule) == (1e-5, 0.0, "constant")
    training_split = 582_000 * 4 // 5
    assert config.steps * config.batch_size == 200 * training_split
    tiny = load_config("controlnet_mesh.py:tiny")
    assert (tiny.steps, tiny.batch_size, tiny.data.image_size) == (1_000, 16, 96)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("conditions=('depth','depth')", "name one or several of depth, skeleton, mesh"),
        ("conditions=('normals',)", "does not fit"),
        ("dtype=float12", "dtype='float12' is unknown"),
        ("structural_fusion=top", "structural_fusion='top' is unknown"),
        ("hand_alpha=-1.0", "hand_alpha=-1.0 is negative"),
        ("stem_channels=(4,8)", "has stride 2, the autoencoder 4"),
        ("data.image_size=40", "use a multiple of 16"),
    ],
)
def test_values_that_do_not_fit_are_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        make_task(load_config("controlnet_depth.py:tiny", [f"--config.{word}"]))
