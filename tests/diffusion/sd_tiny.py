"""A randomly initialised model of the smallest size."""

import dataclasses
import functools

import jax
import numpy as np

import handjax
from handjax.diffusion.configs import TextConfig, UNetConfig, VAEConfig
from handjax.diffusion.model import StableDiffusion
from handjax.diffusion.networks import initial_params, parameter_shapes
from handjax.diffusion.schedules import NoiseSchedule
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.tokenizer import Tokenizer
from handjax.diffusion.unet import UNet
from handjax.diffusion.vae import VAE

TOKENIZER = f"{handjax.__path__[0]}/assets/tiny_inpainting/tokenizer"
UNET = UNetConfig(
    in_channels=9,
    block_out_channels=(16, 32),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    attention_head_dim=4,
    cross_attention_dim=24,
    norm_num_groups=8,
)


def redraw(params, seed):
    """Adds noise to all parameters, so that no branch is at zero."""
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return tree.unflatten([np.asarray(leaf + 0.1 * rng.standard_normal(leaf.shape), np.float32) for leaf in leaves])


@functools.cache
def tiny_model(seed=0):
    unet = UNet(UNET)
    vae = VAE(VAEConfig(block_out_channels=(8, 16), norm_num_groups=4, sample_size=16))
    text_encoder = TextEncoder(
        TextConfig(
            vocab_size=2000,
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
        )
    )
    params = [
        redraw(jax.jit(initial_params, static_argnums=0)(network, jax.random.key(seed)), seed)
        for network in (unet, vae, text_encoder)
    ]
    return StableDiffusion(*params, unet, vae, text_encoder, NoiseSchedule(), Tokenizer(TOKENIZER, 32))


@functools.cache
def second_generation():
    """The tiny model with what Stable Diffusion 2.x has: OpenCLIP, linear projections, heads by level, velocity."""
    model = tiny_model()
    text = dataclasses.replace(model.text_encoder.config, hidden_act="gelu")
    unet = dataclasses.replace(
        model.unet.config, in_channels=4, use_linear_projection=True, attention_head_dim=(2, 4), layers_per_block=2
    )
    rng = np.random.default_rng(1)
    return dataclasses.replace(
        model,
        unet=UNet(unet),
        unet_params=jax.tree.map(
            lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), parameter_shapes(UNet(unet))
        ),
        text_encoder=TextEncoder(text),
        schedule=NoiseSchedule(prediction_type="v_prediction"),
    )
