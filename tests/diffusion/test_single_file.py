"""Checkpoints in one file, without PyTorch. Names are checked against diffusers' own reader in tests/parity."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from handjax.diffusion.folder import save_part
from handjax.diffusion.model import load_stable_diffusion, load_vae, save_single_file, save_stable_diffusion
from handjax.diffusion.networks import MODULES, parameter_shapes
from handjax.diffusion.schedules import NoiseSchedule
from handjax.diffusion.single_file import SD_1, SD_2, read_schedule
from handjax.diffusion.vae import VAE
from handjax.errors import WeightsError
from handjax.weights.ldm import from_ldm, ldm_names, to_ldm
from handjax.weights.names import to_torch, torch_name
from tests.diffusion.sd_tiny import second_generation, tiny_model


@pytest.fixture(scope="module", params=["1", "2"])
def model(request):
    return tiny_model() if request.param == "1" else second_generation()


def assert_same(given, wanted):
    assert (given.unet, given.vae, given.text_encoder) == (wanted.unet, wanted.vae, wanted.text_encoder)
    assert given.schedule == wanted.schedule
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(given), jax.tree.leaves(wanted))


def test_round_trip_is_bit_exact(model, tmp_path):
    save_single_file(model, tmp_path / "model.safetensors", np.float32)
    again = load_stable_diffusion(tmp_path / "model.safetensors")
    assert_same(again, model)
    assert again.tokenizer(["a hand"]).tolist() == model.tokenizer(["a hand"]).tolist()
    save_single_file(again, tmp_path / "again.safetensors", np.float32)
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("model", "again"))
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_what_published_files_have_besides_the_model_is_left_out(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_single_file(model, path, np.float32)
    tensors = load_file(path)
    tensors |= {"betas": np.ones(3), "model_ema.decay": np.ones(1)}
    if any(name.startswith("cond_stage_model.model.") for name in tensors):
        layers = [name for name in tensors if ".resblocks.1." in name]
        tensors |= {name.replace(".resblocks.1.", ".resblocks.2."): tensors[name] for name in layers}
        tensors |= {f"cond_stage_model.model.{name}": np.ones((24, 24)) for name in ("text_projection", "logit_scale")}
    else:
        tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = np.arange(32)[None]
    save_file(tensors, path)
    assert_same(load_stable_diffusion(path), model)


@pytest.mark.parametrize(
    ("network", "name", "ldm"),
    [
        ("unet", "time_embedding.linear_2.bias", "time_embed.2.bias"),
        ("unet", "conv_in.weight", "input_blocks.0.0.weight"),
        ("unet", "down_blocks.0.resnets.1.time_emb_proj.weight", "input_blocks.2.0.emb_layers.1.weight"),
        ("unet", "down_blocks.0.downsamplers.0.conv.weight", "input_blocks.3.0.op.weight"),
        ("unet", "down_blocks.1.resnets.0.conv_shortcut.weight", "input_blocks.4.0.skip_connection.weight"),
        ("unet", "down_blocks.3.resnets.1.conv2.weight", "input_blocks.11.0.out_layers.3.weight"),
        (
            "unet",
            "mid_block.attentions.0.transformer_blocks.0.norm1.bias",
            "middle_block.1.transformer_blocks.0.norm1.bias",
        ),
        ("unet", "mid_block.resnets.1.norm1.weight", "middle_block.2.in_layers.0.weight"),
        ("unet", "up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight"),
        ("unet", "up_blocks.1.upsamplers.0.conv.weight", "output_blocks.5.2.conv.weight"),
        (
            "unet",
            "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_out.0.bias",
            "output_blocks.11.1.transformer_blocks.0.attn2.to_out.0.bias",
        ),
        ("unet", "conv_norm_out.weight", "out.0.weight"),
        ("vae", "encoder.down_blocks.0.downsamplers.0.conv.bias", "encoder.down.0.downsample.conv.bias"),
        ("vae", "encoder.mid_block.attentions.0.to_out.0.weight", "encoder.mid.attn_1.proj_out.weight"),
        ("vae", "decoder.mid_block.resnets.1.norm2.weight", "decoder.mid.block_2.norm2.weight"),
        ("vae", "decoder.up_blocks.0.resnets.2.conv1.weight", "decoder.up.3.block.2.conv1.weight"),
        ("vae", "decoder.up_blocks.2.resnets.0.conv_shortcut.weight", "decoder.up.1.block.0.nin_shortcut.weight"),
        ("vae", "decoder.conv_norm_out.bias", "decoder.norm_out.bias"),
        ("clip", "encoder.layers.3.mlp.fc1.weight", "encoder.layers.3.mlp.fc1.weight"),
        ("open_clip", "encoder.layers.3.mlp.fc1.weight", "transformer.resblocks.3.mlp.c_fc.weight"),
        ("open_clip", "embeddings.position_embedding.weight", "positional_embedding"),
    ],
)
def test_names_at_full_size(network, name, ldm):
    """Names as the published files have them."""
    part = "text_encoder" if "clip" in network else network
    shapes = parameter_shapes(MODULES[part]((SD_2 if network == "open_clip" else SD_1)[part]))
    table = ldm_names(network, [torch_name(path) for path in traverse_util.flatten_dict(shapes)])
    assert table[name] == ldm
    assert len(set(table.values())) == len(table)


def test_sizes_of_published_models(tmp_path):
    """Without settings beside it, a file has the sizes of the published models; the UNet's widths tell which."""
    path = tmp_path / "model.safetensors"
    for config, inputs in ((SD_1["unet"], 9), (SD_2["unet"], 4)):
        width = config.cross_attention_dim
        prefix = "model.diffusion_model"
        tensors = {
            f"{prefix}.input_blocks.0.0.weight": np.ones((320, inputs, 3, 3), np.float16),
            f"{prefix}.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": np.ones((320, width), np.float16),
        }
        save_file(tensors, path)
        # 686 tensors in all; neither of these two is of another shape.
        with pytest.raises(WeightsError, match=r"\(684 missing, first conv_in\.bias\)"):
            load_stable_diffusion(path)
    save_file({name: value[:, :5] for name, value in tensors.items()}, path)
    with pytest.raises(WeightsError, match=r"reads 5 text channels, .* put its config\.json files into .*/model in"):
        load_stable_diffusion(path)
    save_file({"other": np.ones(3)}, path)
    with pytest.raises(WeightsError, match=r"model\.safetensors: holds no unet"):
        load_stable_diffusion(path)


def test_what_is_predicted(tmp_path):
    """The settings beside the file say it, else its metadata, else the kind of model."""
    path = tmp_path / "model.safetensors"
    save_file({"a": np.ones(1)}, path)
    assert read_schedule(path, SD_1["unet"]) == NoiseSchedule()
    assert read_schedule(path, SD_2["unet"]).prediction_type == "v_prediction"
    assert read_schedule(path, dataclasses.replace(SD_2["unet"], in_channels=9)).prediction_type == "epsilon"
    save_file({"a": np.ones(1)}, path, {"modelspec.prediction_type": "epsilon"})
    assert read_schedule(path, SD_2["unet"]).prediction_type == "epsilon"


def test_without_tokenizer_is_one_line(tmp_path):
    save_single_file(tiny_model(), tmp_path / "model.safetensors")
    shutil.rmtree(tmp_path / "model/tokenizer")
    model = load_stable_diffusion(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model/tokenizer: vocab\.json, merges\.txt missing"):
        model.tokenizer(["a hand"])
    with pytest.raises(WeightsError, match=r"model/tokenizer: vocab\.json, merges\.txt missing"):
        save_stable_diffusion(model, tmp_path / "folder")


def test_another_autoencoder(tmp_path):
    """From a whole model, from an autoencoder's own folder or file, in LDM's names or ours, with or without prefix."""
    model = tiny_model()
    other = dataclasses.replace(model, vae_params=jax.tree.map(lambda leaf: 2 * leaf, model.vae_params))
    save_stable_diffusion(model, tmp_path / "model", np.float32)
    save_stable_diffusion(other, tmp_path / "other", np.float32)
    save_single_file(other, tmp_path / "other.safetensors", np.float32)
    ours = to_torch(other.vae_params)
    theirs = {name.removeprefix("first_stage_model."): value for name, value in to_ldm("vae", ours).items()}
    save_file(ours, tmp_path / "ours.safetensors")
    save_file(theirs, tmp_path / "theirs.safetensors")
    for name in ("ours", "theirs"):
        shutil.copytree(tmp_path / "other/vae", tmp_path / name)
    for name in ("other", "other/vae", "other.safetensors", "ours.safetensors", "theirs.safetensors"):
        replaced = load_stable_diffusion(tmp_path / "model", vae=tmp_path / name)
        assert replaced.vae == other.vae
        jax.tree.map(np.testing.assert_array_equal, replaced.vae_params, other.vae_params)
        jax.tree.map(np.testing.assert_array_equal, replaced.unet_params, model.unet_params)


def test_an_autoencoder_that_does_not_fit_is_one_line(tmp_path):
    model = tiny_model()
    save_stable_diffusion(model, tmp_path / "model")
    vae = VAE(dataclasses.replace(model.vae.config, latent_channels=3))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), parameter_shapes(vae))
    save_part(tmp_path / "other", "vae", vae.config, params)
    with pytest.raises(WeightsError, match="the UNet reads 4 latent channels, the autoencoder gives 3"):
        load_stable_diffusion(tmp_path / "model", vae=tmp_path / "other")


def test_pickled_weights_only_when_allowed(tmp_path):
    torch = pytest.importorskip("torch")
    model = tiny_model()
    save_single_file(model, tmp_path / "model.safetensors", np.float32)
    state = {name: torch.from_numpy(value) for name, value in load_file(tmp_path / "model.safetensors").items()}
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    with pytest.raises(WeightsError, match="--allow-pickle"):
        load_stable_diffusion(tmp_path / "model.ckpt")
    assert_same(load_stable_diffusion(tmp_path / "model.ckpt", allow_pickle=True), model)
    (tmp_path / "model/vae").mkdir(exist_ok=True)
    torch.save(
        {name: torch.from_numpy(v.copy()) for name, v in to_torch(model.vae_params).items()}, tmp_path / "vae.bin"
    )
    (tmp_path / "model/vae/diffusion_pytorch_model.bin").write_bytes((tmp_path / "vae.bin").read_bytes())
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.bin: pickled"):
        load_vae(tmp_path / "model")
    assert load_vae(tmp_path / "model", jnp.float16, allow_pickle=True)[0].config == model.vae.config


@pytest.mark.parametrize("shape", [(), (10, 4)])
def test_projections_of_another_shape_are_one_line(shape):
    name = "transformer.resblocks.0.attn.in_proj_weight"
    with pytest.raises(WeightsError, match="does not hold three projections"):
        from_ldm("open_clip", {name: np.zeros(shape)}, {"encoder.layers.0.self_attn.q_proj.weight": 2})
