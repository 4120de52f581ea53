"""A latent diffusion model that paints what a mask hides: UNet and text encoder together, on a frozen autoencoder."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handjax.diffusion.configs import TextConfig, UNetConfig
from handjax.diffusion.inpainting import Painter, add_training_noise, drop_captions, hide
from handjax.diffusion.model import (
    StableDiffusion,
    find_model,
    load_stable_diffusion,
    load_vae,
    save_stable_diffusion,
)
from handjax.diffusion.networks import initial_params
from handjax.diffusion.samplers import DDIM
from handjax.diffusion.schedules import NoiseSchedule
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.tokenizer import Tokenizer
from handjax.diffusion.unet import UNet
from handjax.errors import ConfigError
from handjax.preview import from_model_range, sheet
from handjax.tasks.pictures import image_of, latents_of, picture_spec

PREVIEW_EXAMPLES, PREVIEW_STEPS, PREVIEW_GUIDANCE = 4, 20, 2.0


@dataclasses.dataclass(frozen=True)
class InpaintingTask:
    """Noise prediction on all latents, by an inpainting model from scratch or one that goes on.

    Args:
        model: the networks; only its VAE has weights.
        image_size: side of the training pictures in pixels.
        caption_dropout: share of examples that train without their caption.
        encoded: whether batches have latents in place of pictures (`launch.encode`).
        start: parameters of "unet" and "text_encoder" at the beginning; None draws them.

    Source:
        Rombach et al. 2022, Eq. 2; DECISIONS B1.
    """

    model: StableDiffusion
    image_size: int
    caption_dropout: float
    encoded: bool = False
    start: Any = None

    @property
    def loss_weights(self):
        return {"noise_mse": 1.0}

    @property
    def exports(self):
        return {"diffusers": self._save_model}

    def batch_spec(self):
        words = self.model.tokenizer.length
        pictures = picture_spec(self.model, self.image_size, self.encoded)
        return pictures | {"input_ids": jax.ShapeDtypeStruct((words,), jnp.int32)}

    def init(self, rng):
        if self.start is not None:
            return jax.tree.map(jnp.asarray, self.start), {}
        draw = jax.jit(initial_params, static_argnums=0)
        unet_rng, text_rng = jax.random.split(rng)
        return {"unet": draw(self.model.unet, unet_rng), "text_encoder": draw(self.model.text_encoder, text_rng)}, {}

    def frozen(self):
        return self.model

    def loss(self, trainable, frozen, state, batch, rng):
        noise_rng, drop_rng = jax.vmap(jax.random.split, out_axes=1)(rng)
        ids = drop_captions(batch["input_ids"], self._empty_ids(), self.caption_dropout, drop_rng)
        return self._noise_loss(self.assemble(trainable, frozen), batch, ids, noise_rng), state, {}

    def evaluate(self, trainable, frozen, state, batch, rng):
        return self._noise_loss(self.assemble(trainable, frozen), batch, batch["input_ids"], rng)

    def preview(self, trainable, frozen, state, batch, rng):
        model = self.assemble(trainable, frozen)
        batch, rng = jax.tree.map(lambda x: x[:PREVIEW_EXAMPLES], (batch, rng))
        image, mask = image_of(model, batch), batch["mask"]
        noise = model.initial_noise(rng, self.image_size)
        context = model.embed_ids(batch["input_ids"])
        empty = model.embed_ids(jnp.broadcast_to(self._empty_ids(), batch["input_ids"].shape))
        paint = Painter(DDIM(model.schedule, PREVIEW_STEPS), PREVIEW_GUIDANCE)
        painted = paint(model, image, mask, context, empty, noise, rng[0])
        generated = paint(model, image, jnp.ones_like(mask), context, empty, noise, rng[0])
        columns = (image, hide(image, mask), painted, generated)
        return {"inpainted": sheet(*map(from_model_range, columns))}

    def assemble(self, trainable, frozen: StableDiffusion) -> StableDiffusion:
        """Returns the whole model with the trained weights in it."""
        return dataclasses.replace(frozen, unet_params=trainable["unet"], text_params=trainable["text_encoder"])

    def _save_model(self, params, state, folder, dtype):
        save_stable_diffusion(self.assemble(params, self.frozen()), folder, dtype)

    def _noise_loss(self, model, batch, ids, rng):
        noisy = add_training_noise(model, *latents_of(model, batch), batch["mask"], rng)
        predicted = model.predict(noisy.sample, noisy.timesteps, model.embed_ids(ids))
        squared = jnp.square(predicted - noisy.target).mean(axis=(1, 2, 3))
        return {"noise_mse": (squared.sum(), jnp.float32(len(squared)))}

    def _empty_ids(self):
        return jnp.asarray(self.model.tokenizer([""])[0])


def make(config: Any) -> InpaintingTask:
    """Makes the task of a recipe with `vae` (a folder with a trained one), `unet`, `text_encoder` (fields of their
    configs), `start` (a model of these sizes to go on with; empty: none), `data.tokenizer`, `data.image_size`,
    `data.encoded` and `caption_dropout`.

    Raises:
        WeightsError: a model is not there, or damaged.
        ConfigError: the model to go on with has other sizes.
    """
    vae, vae_params = load_vae(config.vae)
    text = TextConfig(**config.text_encoder.to_dict())
    latent_channels = vae.config.latent_channels
    unet = UNetConfig(
        **config.unet.to_dict(),
        in_channels=2 * latent_channels + 1,
        out_channels=latent_channels,
        cross_attention_dim=text.hidden_size,
        sample_size=config.data.image_size // vae.config.factor,
    )
    model = StableDiffusion(
        unet_params=None,
        vae_params=jax.tree.map(np.asarray, vae_params),
        text_params=None,
        unet=UNet(unet),
        vae=vae,
        text_encoder=TextEncoder(text),
        schedule=NoiseSchedule(),
        tokenizer=Tokenizer(str(find_model(config.data.tokenizer)), text.max_position_embeddings),
    )
    start = _load_start(config.start, model) if config.start else None
    return InpaintingTask(model, config.data.image_size, config.caption_dropout, config.data.encoded, start)


def _load_start(name: str, model: StableDiffusion) -> Any:
    read = load_stable_diffusion(name)
    for part, given, wanted in (
        ("unet", read.unet.config, model.unet.config),
        ("text_encoder", read.text_encoder.config, model.text_encoder.config),
    ):
        if given != wanted:
            raise ConfigError(f"start={name}: its {part} has other sizes than the recipe's; write {given} there")
    return {"unet": read.unet_params, "text_encoder": read.text_params}
