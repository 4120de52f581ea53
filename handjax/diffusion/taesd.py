"""A tiny autoencoder for the latents of Stable Diffusion: previews in a fraction of the time of the VAE.

Source: Ollin Boer Bohan, TAESD, https://github.com/madebyollin/taesd, in the layout of diffusers' AutoencoderTiny.
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.diffusion.configs import TAESDConfig
from handjax.diffusion.conv import Conv
from handjax.diffusion.folder import WEIGHTS, read_json, reading_settings
from handjax.diffusion.networks import fit_params
from handjax.diffusion.vae import VAE
from handjax.files import write_json
from handjax.weights.files import find_weights, read_weights
from handjax.weights.names import to_torch
from handjax.weights.safetensors import write_tensors

# The decoder squashes latents softly into ± this.
LATENT_RANGE = 3.0


class Block(nn.Module):
    """Three convolutions, added to their input."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        h = nn.relu(Conv(x.shape[-1], dtype=self.dtype, name="conv_0")(x))
        h = nn.relu(Conv(x.shape[-1], dtype=self.dtype, name="conv_2")(h))
        return nn.relu(x + Conv(x.shape[-1], dtype=self.dtype, name="conv_4")(h))


class Encoder(nn.Module):
    """Picture in [0, 1] to latents; layers are numbered in one sequence, as PyTorch's are."""

    config: TAESDConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width cin"]) -> Float[Array, "batch h w latent"]:
        config, layer = self.config, 0
        for level, blocks in enumerate(config.num_encoder_blocks):
            first = level == 0
            features = config.encoder_block_out_channels[level]
            x = Conv(
                features,
                stride=1 if first else 2,
                padding=None if first else (1, 1),
                dtype=self.dtype,
                use_bias=first,
                name=f"layers_{layer}",
            )(x)
            for i in range(blocks):
                x = Block(self.dtype, name=f"layers_{layer + 1 + i}")(x)
            layer += 1 + blocks
        return Conv(config.latent_channels, dtype=self.dtype, name=f"layers_{layer}")(x)


class Decoder(nn.Module):
    """Latents to picture in [0, 1]; layers are numbered in one sequence, activations and upsampling too."""

    config: TAESDConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w latent"]) -> Float[Array, "batch height width cout"]:
        config, layer = self.config, 2
        x = nn.relu(Conv(config.decoder_block_out_channels[0], dtype=self.dtype, name="layers_0")(x))
        for level, blocks in enumerate(config.num_decoder_blocks):
            if level > 0:
                x = x.repeat(2, axis=1).repeat(2, axis=2)
                x = Conv(x.shape[-1], dtype=self.dtype, use_bias=False, name=f"layers_{layer + 1}")(x)
                layer += 2
            for i in range(blocks):
                x = Block(self.dtype, name=f"layers_{layer + i}")(x)
            layer += blocks
        return Conv(config.out_channels, dtype=self.dtype, name=f"layers_{layer}")(x)


class TAESD(nn.Module):
    """The tiny autoencoder, with the methods of `handjax.diffusion.vae.VAE`. Nothing is scaled.

    Args:
        config: sizes.
        dtype: of the computation; parameters are float32.
    """

    config: TAESDConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.encoder = Encoder(self.config, self.dtype)
        self.decoder = Decoder(self.config, self.dtype)

    def __call__(self, images: Float[Array, "batch height width cin"]) -> Float[Array, "batch height width cout"]:
        """Reconstructs pictures in [-1, 1]."""
        return self.decode(self.encode(images)[0])

    def encode(
        self, images: Float[Array, "batch height width cin"]
    ) -> tuple[Float[Array, "batch h w latent"], Float[Array, "batch h w latent"]]:
        """Gives latents, float32, of pictures in [-1, 1], and the logarithm of their variance, which is 0."""
        latents = self.encoder((images + 1) / 2).astype(jnp.float32)
        return latents, jnp.full_like(latents, -jnp.inf)

    def decode(self, latents: Float[Array, "batch h w latent"]) -> Float[Array, "batch height width cout"]:
        """Gives pictures, float32 and nominally in [-1, 1], of latents."""
        return self.decoder(jnp.tanh(latents / LATENT_RANGE) * LATENT_RANGE).astype(jnp.float32) * 2 - 1

    def scale(self, latents: Float[Array, "batch h w latent"]) -> Float[Array, "batch h w latent"]:
        """Latents as the UNet sees them: those of `encode`."""
        return latents

    def unscale(self, latents: Float[Array, "batch h w latent"]) -> Float[Array, "batch h w latent"]:
        """The inverse of `scale`."""
        return latents


Autoencoder = VAE | TAESD


def load_taesd(folder: str | Path, dtype: DTypeLike = jnp.float32, allow_pickle: bool = False) -> tuple[TAESD, Any]:
    """Reads a tiny autoencoder.

    Args:
        folder: with config.json and weights, as diffusers writes AutoencoderTiny.
        dtype: of the weights in memory and of the computation.
        allow_pickle: read pickled weights where there are no others.

    Returns:
        The module and its parameters.

    Raises:
        WeightsError: a file is missing or damaged, or describes another architecture.
    """
    folder = Path(folder)
    with reading_settings(folder / "config.json"):
        taesd = TAESD(TAESDConfig.from_diffusers(read_json(folder / "config.json")), dtype)
    path = find_weights(folder, *WEIGHTS["vae"])
    side = taesd.config.factor
    picture = jnp.zeros((1, side, side, taesd.config.in_channels))
    shapes = jax.eval_shape(taesd.init, jax.random.key(0), picture)["params"]
    return taesd, fit_params(shapes, read_weights(path, allow_pickle), dtype, str(path))


def save_taesd(taesd: TAESD, params: Any, folder: str | Path, dtype: DTypeLike = np.float16) -> None:
    """Writes a tiny autoencoder as diffusers' AutoencoderTiny reads it; `dtype` is of the weights in the file."""
    state = to_torch(jax.tree.map(lambda value: np.asarray(value).astype(dtype), params))
    write_tensors(Path(folder) / f"{WEIGHTS['vae'][0]}.safetensors", state)
    write_json(Path(folder) / "config.json", taesd.config.to_diffusers())
