"""What we write in every format, opened by diffusers as a user would."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.model import load_stable_diffusion, save_single_file, save_stable_diffusion
from handjax.weights.lora import LoRAFactors, read_lora, write_lora
from handjax.weights.names import module_names, to_flax, to_torch
from tests.diffusion.sd_tiny import second_generation, tiny_model
from tests.parity.sd_models import torch

LOADERS = {9: "StableDiffusionInpaintPipeline", 4: "StableDiffusionPipeline"}


def pipeline_class(model):
    import diffusers

    return getattr(diffusers, LOADERS[model.unet.config.in_channels])


def assert_same_weights(pipeline, model):
    for part, params in (
        ("unet", model.unet_params),
        ("vae", model.vae_params),
        ("text_encoder", model.text_params),
    ):
        state = {
            name: value for name, value in getattr(pipeline, part).state_dict().items() if "position_ids" not in name
        }
        ours = to_torch(params)
        assert state.keys() == ours.keys()
        for name, value in ours.items():
            np.testing.assert_array_equal(state[name].numpy(), value, err_msg=f"{part} {name}")


@pytest.mark.parametrize("make", [tiny_model, second_generation])
def test_single_file(make, tmp_path):
    """diffusers' own converter finds every tensor in the file we write."""
    model = make()
    save_single_file(model, tmp_path / "model.safetensors", np.float32)
    pipeline = pipeline_class(model).from_single_file(
        str(tmp_path / "model.safetensors"), config=str(tmp_path / "model"), local_files_only=True
    )
    assert_same_weights(pipeline, model)
    assert pipeline.scheduler.config.prediction_type == model.schedule.prediction_type


def test_shards(tmp_path):
    model = tiny_model()
    save_stable_diffusion(model, tmp_path, np.float32, max_shard_bytes=50_000)
    assert len(list((tmp_path / "unet").glob("*-of-*.safetensors"))) > 2
    assert_same_weights(pipeline_class(model).from_pretrained(tmp_path), model)


def test_tokenizer_that_diffusers_wrote(tmp_path):
    """transformers 5 writes another file than earlier versions."""
    model = tiny_model()
    save_stable_diffusion(model, tmp_path / "ours")
    pipeline_class(model).from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    prompts = ["a hand", "Two fists, 3 fingers!"]
    read = load_stable_diffusion(tmp_path / "theirs")
    np.testing.assert_array_equal(read.tokenizer(prompts), model.tokenizer(prompts))
    save_stable_diffusion(read, tmp_path / "again")
    np.testing.assert_array_equal(load_stable_diffusion(tmp_path / "again").tokenizer(prompts), read.tokenizer(prompts))


def test_shards_that_diffusers_wrote(tmp_path):
    """Also the half-precision variant, whose files are named otherwise."""
    model = tiny_model()
    save_stable_diffusion(model, tmp_path / "ours", np.float32)
    pipeline = pipeline_class(model).from_pretrained(tmp_path / "ours")
    pipeline.save_pretrained(tmp_path / "theirs", max_shard_size="50KB")
    pipeline.to(dtype=torch.float16).save_pretrained(tmp_path / "half", max_shard_size="50KB", variant="fp16")
    assert not list((tmp_path / "theirs").glob("unet/diffusion_pytorch_model.safetensors"))
    for name, dtype in (("theirs", np.float32), ("half", np.float16)):
        read = load_stable_diffusion(tmp_path / name)
        for given, wanted in zip(jax.tree.leaves(read), jax.tree.leaves(model), strict=True):
            np.testing.assert_array_equal(given, wanted.astype(dtype))


@pytest.fixture(scope="module")
def text_to_image():
    """The second generation's UNet, whose projections are linear, as LoRAs have them."""
    return dataclasses.replace(second_generation(), schedule=tiny_model().schedule)


def draw_factors(model):
    """Updates of attention, convolutions and the text encoder; one alpha a part, which is all that diffusers tells
    apart in kohya's text encoders."""
    rng = np.random.default_rng(0)
    endings = ("to_q", "to_out.0", "ff.net.0.proj", "proj_in", "q_proj", "out_proj", "fc1")
    factors = {}
    for part, params, alpha in (("unet", model.unet_params, 2.0), ("text_encoder", model.text_params, 6.0)):
        state = to_torch(params)
        names = [name for name in module_names(params) if name.endswith(endings)]
        assert len(names) > 4
        factors[part] = {}
        for name in names:
            out, cin = state[f"{name}.weight"].shape
            down, up = (0.3 * rng.standard_normal(shape).astype(np.float32) for shape in ((4, cin), (out, 4)))
            factors[part][name] = LoRAFactors(down, up, alpha)
    return factors


@pytest.mark.parametrize("naming", ["peft", "kohya"])
def test_lora(naming, text_to_image, tmp_path):
    """The pipeline's weights move by (alpha / rank) · up · down, and its outputs with them."""
    pytest.importorskip("peft")
    model = text_to_image
    save_stable_diffusion(model, tmp_path / "model", np.float32)
    factors = draw_factors(model)
    write_lora(tmp_path / "lora.safetensors", factors, naming)
    pipeline = pipeline_class(model).from_pretrained(tmp_path / "model")
    sample = [torch.ones(1, 4, 8, 8), 321, torch.ones(1, 5, 24)]
    with torch.no_grad():
        before = pipeline.unet(*sample).sample
        pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors")
        after = pipeline.unet(*sample).sample
    moved = dataclasses.replace(
        model,
        unet_params=merge(model.unet_params, factors["unet"]),
        text_params=merge(model.text_params, factors["text_encoder"]),
    )
    context = jnp.ones((1, 5, 24))
    ours = jax.jit(lambda m: m.predict(jnp.ones((1, 8, 8, 4)), jnp.array([321.0]), context))(moved)
    scale = float(after.std())
    assert float((after - before).abs().max()) > 0.1 * scale
    np.testing.assert_allclose(np.asarray(ours).transpose(0, 3, 1, 2), after.numpy(), atol=1e-4 * max(1, scale))
    ids = torch.arange(8)[None]
    with torch.no_grad():
        expected = pipeline.text_encoder(ids).last_hidden_state.numpy()
    np.testing.assert_allclose(moved.embed_ids(jnp.arange(8)[None]), expected, atol=1e-4)
    assert np.abs(np.asarray(model.embed_ids(jnp.arange(8)[None])) - expected).max() > 0.1


def merge(params, factors):
    state = to_torch(params)
    for name, (down, up, alpha) in factors.items():
        state[f"{name}.weight"] = state[f"{name}.weight"] + alpha / len(down) * up @ down
    return to_flax(state.items())


def test_lora_that_diffusers_wrote(text_to_image, tmp_path):
    from diffusers import StableDiffusionPipeline

    factors = draw_factors(text_to_image)
    layers = {
        part: {
            f"{name}.lora_{letter}.weight": torch.from_numpy(value)
            for name, lora in modules.items()
            for letter, value in (("A", lora.down), ("B", lora.up))
        }
        for part, modules in factors.items()
    }
    StableDiffusionPipeline.save_lora_weights(tmp_path, layers["unet"], layers["text_encoder"])
    modules = {"unet": module_names(text_to_image.unet_params), "text_encoder": module_names(text_to_image.text_params)}
    read = read_lora(tmp_path / "pytorch_lora_weights.safetensors", modules)
    for part, wanted in factors.items():
        assert read[part].keys() == wanted.keys()
        for name, lora in wanted.items():
            np.testing.assert_array_equal(read[part][name].down, lora.down)
            np.testing.assert_array_equal(read[part][name].up, lora.up)
            assert read[part][name].alpha == 4.0
