"""The concept slider: its loss against its equation, what it trains, resumption and export."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from data_pipelines.malformed.edits import BY_NAME, EDITS, describe
from data_pipelines.prompt_pairs import make_loader, read_pairs
from handjax.adapters.lora import lora_applied, merge
from handjax.diffusion.model import save_stable_diffusion
from handjax.diffusion.samplers import DDIM
from handjax.diffusion.schedules import NoiseLevel
from handjax.diffusion.unet import UNet
from handjax.errors import ConfigError, InputError, WeightsError
from handjax.tasks import make_task
from handjax.tasks.slider import SliderTask
from handjax.training.config import load_config
from handjax.training.loop import train
from handjax.weights.lora import read_lora
from handjax.weights.names import module_names

STEPS, GUIDANCE, STRENGTH, ALPHA, RANK = 5, 3.0, 4.0, 1.0, 2


@pytest.fixture(scope="module")
def task(model):
    return SliderTask(model, 32, RANK, ALPHA, STRENGTH, STEPS, GUIDANCE)


@pytest.fixture(scope="module")
def params(task):
    """Factors as training leaves them: none is zero."""
    start, _ = task.init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(start)
    rng = np.random.default_rng(0)
    return tree.unflatten([jnp.float32(leaf + 0.3 * rng.normal(size=leaf.shape)) for leaf in leaves])


@pytest.fixture(scope="module")
def prompts(batch):
    ids = batch["input_ids"]
    return {"neutral_ids": ids, "positive_ids": ids[:, ::-1], "negative_ids": jnp.roll(ids, 3, axis=1)}


def grey_input(model, z):
    grey = model.encode(jnp.zeros((1, 32, 32, 3)))
    return jnp.concatenate([z, jnp.ones((*z.shape[:3], 1)), jnp.broadcast_to(grey, z.shape)], axis=-1)


def test_the_loss_is_the_papers(task, params, model, prompts, keys):
    """Example by example, with merged weights and plain loops."""
    lora = task.adapter(params)
    adapted = model.replace(unet_params=merge(model.unet_params, [lora]))
    sampler = DDIM(model.schedule, STEPS)
    trajectory = sampler.trajectory()
    predict = jax.jit(lambda m, z, t, ids: m.predict(grey_input(m, z), t[None], m.embed_ids(ids)))
    empty = jnp.asarray(model.tokenizer([""]))
    errors, cosines, counts = [], [], []
    for row, key in enumerate(keys):
        neutral, positive, negative = (prompts[f"{n}_ids"][row : row + 1] for n in ("neutral", "positive", "negative"))
        noise_key, place_key = jax.random.split(key)
        z = jax.random.normal(noise_key, (1, 8, 8, 4))
        count = int(jax.random.randint(place_key, (), 1, STEPS))
        counts.append(count)
        for number in range(count):
            t, sigma, next_sigma = (jnp.float32(values[number]) for values in trajectory)
            base, target = (predict(adapted, z, t, ids) for ids in (empty, neutral))
            x0 = model.schedule.to_x0(base + GUIDANCE * (target - base), z, NoiseLevel(t, sigma))
            _, z = sampler.step((), z, NoiseLevel(t, sigma), next_sigma, x0, jnp.zeros_like(z))
        t = jnp.float32(trajectory.timesteps[count])
        plain, good, bad = (np.float64(predict(model, z, t, ids)) for ids in (neutral, positive, negative))
        moved = np.float64(predict(adapted, z, t, neutral))
        target = plain + STRENGTH * (good - bad)
        errors.append(((moved - target) ** 2).mean())
        one, other = (moved - plain).ravel(), (target - plain).ravel()
        cosines.append(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    assert len(set(counts)) > 1
    terms, _, metrics = jax.jit(task.loss)(params, model, {}, prompts, keys)
    np.testing.assert_allclose(terms["slider"][0], sum(errors), rtol=2e-4)
    np.testing.assert_allclose(metrics["agreement"][0], sum(cosines), atol=2e-3)
    assert terms["slider"][1] == metrics["agreement"][1] == len(keys)


def test_layers_are_self_attention_and_convolutions(task, model):
    start, _ = task.init(jax.random.key(0))
    layers = {path[:-1]: leaf.shape for path, leaf in traverse_util.flatten_dict(start).items() if path[-1] == "down"}
    names = {path[-2:] for path in layers}
    assert {path[-1] for path in layers} == {
        *("to_q", "to_k", "to_v", "to_out_0"),
        *("conv1", "conv2", "conv_shortcut", "conv"),
    }
    assert ("attn1", "to_q") in names and ("attn2", "to_q") not in names
    kernels = traverse_util.flatten_dict(model.unet_params)
    left = {path[-2] for path in kernels if path[-1] == "kernel" and path[:-1] not in layers}
    assert {"time_emb_proj", "linear_1", "conv_in", "conv_out", "proj_in", "proj"} <= left
    for path, shape in layers.items():
        assert shape == (*kernels[(*path, "kernel")].shape[:-1], RANK)


@pytest.mark.slow
def test_a_new_adapter_has_kaimings_variance_and_changes_no_bit(task, model, batch):
    start, _ = SliderTask(model, 32, 64, ALPHA, STRENGTH, STEPS, GUIDANCE).init(jax.random.key(1))
    for path, leaf in traverse_util.flatten_dict(start).items():
        if path[-1] == "up":
            assert not leaf.any()
        elif leaf.size > 4000:
            assert float(leaf.var()) == pytest.approx(1 / np.prod(leaf.shape[:-1]), rel=0.05)
    inputs = jnp.ones((3, 8, 8, 9)), jnp.full(3, 300.0), model.embed_ids(batch["input_ids"])
    with lora_applied(task.adapter(start), network=UNet):  # not compiled: fusion would round otherwise
        adapted = model.predict(*inputs)
    np.testing.assert_array_equal(adapted, model.predict(*inputs))


def test_only_the_network_that_is_named_is_adapted(task, params, model, batch):
    """A text encoder with layers of the same paths stays as it is."""
    ids = batch["input_ids"]
    path = ("encoder", "layers_0", "mlp", "fc1")
    lora = {**task.adapter(params), path: next(iter(task.adapter(params).values()))}
    with lora_applied(lora, network=UNet):
        inside = model.embed_ids(ids)
    np.testing.assert_array_equal(inside, model.embed_ids(ids))


@pytest.mark.slow
def test_the_gradient_is_that_of_the_last_prediction_alone(task, params, model, prompts, keys):
    """The latents to learn from are made with the adapter too, but are no part of what is differentiated."""

    def objective(params):
        return task.loss(params, model, {}, prompts, keys)[0]["slider"][0]

    gradient = jax.jit(jax.grad(objective))(params)
    path = ("mid_block", "resnets_1", "conv2", "up")
    flat, slopes = traverse_util.flatten_dict(params), traverse_util.flatten_dict(gradient)
    assert all(np.abs(slope).max() > 0 for slope in slopes.values())
    z, timesteps = jax.jit(task._half_done)(model, task.adapter(params), prompts["neutral_ids"], keys)
    contexts = [model.embed_ids(prompts[f"{name}_ids"]) for name in ("neutral", "positive", "negative")]
    plain, good, bad = (model.predict(grey_input(model, z), timesteps, context) for context in contexts)

    @jax.jit
    def along(amount):
        tree = traverse_util.unflatten_dict({**flat, path: flat[path] + amount * slopes[path]})
        adapted = merge(model.unet_params, [task.adapter(tree)])
        moved = model.replace(unet_params=adapted).predict(grey_input(model, z), timesteps, contexts[0])
        return jnp.square(moved - plain - STRENGTH * (good - bad)).mean(axis=(1, 2, 3)).sum()

    step = 1e-2 / float(jnp.linalg.norm(slopes[path]))
    quotient = (along(step) - along(-step)) / (2 * step)
    np.testing.assert_allclose(quotient, float(jnp.square(slopes[path]).sum()), rtol=0.02)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_stable_diffusion(model, path, np.float32)
    return path


def recipe(folder, *fields):
    small = ("batch_size=2", "log_every=1", "eval_every=0", "preview_every=0", "slider.steps=4", "data.image_size=32")
    words = (f"model={folder}", *small, *fields)
    return load_config("mghand_lora.py:tiny", [f"--config.{word}" for word in words])


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(folder, tmp_path):
    def run(name, steps):
        config = recipe(folder, f"steps={steps}", "checkpoint.every=3")
        task = make_task(config)
        data = {**config.data, "tokenizer": task.model.tokenizer.folder, "max_length": task.model.tokenizer.length}
        section = type(config)(data)
        load = lambda split: make_loader(section, task.batch_spec(), 2, config.seed, split)  # noqa: E731
        return train(config, task, load, tmp_path / name)

    alone = run("alone", 6)
    run("cut", 3)
    resumed = run("cut", 6)
    assert int(resumed.step) == 6
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), jax.device_get(alone))


def test_exports_hold_the_adapter(task, params, model, tmp_path):
    task.exports["lora"](params, {}, tmp_path, np.dtype(np.float32))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["kohya.safetensors", "pytorch_lora_weights.safetensors"]
    flat = traverse_util.flatten_dict(params)
    for file in files:
        read = read_lora(tmp_path / file, {"unet": module_names(model.unet_params), "text_encoder": []})
        assert set(read) == {"unet"} and len(read["unet"]) == len(flat) // 2
        conv = read["unet"]["mid_block.resnets.0.conv1"]
        down = flat[("mid_block", "resnets_0", "conv1", "down")]
        np.testing.assert_array_equal(conv.down, np.transpose(down, (3, 2, 0, 1)))
        assert conv.alpha == ALPHA and conv.up.shape == (16, RANK, 1, 1)


@pytest.mark.slow
def test_preview_has_no_adapter_in_the_middle(task, params, model, prompts, keys):
    draw = jax.jit(task.preview)
    sheet = np.asarray(draw(params, model, {}, prompts, keys)["slider"])
    assert sheet.shape == (3 * 32, 3 * 32, 3)
    left, middle, right = np.split(np.int32(sheet), 3, axis=1)
    assert np.abs(left - middle).mean() > 1 and np.abs(right - middle).mean() > 1
    nothing = jax.tree.map(jnp.zeros_like, params)
    plain = np.int32(np.asarray(draw(nothing, model, {}, prompts, keys)["slider"]))
    assert np.abs(np.split(plain, 3, axis=1)[0] - middle).max() <= 1


def test_the_recipe_is_the_papers():
    config = load_config("mghand_lora.py")
    assert (config.lora.rank, config.lora.alpha, config.slider.strength, config.optim.lr) == (4, 1.0, 4.0, 2e-4)
    assert config.model == "CompVis/stable-diffusion-v1-4"
    with pytest.raises(WeightsError, match=r"^nowhere.*`--config mghand_lora\.py:tiny` needs no download$"):
        make_task(recipe("nowhere"))


def test_prompts_are_triples_of_one_scene(tmp_path):
    for name in ("hands", "tiny_hands"):
        for pair in read_pairs(name):
            assert len({pair.neutral, pair.positive, pair.negative}) == 3
    assert all("fingers" in pair.positive + pair.negative for pair in read_pairs("hands"))
    wrong = "|".join(re.sub(r"\\{.*?\\}", ".*", re.escape(edit.words)) for edit in EDITS if edit.words)
    for pair in read_pairs("tiny_hands"):  # as records of malformed hands are captioned
        assert re.fullmatch(f"a (rendered )?photo of a (left|right) hand ({wrong})", pair.negative)
        assert f"{describe(BY_NAME['none'], pair.neutral.split()[-2], (), 5)}" in pair.positive
    for content, words in (
        ("{}", "no prompts"),
        ('[{"neutral": "a"}]', "missing"),
        ("[", "not a list"),
        ("[3]", "not a"),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InputError, match=words):
            read_pairs(str(tmp_path / "bad.json"))
    with pytest.raises(InputError, match="nowhere: no file of prompts; give a JSON file or one of hands, tiny_hands"):
        read_pairs("nowhere")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dtype=float12", "dtype='float12' is unknown"),
        ("lora.rank=0", "lora.rank=0 is too small"),
        ("slider.steps=1", "slider.steps=1 is too small"),
        ("data.image_size=40", "use a multiple of 16"),
    ],
)
def test_values_that_do_not_fit_are_refused(folder, word, message):
    with pytest.raises(ConfigError, match=message):
        make_task(recipe(folder, word))
