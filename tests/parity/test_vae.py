"""The autoencoder against PyTorch diffusers with the same random weights."""

import jax
import pytest

from handjax.diffusion.configs import VAEConfig
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
