"""The autoencoder of a latent diffusion model: pictures to latents and back."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.diffusion.configs import VAEConfig
from handjax.diffusion.model import save_part
from handjax.diffusion.vae import VAE
from handjax.preview import from_model_range, sheet
from handjax.training.task import Terms, total

LATENT_POWER_DECAY = 0.99


@dataclasses.dataclass(frozen=True)
class AutoencoderTask:
    """Reconstruction in pixels and in their differences, with a weak pull of the latents to the normal distribution.

    The model state is the moving mean square of the latents, which gives the scaling factor.

    Args:
        vae: the network.
        image_size: side of the training pictures in pixels.
        gradient_weight: of the L1 error of neighbouring pixels' differences.
        kl_weight: of the divergence summed over the latents of a picture.

    Source:
        Rombach et al. 2022, appendix G, without the adversary.
    """

    vae: VAE
    image_size: int
    gradient_weight: float
    kl_weight: float

    @property
    def loss_weights(self):
        return {"l1": 1.0, "gradient": self.gradient_weight, "kl": self.kl_weight}

    @property
    def exports(self):
        return {"diffusers": self._save_vae}

    def batch_spec(self):
        return {"image": jax.ShapeDtypeStruct((self.image_size, self.image_size, 3), jnp.float32)}

    def init(self, rng):
        image = jnp.zeros((1, self.image_size, self.image_size, 3))
        params = jax.jit(self.vae.init)(rng, image, rng)["params"]
        return params, {"latent_power": jnp.ones(())}

    def frozen(self):
        return {}

    def loss(self, trainable, frozen, state, batch, rng):
        image = batch["image"]
        mean, log_variance = self._encode(trainable, image)
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(rng)
        decoded = self._decode(trainable, mean + jnp.exp(0.5 * log_variance) * noise)
        power = jax.lax.stop_gradient(jnp.square(mean).mean())
        decay = LATENT_POWER_DECAY
        state = {"latent_power": decay * state["latent_power"] + (1 - decay) * power}
        return self._terms(image, decoded, mean, log_variance), state, {}

    def evaluate(self, trainable, frozen, state, batch, rng):
        """Measures the means of the latents decoded, also as a signal-to-noise ratio."""
        image = batch["image"]
        mean, log_variance = self._encode(trainable, image)
        decoded = jnp.clip(self._decode(trainable, mean), -1, 1)
        error = jnp.square(decoded - image).mean(axis=(1, 2, 3))
        psnr = 10 * jnp.log10(4.0 / jnp.maximum(error, 1e-8))  # the range from -1 to 1 has a peak of 2
        return self._terms(image, decoded, mean, log_variance) | {"psnr_db": total(psnr)}

    def preview(self, trainable, frozen, state, batch, rng):
        image = batch["image"][:8]
        decoded = self._decode(trainable, self._encode(trainable, image)[0])
        return {"reconstruction": sheet(from_model_range(image), from_model_range(decoded))}

    def _save_vae(self, params, state, folder, dtype):
        """Writes the vae/ of a model; latents times its scaling factor have a mean square of one."""
        scale = 1 / math.sqrt(float(state["latent_power"]))
        save_part(folder, "vae", dataclasses.replace(self.vae.config, scaling_factor=scale), params, dtype)

    def _encode(self, params, image):
        return self.vae.apply({"params": params}, image, method="encode")

    def _decode(self, params, latents):
        return self.vae.apply({"params": params}, latents, method="decode")

    def _terms(self, image, decoded, mean, log_variance) -> Terms:
        difference = decoded - image
        divergence = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)
        return {
            "l1": total(jnp.abs(difference).mean(axis=(1, 2, 3))),
            "gradient": total(gradient_l1(difference)),
            "kl": total(divergence.sum(axis=(1, 2, 3))),
        }


def gradient_l1(difference: Float[Array, "batch height width c"]) -> Float[Array, " batch"]:
    """Mean absolute difference of neighbours in `difference`: the error of a picture's edges."""
    rows, columns = jnp.diff(difference, axis=1), jnp.diff(difference, axis=2)
    return jnp.abs(rows).mean(axis=(1, 2, 3)) + jnp.abs(columns).mean(axis=(1, 2, 3))


def make(config: Any) -> AutoencoderTask:
    """Makes the task of a recipe with `vae` (fields of `VAEConfig`), `loss` and `data.image_size`."""
    vae = VAE(VAEConfig(**config.vae.to_dict(), sample_size=config.data.image_size))
    return AutoencoderTask(vae, config.data.image_size, config.loss.gradient_weight, config.loss.kl_weight)
