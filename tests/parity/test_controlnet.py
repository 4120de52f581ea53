"""ControlNet against PyTorch diffusers with the same random weights."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.controlnet import ControlNet, ControlNetConfig, copy_encoder, sum_residuals
from handjax.adapters.files import load_controlnet, save_controlnet
from handjax.diffusion.configs import UNetConfig
from handjax.diffusion.unet import UNet
from handjax.errors import WeightsError
from handjax.weights.ldm import to_ldm
from handjax.weights.names import check_tree, to_torch
from handjax.weights.safetensors import write_tensors
from tests.parity.sd_models import (
    UNET_1,
    UNET_2,
    assert_equal_outputs,
    flax_variables,
    normal,
    redraw,
    to_nchw,
    to_nhwc,
    torch,
)

NOT_CONTROLNET = ("up_block_types", "out_channels", "sample_size")


def make(document):
    from diffusers import ControlNetModel

    ours = {key: value for key, value in document.items() if key not in NOT_CONTROLNET} | {"in_channels": 4}
    peer = redraw(ControlNetModel(**ours, conditioning_embedding_out_channels=(8, 12, 16, 24)))
    return ControlNet(ControlNetConfig.from_diffusers(dict(peer.config))), flax_variables(peer), peer


INPUTS = (normal((2, 8, 8, 4), 0), jnp.array([3.0, 981.0]), normal((2, 7, 24), 1))
PICTURE = jax.random.uniform(jax.random.key(2), (2, 64, 64, 3))


@pytest.mark.parametrize("guess_mode", [False, True])
@pytest.mark.parametrize("document", [UNET_1, UNET_2], ids=["sd1", "sd2"])
def test_residuals(document, guess_mode):
    ours, variables, peer = make(document)
    expected = jax.eval_shape(ours.init, jax.random.key(0), *INPUTS, PICTURE)["params"]
    check_tree(variables["params"], expected, "peer")
    got = jax.jit(ours.apply, static_argnames="guess_mode")(
        variables, *INPUTS, PICTURE, scale=0.7, guess_mode=guess_mode
    )
    sample, timesteps, context = INPUTS
    with torch.no_grad():
        down, mid = peer(
            to_nchw(sample),
            torch.from_numpy(np.array(timesteps)),
            torch.from_numpy(np.array(context)),
            to_nchw(PICTURE),
            conditioning_scale=0.7,
            guess_mode=guess_mode,
            return_dict=False,
        )
    factor = 10 if guess_mode else 1  # the finest level is weakened to a tenth
    assert_equal_outputs(got["mid_residual"], to_nhwc(mid))
    for our, their in zip(got["down_residuals"], down, strict=True):
        assert_equal_outputs(factor * our, factor * to_nhwc(their))


def test_config_goes_to_diffusers_and_back():
    ours, _, peer = make(UNET_2)
    document = ours.config.to_diffusers()
    assert ControlNetConfig.from_diffusers(document) == ours.config
    again = type(peer).from_config(document)
    assert {n: p.shape for n, p in again.state_dict().items()} == {n: p.shape for n, p in peer.state_dict().items()}


@pytest.mark.slow
def test_a_new_controlnet_starts_as_the_unet_and_adds_nothing():
    unet = UNet(UNetConfig(**{**UNET_1, "in_channels": 9}))
    sample, timesteps, context = INPUTS
    nine = jnp.concatenate([sample, sample, sample[..., :1]], axis=-1)
    unet_params = jax.jit(unet.init)(jax.random.key(0), nine, timesteps, context)["params"]
    controlnet = ControlNet(ControlNetConfig(UNetConfig(**{**UNET_1, "in_channels": 4}), (8, 12, 16, 24)))
    fresh = jax.jit(controlnet.init)(jax.random.key(1), *INPUTS, PICTURE)["params"]
    params = copy_encoder(unet_params, fresh)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh)
    np.testing.assert_array_equal(
        params["down_blocks_1"]["resnets_0"]["conv1"]["kernel"],
        unet_params["down_blocks_1"]["resnets_0"]["conv1"]["kernel"],
    )
    np.testing.assert_array_equal(params["conv_in"]["kernel"], unet_params["conv_in"]["kernel"][:, :, :4])
    residuals = jax.jit(controlnet.apply)({"params": params}, *INPUTS, PICTURE)
    plain = jax.jit(unet.apply)({"params": unet_params}, nine, timesteps, context)
    controlled = jax.jit(unet.apply)({"params": unet_params}, nine, timesteps, context, **residuals)
    np.testing.assert_array_equal(controlled, plain)


def test_several_controlnets_add_up():
    one = {"mid_residual": jnp.ones((1, 2, 2, 3)), "down_residuals": (jnp.ones((1, 4, 4, 2)),)}
    two = jax.tree.map(lambda leaf: 2 * leaf, one)
    total = sum_residuals([one, two, one])
    assert float(total["mid_residual"].max()) == 4 and float(total["down_residuals"][0].min()) == 4


def test_what_an_export_follows_is_written_and_diffusers_passes_over_it(tmp_path, monkeypatch, caplog):
    ours, variables, peer = make(UNET_1)
    marked = ControlNet(dataclasses.replace(ours.config, condition="skeleton"))
    save_controlnet(marked, variables["params"], tmp_path / "marked", np.float32)
    read, params = load_controlnet(tmp_path / "marked", condition="skeleton")
    assert read.config == load_controlnet(tmp_path / "marked")[0].config == marked.config
    with pytest.raises(WeightsError, match="marked: a ControlNet that follows skeleton would be given depth; name"):
        load_controlnet(tmp_path / "marked", condition="depth")
    write_tensors(tmp_path / "marked.safetensors", to_ldm("controlnet", dict(to_torch(variables["params"]))))
    with pytest.raises(WeightsError, match="marked: a ControlNet that follows skeleton would be given mesh; name"):
        load_controlnet(tmp_path / "marked.safetensors", condition="mesh")

    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    again = type(peer).from_pretrained(tmp_path / "marked")
    assert not caplog.records  # nothing is passed over with a warning
    np.testing.assert_array_equal(again.state_dict()["conv_in.weight"], peer.state_dict()["conv_in.weight"])
    again.save_pretrained(tmp_path / "again")
    assert load_controlnet(tmp_path / "again")[0].config == marked.config  # it goes on from there
    peer.save_pretrained(tmp_path / "theirs")
    assert load_controlnet(tmp_path / "theirs", condition="depth")[0].config == ours.config  # the user is believed


def test_folders_go_both_ways_bit_for_bit(tmp_path):
    from diffusers import ControlNetModel

    ours, variables, peer = make(UNET_1)
    save_controlnet(ours, variables["params"], tmp_path / "ours", np.float32)
    theirs = ControlNetModel.from_pretrained(tmp_path / "ours").state_dict()
    for name, value in peer.state_dict().items():
        np.testing.assert_array_equal(theirs[name], value)
    peer.save_pretrained(tmp_path / "theirs")
    again, params = load_controlnet(tmp_path / "theirs")
    assert again.config == ours.config
    jax.tree.map(np.testing.assert_array_equal, params, variables["params"])
    (tmp_path / "ours" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(WeightsError, match="not of a ControlNetModel"):
        load_controlnet(tmp_path / "ours")


@pytest.mark.parametrize("document", [UNET_1, UNET_2], ids=["sd1", "sd2"])
def test_one_file_with_the_names_of_ldm(document, tmp_path):
    from diffusers import ControlNetModel

    ours, variables, peer = make(document)
    state = dict(to_torch(variables["params"]))
    ldm = to_ldm("controlnet", state)
    assert len(ldm) == len(state) and all(name.startswith("control_model.") for name in ldm)
    save_controlnet(ours, variables["params"], tmp_path / "control", np.float32)
    write_tensors(tmp_path / "control.safetensors", ldm)
    again, params = load_controlnet(tmp_path / "control.safetensors")
    assert again.config == ours.config
    jax.tree.map(np.testing.assert_array_equal, params, variables["params"])
    theirs = ControlNetModel.from_single_file(str(tmp_path / "control.safetensors"), config=str(tmp_path / "control"))
    for name, value in peer.state_dict().items():
        np.testing.assert_array_equal(theirs.state_dict()[name], value)


def test_one_file_of_no_published_size_needs_its_settings(tmp_path):
    _, variables, _ = make(UNET_1)
    write_tensors(tmp_path / "control.safetensors", to_ldm("controlnet", dict(to_torch(variables["params"]))))
    with pytest.raises(WeightsError, match="no Stable Diffusion 1.x or 2.x of a published size"):
        load_controlnet(tmp_path / "control.safetensors")
