"""The PyTorch module that is exported beside the weights gives the same numbers."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.files import PYTORCH_MODULE, load_sgm, save_sgm
from handjax.adapters.sgm import SGM, SGMConfig
from handjax.diffusion.configs import UNetConfig
from handjax.diffusion.unet import UNet
from tests.parity.sd_models import (
    UNET_1,
    assert_equal_outputs,
    flax_variables,
    normal,
    redraw,
    to_nchw,
    to_nhwc,
    torch,
)

TINY = SGMConfig(stem_channels=(8, 12, 16), unet_channels=(16, 24, 32), layers_per_block=1, fusion_channels=20)
VARIANTS = {
    "paper": {},
    "levels": {"levels": (0, 1)},
    "attention only": {"modulator": False},
    "modulator only": {"attention": False},
    "neither": {"attention": False, "modulator": False, "levels": (1,)},
    "four levels": {"unet_channels": (16, 24, 32, 32), "layers_per_block": 2, "levels": (0, 2)},
}


def load_module():
    spec = importlib.util.spec_from_file_location("exported_sgm", PYTORCH_MODULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def exported(request, tmp_path):
    sgm = SGM(dataclasses.replace(TINY, **request.param))
    rng = np.random.default_rng(0)
    depth = rng.uniform(size=(2, 64, 64, 1)).astype(np.float32)
    skeleton = rng.uniform(size=(2, 64, 64, 3)).astype(np.float32)
    shapes = jax.eval_shape(sgm.init, jax.random.key(0), depth, skeleton)["params"]
    params = jax.tree.map(lambda leaf: rng.normal(scale=0.2, size=leaf.shape).astype(np.float32), shapes)
    save_sgm(sgm, params, tmp_path)
    return tmp_path, sgm, params, depth, skeleton


def test_exported_module_agrees(exported):
    folder, sgm, params, depth, skeleton = exported
    ours = jax.jit(sgm.apply)({"params": params}, depth, skeleton)
    with torch.no_grad():
        theirs = load_module().SGM.from_folder(folder)(*(torch.from_numpy(x).movedim(3, 1) for x in (depth, skeleton)))
    assert np.abs(ours.mid_residual).max() > 0.1
    np.testing.assert_allclose(theirs.mid_residual.movedim(1, 3), ours.mid_residual, atol=1e-4)
    np.testing.assert_allclose(theirs.attention_map, ours.attention_map, atol=1e-4)
    if ours.down_residuals is None:
        assert not any(residual.any() for residual in theirs.down_residuals)
        return
    for their, our in zip(theirs.down_residuals, ours.down_residuals, strict=True):
        np.testing.assert_allclose(their.movedim(1, 3), our, atol=1e-4)


@pytest.mark.parametrize("levels", [(), pytest.param((0, 1), marks=pytest.mark.slow)])
def test_diffusers_unet_takes_what_the_exported_module_gives(levels, tmp_path):
    from diffusers import UNet2DConditionModel

    peer = redraw(UNet2DConditionModel(**UNET_1))
    unet = UNet(UNetConfig.from_diffusers(dict(peer.config)))
    sgm = SGM(dataclasses.replace(TINY, unet_channels=(32, 64, 96), layers_per_block=2, levels=levels))
    depth, skeleton = jax.random.uniform(jax.random.key(0), (1, 32, 32, 1)), normal((1, 32, 32, 3), 1)
    shapes = jax.eval_shape(sgm.init, jax.random.key(0), depth, skeleton)["params"]
    params = jax.tree.map(lambda leaf: 0.2 * normal(leaf.shape, 3), shapes)
    save_sgm(sgm, params, tmp_path)
    sample, context = normal((1, 8, 8, 9), 4), normal((1, 7, 24), 5)

    @jax.jit
    def ours(params):
        output = sgm.apply({"params": params}, depth, skeleton)
        return unet.apply(flax_variables(peer), sample, jnp.array([500.0]), context, **output.residuals)

    module = load_module().SGM.from_folder(tmp_path)
    with torch.no_grad():
        output = module(to_nchw(depth), to_nchw(skeleton))
        residuals = {
            "mid_block_additional_residual": output.mid_residual,
            "down_block_additional_residuals": output.down_residuals,
        }
        arguments = (to_nchw(sample), torch.tensor([500.0]), torch.from_numpy(np.array(context)))
        theirs = to_nhwc(peer(*arguments, **residuals).sample)
        plain = to_nhwc(peer(*arguments).sample)
    assert np.abs(theirs - plain).max() > 0.05
    assert_equal_outputs(ours(params), theirs)


def test_exported_folder_is_read_back(exported):
    folder, sgm, params, _, _ = exported
    again, read = load_sgm(folder)
    assert again == sgm
    jax.tree.map(np.testing.assert_array_equal, read, params)
