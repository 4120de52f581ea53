import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.configs import TextConfig, UNetConfig, VAEConfig
from handjax.diffusion.model import StableDiffusion, find_model
from handjax.diffusion.networks import initial_params
from handjax.diffusion.schedules import NoiseSchedule
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.tokenizer import Tokenizer
from handjax.diffusion.unet import UNet
from handjax.diffusion.vae import VAE

SIZE = 32


@pytest.fixture(scope="session")
def model():
    """An inpainting model of three levels, 8x8 latents, with random weights."""
    levels = ("DownBlock2D",) * 3, ("UpBlock2D",) * 3
    unet = UNet(
        UNetConfig(
            sample_size=8,
            in_channels=9,
            down_block_types=levels[0],
            up_block_types=levels[1],
            block_out_channels=(8, 8, 16),
            layers_per_block=1,
            attention_head_dim=2,
            cross_attention_dim=8,
            norm_num_groups=4,
        )
    )
    vae = VAE(VAEConfig(block_out_channels=(4, 8, 8), norm_num_groups=4, sample_size=SIZE))
    text = TextConfig(
        vocab_size=1798,
        hidden_size=8,
        intermediate_size=16,
        projection_dim=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
    networks = (unet, vae, TextEncoder(text))
    draw = jax.jit(initial_params, static_argnums=0)
    params = [jax.device_get(draw(network, jax.random.key(i))) for i, network in enumerate(networks)]
    return StableDiffusion(
        *params, *networks, NoiseSchedule(), Tokenizer(str(find_model("tiny_inpainting/tokenizer")), 8)
    )


@pytest.fixture(scope="session")
def batch():
    """Three examples with every field; the second has no keypoints."""
    rng = np.random.default_rng(0)
    mask = np.zeros((3, SIZE, SIZE, 1), np.float32)
    mask[:, 8:24, 4:20] = 1
    arrays = {
        "image": rng.uniform(-1, 1, (3, SIZE, SIZE, 3)).astype(np.float32),
        "mask": mask,
        "depth": rng.uniform(size=(3, SIZE, SIZE, 1)).astype(np.float32),
        "skeleton": rng.uniform(size=(3, SIZE, SIZE, 3)).astype(np.float32),
        "keypoints": rng.uniform(8, 24, (3, 21, 2)).astype(np.float32),
        "keypoints_valid": np.array([True, False, True]),
        "box_side": np.full(3, 16, np.float32),
        "input_ids": rng.integers(0, 1796, (3, 8)).astype(np.int32),
    }
    return jax.tree.map(jnp.asarray, arrays)


@pytest.fixture(scope="session")
def keys():
    return jax.random.split(jax.random.key(7), 3)
