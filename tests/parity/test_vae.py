"""The autoencoder against PyTorch diffusers with the same random weights."""

import jax
import pytest

from handjax.diffusion.configs import VAEConfig
from handjax.diffusion.tiling import decode_tiled, encode_tiled
from handjax.diffusion.vae import VAE
from handjax.weights.names import check_tree
from tests.parity.sd_models import VAE as DOCUMENT
from tests.parity.sd_models import assert_equal_outputs, flax_variables, normal, redraw, to_nchw, to_nhwc, torch


@pytest.fixture(scope="module")
def models():
    from diffusers import AutoencoderKL

    peer = redraw(AutoencoderKL(**DOCUMENT))
    return VAE(VAEConfig.from_diffusers(dict(peer.config))), flax_variables(peer), peer


def test_parameters_fit(models):
    ours, variables, _ = models
    expected = jax.eval_shape(ours.init, jax.random.key(0), normal((1, 16, 16, 3), 0), jax.random.key(1))
    check_tree(variables["params"], expected["params"], "peer")


def test_encode(models):
    ours, variables, peer = models
    images = normal((2, 32, 24, 3), 0)
    mean, log_variance = jax.jit(lambda v, x: ours.apply(v, x, method="encode"))(variables, images)
    with torch.no_grad():
        posterior = peer.encode(to_nchw(images)).latent_dist
    assert_equal_outputs(mean, to_nhwc(posterior.mean))
    assert_equal_outputs(log_variance, to_nhwc(posterior.logvar))


def test_decode(models):
    ours, variables, peer = models
    latents = normal((2, 8, 6, 4), 0)
    with torch.no_grad():
        expected = to_nhwc(peer.decode(to_nchw(latents)).sample)
    got = jax.jit(lambda v, z: ours.apply(v, z, method="decode"))(variables, latents)
    assert got.shape == (2, 32, 24, 3)
    assert_equal_outputs(got, expected)


# diffusers blends the last quarter of a tile with what is left of a tile beyond it, and weights corners otherwise.
@pytest.mark.parametrize("along", [0, 1])
@pytest.mark.parametrize("way", ["decode", "encode"])
def test_tiled(models, way, along):
    ours, variables, peer = models
    sides = [8, 8]
    sides[along] = 8 + 2 * 6
    scale_in, scale_out = (1, 4) if way == "decode" else (4, 1)
    x = normal((1, *(scale_in * side for side in sides), 4 if way == "decode" else 3), 0)
    peer.enable_tiling()
    with torch.no_grad():
        expected = peer.decode(to_nchw(x)).sample if way == "decode" else peer.encode(to_nchw(x)).latent_dist.mean
    peer.disable_tiling()
    tiled = jax.jit(decode_tiled if way == "decode" else encode_tiled, static_argnums=0)(ours, variables["params"], x)
    got = tiled if way == "decode" else tiled[0]
    rows, columns = (slice((side - 2) * scale_out) for side in sides)
    assert_equal_outputs(got[:, rows, columns], to_nhwc(expected)[:, rows, columns])
