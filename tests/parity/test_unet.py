"""The UNet against PyTorch diffusers with the same random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.configs import UNetConfig
from handjax.diffusion.unet import UNet
from handjax.weights.names import check_tree
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


def make(document):
    from diffusers import UNet2DConditionModel

    peer = redraw(UNet2DConditionModel(**document))
    ours = UNet(UNetConfig.from_diffusers(dict(peer.config)))
    return ours, flax_variables(peer), peer


def run_peer(peer, sample, timesteps, context, **residuals):
    with torch.no_grad():
        out = peer(
            to_nchw(sample),
            torch.from_numpy(np.array(timesteps)),
            torch.from_numpy(np.array(context)),
            **residuals,
        )
    return to_nhwc(out.sample)


# 10 × 12 latents are 5 × 6 and 3 × 3 on the coarser levels: repetition has to be cut on the way up.
@pytest.mark.parametrize("document", [UNET_1, UNET_2], ids=["sd1", "sd2"])
@pytest.mark.parametrize("size", [(8, 16), (10, 12)])
def test_forward(document, size):
    ours, variables, peer = make(document)
    sample = normal((2, *size, document["in_channels"]), 0)
    timesteps = jnp.array([3.0, 981.0])
    context = normal((2, 7, 24), 1)
    expected = jax.eval_shape(ours.init, jax.random.key(0), sample, timesteps, context)
    check_tree(variables["params"], expected["params"], "peer")
    got = jax.jit(ours.apply)(variables, sample, timesteps, context)
    assert_equal_outputs(got, run_peer(peer, sample, timesteps, context))


def test_residuals_follow_the_controlnet_convention():
    ours, variables, peer = make(UNET_2)
    sample, timesteps, context = normal((1, 8, 8, 4), 0), jnp.array([500.0]), normal((1, 7, 24), 1)
    skips = [(8, 32), (8, 32), (4, 32), (4, 64), (2, 64), (2, 96)]
    down = tuple(normal((1, size, size, channels), i) for i, (size, channels) in enumerate(skips))
    mid = normal((1, 2, 2, 96), 9)
    got = jax.jit(ours.apply)(variables, sample, timesteps, context, mid, down)
    expected = run_peer(
        peer,
        sample,
        timesteps,
        context,
        mid_block_additional_residual=to_nchw(mid),
        down_block_additional_residuals=tuple(map(to_nchw, down)),
    )
    assert_equal_outputs(got, expected)
    plain = jax.jit(ours.apply)(variables, sample, timesteps, context)
    assert np.abs(np.asarray(got) - np.asarray(plain)).max() > 0.1


@pytest.mark.slow
def test_gradients():
    ours, variables, peer = make(UNET_2)
    sample, timesteps, context = normal((1, 8, 8, 4), 0), jnp.array([500.0]), normal((1, 7, 24), 1)
    got = jax.jit(jax.grad(lambda v: jnp.square(ours.apply(v, sample, timesteps, context)).mean()))(variables)
    arrays = (to_nchw(sample), torch.tensor([500.0]), torch.from_numpy(np.array(context)))
    peer(*arrays).sample.square().mean().backward()
    for name in ("conv_in", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k", "up_blocks.2.resnets.1.conv1"):
        expected = peer.get_parameter(f"{name}.weight").grad.numpy()
        leaf = got["params"]
        for part in name.replace(".0", "_0").replace(".1", "_1").replace(".2", "_2").split("."):
            leaf = leaf[part]
        axes = (3, 2, 0, 1) if expected.ndim == 4 else (1, 0)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(leaf["kernel"].transpose(axes) / scale, expected / scale, atol=1e-4)
