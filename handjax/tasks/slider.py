"""MGHanD's textual guidance: a low-rank adapter learns the way from bad hands to good ones, as prompts tell it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from handjax.adapters.lora import LoRA, Path, initial_factors, lora_applied, lora_of, to_factors
from handjax.diffusion.inpainting import Predict, text_to_image
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.diffusion.samplers import DDIM, Latents
from handjax.diffusion.sampling import Denoise, guided_denoise, sample
from handjax.diffusion.schedules import NoiseLevel
from handjax.diffusion.unet import UNet
from handjax.errors import ConfigError, WeightsError
from handjax.preview import from_model_range, sheet
from handjax.training.task import Batch, Terms, total
from handjax.weights.lora import write_lora

PREVIEW_EXAMPLES, PREVIEW_STEPS, PREVIEW_WEIGHTS = 4, 20, (-1.0, 0.0, 1.0)
RESNET_CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut")
DTYPES = ("float32", "bfloat16")
FILES = {"peft": "pytorch_lora_weights.safetensors", "kohya": "kohya.safetensors"}
"""What `launch.export --to lora` writes, by naming; the first is the name that diffusers looks for."""


@dataclasses.dataclass(frozen=True)
class SliderTask:
    """With the adapter, the network at the neutral prompt predicts what leads to the positive one.

    Args:
        model: frozen.
        image_size: side of the pictures in pixels.
        rank: of the updates.
        alpha: the updates' scale is alpha / rank.
        strength: η.
        steps: of the sampler, of which the first few make the latents to learn from.
        guidance_scale: of that sampler.

    Source:
        Gandikota et al. 2024 (Concept Sliders), section 4.1; DECISIONS C4.
    """

    model: StableDiffusion
    image_size: int
    rank: int
    alpha: float
    strength: float
    steps: int
    guidance_scale: float

    @property
    def loss_weights(self):
        return {"slider": 1.0}

    @property
    def exports(self):
        return {"lora": self._save_lora}

    def batch_spec(self):
        ids = jax.ShapeDtypeStruct((self.model.tokenizer.length,), jnp.int32)
        return {"neutral_ids": ids, "positive_ids": ids, "negative_ids": ids}

    def init(self, rng):
        return initial_factors(rng, self.model.unet_params, is_adapted, self.rank), {}

    def frozen(self):
        return self.model

    def loss(self, trainable, frozen, state, batch, rng):
        terms = self._terms(trainable, frozen, batch, rng)
        return {"slider": terms["slider"]}, state, {"agreement": terms["agreement"]}

    def evaluate(self, trainable, frozen, state, batch, rng):
        """Measures the loss, and the cosine of the adapter's change and the change that is wanted."""
        return self._terms(trainable, frozen, batch, rng)

    def preview(self, trainable, frozen, state, batch, rng):
        """Pictures with the adapter turned round, without it and with it, from the same noise."""
        ids, rng = jax.tree.map(lambda x: x[:PREVIEW_EXAMPLES], (batch["neutral_ids"], rng))
        noise, lora = frozen.initial_noise(rng, self.image_size), self.adapter(trainable)
        denoise, sampler = self._denoise(frozen, ids), DDIM(frozen.schedule, PREVIEW_STEPS)
        columns = []
        for weight in PREVIEW_WEIGHTS:
            weighted = {path: layer._replace(scale=weight * layer.scale) for path, layer in lora.items()}
            with lora_applied(weighted, network=UNet):
                latents, _ = sample(sampler, denoise, noise, rng[0])
            columns.append(from_model_range(frozen.decode(latents)))
        return {"slider": sheet(*columns)}

    def adapter(self, trainable: Any) -> LoRA:
        """The trained adapter at weight 1."""
        return lora_of(trainable, self.alpha)

    def _save_lora(self, params, state, folder, dtype):
        factors = to_factors(self.adapter(params))
        cast = {
            name: one._replace(down=one.down.astype(dtype), up=one.up.astype(dtype)) for name, one in factors.items()
        }
        for naming, file in FILES.items():
            write_lora(folder / file, {"unet": cast}, naming)

    def _terms(self, trainable, frozen: StableDiffusion, batch: Batch, rng: Key[Array, " batch"]) -> Terms:
        lora = self.adapter(trainable)
        predict, contexts = self._predict(frozen), self._contexts(frozen, batch)
        z, timesteps = self._half_done(frozen, jax.lax.stop_gradient(lora), jnp.asarray(batch["neutral_ids"]), rng)
        plain = predict(jnp.tile(z, (3, 1, 1, 1)), jnp.tile(timesteps, 3), jnp.concatenate(contexts))
        neutral, positive, negative = jnp.split(plain, 3)
        wanted = self.strength * (positive - negative)
        with lora_applied(lora, network=UNet):
            change = predict(z, timesteps, contexts[0]) - neutral
        error = jnp.square(change - wanted).mean(axis=(1, 2, 3))
        return {"slider": total(error), "agreement": total(_cosine(change, wanted))}

    def _half_done(
        self, model: StableDiffusion, lora: LoRA, ids: Int[Array, "batch words"], rng: Key[Array, " batch"]
    ) -> tuple[Latents, Float[Array, " batch"]]:
        """Latents that the adapted model has on its way to a picture, and their timesteps; each its own number of
        steps."""
        noise_keys, place_keys = jax.vmap(jax.random.split, out_axes=1)(rng)
        places = jax.vmap(lambda key: jax.random.randint(key, (), 1, self.steps))(place_keys)
        sampler, denoise = DDIM(model.schedule, self.steps), self._denoise(model, ids)
        timesteps, sigmas, next_sigmas = (jnp.asarray(values, jnp.float32) for values in sampler.trajectory())

        def step(number, z):
            level = NoiseLevel(timesteps[number], sigmas[number])
            with lora_applied(lora, network=UNet):
                x0 = denoise(z, level)
            _, after = sampler.step((), z, level, next_sigmas[number], x0, jnp.zeros_like(z))
            return jnp.where((number < places)[:, None, None, None], after, z)

        noise = model.initial_noise(noise_keys, self.image_size)
        return jax.lax.fori_loop(0, places.max(), step, noise), timesteps[places]

    def _denoise(self, model: StableDiffusion, ids: Int[Array, "batch words"]) -> Denoise:
        empty = jnp.broadcast_to(jnp.asarray(self.model.tokenizer([""])), ids.shape)
        contexts = (model.embed_ids(ids), model.embed_ids(empty))
        return guided_denoise(self._predict(model), model.schedule, *contexts, self.guidance_scale)

    def _predict(self, model: StableDiffusion) -> Predict:
        return text_to_image(model, (self.image_size, self.image_size))

    def _contexts(self, model: StableDiffusion, batch: Batch) -> tuple[Float[Array, "batch words embed"], ...]:
        return tuple(model.embed_ids(jnp.asarray(batch[f"{name}_ids"])) for name in ("neutral", "positive", "negative"))


def is_adapted(path: Path) -> bool:
    """Whether a layer of the UNet has an update: self-attention, convolutions of residual blocks and of resampling.

    Layers that read the prompt or the timestep are left as they are, so that what the prompt asks for stays.
    """
    attends = len(path) > 1 and path[-2] == "attn1"
    resamples = any(part in ("downsamplers_0", "upsamplers_0") for part in path)
    convolves = any(part.startswith("resnets_") for part in path) and path[-1] in RESNET_CONVOLUTIONS
    return attends or resamples or convolves


def _cosine(one: Latents, other: Latents) -> Float[Array, " batch"]:
    """Cosine of two directions an example; 0 where one of them is nothing."""
    axes = (1, 2, 3)
    lengths = jnp.sqrt(jnp.square(one).sum(axes) * jnp.square(other).sum(axes))
    return jnp.where(lengths > 0, (one * other).sum(axes) / jnp.where(lengths > 0, lengths, 1), 0)


def make(config: Any) -> SliderTask:
    """Makes the task of a recipe with `model` (what `load_stable_diffusion` takes), `dtype`, `lora`, `slider` and
    `data.image_size`.

    Raises:
        WeightsError: the model is not there, or damaged.
        ConfigError: a value that does not fit.
    """
    if config.dtype not in DTYPES:
        raise ConfigError(f"dtype={config.dtype!r} is unknown; use one of {DTYPES}")
    for name, value, least in (("lora.rank", config.lora.rank, 1), ("slider.steps", config.slider.steps, 2)):
        if value < least:
            raise ConfigError(f"{name}={value} is too small; it must be at least {least}")
    try:
        model = load_stable_diffusion(config.model, jnp.dtype(config.dtype))
    except WeightsError as error:
        raise WeightsError(f"{error}; `--config mghand_lora.py:tiny` needs no download") from error
    unit = model.vae.config.factor * 2 ** (len(model.unet.config.block_out_channels) - 1)
    if config.data.image_size % unit:
        raise ConfigError(f"data.image_size={config.data.image_size} does not fit this model; use a multiple of {unit}")
    return SliderTask(
        model=jax.tree.map(np.asarray, model),
        image_size=config.data.image_size,
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        strength=config.slider.strength,
        steps=config.slider.steps,
        guidance_scale=config.slider.guidance_scale,
    )
