"""What an inpainting UNet sees besides the noisy latents: the mask and the picture without what it hides."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax.linen import max_pool
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from handjax.diffusion.model import StableDiffusion
from handjax.diffusion.samplers import Sampler
from handjax.diffusion.sampling import Steering, guided_denoise, hold_outside, noised, sample, steered
from handjax.diffusion.schedules import NoiseSchedule

# control(z, timesteps, context, condition, word_bias) -> residuals, as `UNet.__call__` takes them.
Control = Callable[[Any, Any, Any, Any, Any], Any]
# predict(z, timesteps, context, **residuals): what a network predicts for pictures that are painted whole.
Predict = Callable[..., Float[Array, "batch h w latent"]]
HIDDEN_REACH = 2
"""So many cells beside the mask, an autoencoder's latents have taken up much of the grey inside it."""


def hide(
    images: Float[Array, "batch height width c"], mask: Float[Array, "batch height width 1"]
) -> Float[Array, "batch height width c"]:
    """Greys out what is to be painted. Source: DECISIONS B1.

    Args:
        images: in [-1, 1].
        mask: painted where at least 0.5.
    """
    return images * (mask < 0.5)


def latent_mask(mask: Float[Array, "batch height width 1"], factor: int) -> Float[Array, "batch _h _w 1"]:
    """Brings a mask to latent resolution; a cell with any pixel to be painted is painted. Source: DECISIONS B1."""
    binary = (mask >= 0.5).astype(jnp.float32)
    return max_pool(binary, (factor, factor), strides=(factor, factor))


def inpainting_input(
    noisy: Float[Array, "batch h w latent"],
    mask: Float[Array, "batch h w 1"],
    hidden: Float[Array, "batch h w latent"],
) -> Float[Array, "batch h w cin"]:
    """Stacks the UNet's input.

    Args:
        noisy: noisy latents.
        mask: at latent resolution.
        hidden: scaled latents of the picture that `hide` gives.

    Source:
        DECISIONS B1.
    """
    return jnp.concatenate([noisy, mask, hidden], axis=-1)


def text_to_image(model: StableDiffusion, size: tuple[int, int]) -> Predict:
    """A model's prediction for pictures that are painted whole.

    Args:
        model: text-to-image; an inpainting model is told that all is to be painted and shown a grey picture.
        size: height and width of the pictures in pixels.

    Source:
        DECISIONS B1.
    """
    if model.unet.config.in_channels == model.vae.config.latent_channels:
        return model.predict
    grey = model.encode(jnp.zeros((1, *size, 3)))

    def predict(z, timesteps, context, **residuals):
        hidden = jnp.broadcast_to(grey, z.shape)
        return model.predict(inpainting_input(z, jnp.ones_like(z[..., :1]), hidden), timesteps, context, **residuals)

    return predict


@flax.struct.dataclass
class NoisyExamples:
    """A batch to denoise: the UNet's input, and what it should predict.

    Args:
        sample: noisy latents, mask, latents of the hidden picture.
        target: noise or velocity, as the model's schedule says.
        mask: at latent resolution.
    """

    sample: Float[Array, "batch h w cin"]
    timesteps: Float[Array, " batch"]
    target: Float[Array, "batch h w latent"]
    mask: Float[Array, "batch h w 1"]


def encode_pair(
    model: StableDiffusion,
    images: Float[Array, "batch height width 3"],
    mask: Float[Array, "batch height width 1"],
) -> tuple[Float[Array, "batch h w latent"], Float[Array, "batch h w latent"]]:
    """Latents of the pictures and of what `hide` leaves of them, in one pass of the VAE.

    Args:
        model: its VAE is used.
        images: in [-1, 1].
        mask: 1 is to be painted.
    """
    latents, hidden = jnp.split(model.encode(jnp.concatenate([images, hide(images, mask)])), 2)
    return latents, hidden


def add_training_noise(
    model: StableDiffusion,
    latents: Float[Array, "batch h w latent"],
    hidden: Float[Array, "batch h w latent"],
    mask: Float[Array, "batch height width 1"],
    rng: Key[Array, " batch"],
) -> NoisyExamples:
    """Draws a timestep, uniformly, and noise for each example.

    Args:
        model: its noise schedule is used.
        latents: of the whole pictures (`encode_pair`).
        hidden: of what the mask leaves of them.
        mask: 1 is to be painted.
        rng: one key an example.
    """
    noisy, timesteps, target = add_noise(model.schedule, latents, rng)
    small_mask = latent_mask(mask, model.vae.config.factor)
    return NoisyExamples(inpainting_input(noisy, small_mask, hidden), timesteps, target, small_mask)


def add_noise(
    schedule: NoiseSchedule, latents: Float[Array, "batch h w latent"], rng: Key[Array, " batch"]
) -> tuple[Float[Array, "batch h w latent"], Float[Array, " batch"], Float[Array, "batch h w latent"]]:
    """Draws a timestep, uniformly, and noise for each example; arguments as `add_training_noise`.

    Returns:
        Noisy latents, timesteps, and what the network should predict: noise or velocity, as the schedule says.
    """
    time_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(rng)
    steps = schedule.num_train_timesteps
    timesteps = jax.vmap(lambda key: jax.random.randint(key, (), 0, steps))(time_keys).astype(jnp.float32)
    noise = jax.vmap(lambda key: jax.random.normal(key, latents.shape[1:]))(noise_keys)
    noisy = schedule.add_noise(latents, noise, timesteps)
    return noisy, timesteps, schedule.training_target(latents, noise, timesteps)


def drop_captions(
    ids: Int[Array, "batch words"], empty: Int[Array, " words"], probability: float, rng: Key[Array, " batch"]
) -> Int[Array, "batch words"]:
    """Replaces some captions by the empty one, so that the model learns both branches of classifier-free guidance.

    Source: Ho and Salimans 2022, algorithm 1.
    """
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, probability))(rng)
    return jnp.where(dropped[:, None], empty, ids)


def widen(small_mask: Float[Array, "batch h w 1"]) -> Float[Array, "batch h w 1"]:
    """Adds the cells whose latents know that something beside them was hidden."""
    size = 2 * HIDDEN_REACH + 1
    return max_pool(small_mask, (size, size), padding="SAME")


@dataclasses.dataclass(frozen=True)
class Painter:
    """Paints what a mask hides.

    Args:
        sampler: the sampler.
        guidance_scale: of the prompt; 1 leaves the empty prompt out.
        hold: keeps the latents away from the mask at those of the picture in every step, so that tones do not drift
            from what is around the mask; False is what diffusers' inpainting pipeline does.
        strength: share of the sampler's steps that are run; below 1 they start from the picture, noised, whose coarse
            forms and tones stay.

    Source:
        Meng et al. 2022 (SDEdit), algorithm 1, for `strength`.
    """

    sampler: Sampler
    guidance_scale: float
    hold: bool = True
    strength: float = 1.0

    def __call__(
        self,
        model: StableDiffusion,
        images: Float[Array, "batch height width 3"],
        mask: Float[Array, "batch height width 1"],
        context: Float[Array, "batch words embed"],
        empty_context: Float[Array, "batch words embed"],
        noise: Float[Array, "batch h w latent"],
        rng: PRNGKeyArray,
        residuals: dict[str, Any] | None = None,
        control: Control | None = None,
        condition: Any = None,
        word_bias: Float[Array, "batch words"] | None = None,
        steering: Steering | None = None,
    ) -> Float[Array, "batch height width 3"]:
        """Returns the whole decoded pictures, nominally in [-1, 1].

        Args:
            model: an inpainting model.
            images: in [-1, 1].
            mask: 1 is to be painted.
            context: text embedding of the prompts.
            empty_context: text embedding of the empty prompt.
            noise: standard normal, where sampling starts.
            rng: key of the fresh noise of stochastic samplers.
            residuals: an adapter's, as `UNet.__call__` takes them; only the branch with the prompt has them, so that
                guidance strengthens what the adapter asks for as it does the prompt.
            control: a ControlNet's residuals, which both branches have.
            condition: its pictures, one an image.
            word_bias: on the words of the prompts, as `UNet.__call__` and `control` take it; the empty prompt has none.
            steering: what else leads the sampler.
        """
        small_mask, hidden = latent_mask(mask, model.vae.config.factor), model.encode(hide(images, mask))
        shared = {"mask": small_mask, "hidden": hidden, "condition": condition}
        prompted = {"context": context, "residuals": residuals or {}, "word_bias": word_bias}
        empty = jax.tree.map(jnp.zeros_like, prompted) | {"context": empty_context}

        def predict(z, timesteps, inputs):
            latents = inpainting_input(z, inputs["mask"], inputs["hidden"])
            context, added, bias = inputs["context"], inputs["residuals"], inputs["word_bias"]
            if control is not None:
                added = control(z, timesteps, context, inputs["condition"], bias)
            return model.predict(latents, timesteps, context, **added, word_bias=bias)

        denoise = guided_denoise(predict, model.schedule, shared | prompted, shared | empty, self.guidance_scale)
        hold = hold_outside(hidden, widen(small_mask)) if self.hold else None
        skip = round((1 - self.strength) * self.sampler.steps)
        if skip:
            noise = noised(model.encode(images), float(self.sampler.trajectory().sigmas[skip]), noise)
        extras = steered(steering, model.decode, context, noise)
        latents, _ = sample(self.sampler, denoise, noise, rng, hold=hold, skip=skip, **extras)
        return model.decode(latents)
