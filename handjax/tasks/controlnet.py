"""ControlNet: a copy of a frozen UNet's encoder learns to follow pictures of hands."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.adapters.controlnet import (
    ControlNet,
    ControlNetConfig,
    Residuals,
    copy_encoder,
    initial_controlnet,
    sum_residuals,
)
from handjax.adapters.files import load_controlnet, save_controlnet
from handjax.diffusion.inpainting import Painter, add_noise, add_training_noise, drop_captions, hide
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.diffusion.samplers import DDIM
from handjax.diffusion.sampling import guided_denoise, sample
from handjax.errors import ConfigError, WeightsError
from handjax.preview import from_model_range, sheet
from handjax.tasks.pictures import image_of, latents_of, picture_spec
from handjax.training.task import Terms

PREVIEW_EXAMPLES, PREVIEW_STEPS, PREVIEW_GUIDANCE = 4, 20, 2.0
CONDITIONS = {"depth": 1, "skeleton": 3, "mesh": 1}
"""Channels of the pictures that records give."""
DTYPES = ("float32", "bfloat16")
Pictures = Mapping[str, Float[Array, "batch height width _"]]


@dataclasses.dataclass(frozen=True)
class ControlNetTask:
    """Noise prediction with one ControlNet for each condition, whose residuals are added up; only they are trainable.

    A network with a `hand_alpha` biases all cross-attention to the words on hands, where the caption is not dropped.

    Args:
        model: text-to-image or inpainting, with its weights.
        control: the network of each condition.
        conditions: names of `CONDITIONS`.
        image_size: side of the training pictures in pixels.
        caption_dropout: share of examples that train without their caption, so that the picture alone must tell.
        encoded: whether batches have latents in place of pictures (`launch.encode`).
        start: parameters that every network begins with; None is a copy of the UNet's encoder.

    Source:
        Zhang et al. 2023, Eq. 5 and section 3.4; SesaHand, the loss and the third equation (DECISIONS D4).
    """

    model: StableDiffusion
    control: ControlNet
    conditions: tuple[str, ...]
    image_size: int
    caption_dropout: float
    encoded: bool = False
    start: Any = None

    @property
    def loss_weights(self) -> Mapping[str, float]:
        return {"noise_mse": 1.0}

    @property
    def exports(self):
        return {"diffusers": self._save}

    def batch_spec(self):
        fields = picture_spec(self.model, self.image_size, self.encoded)
        if not self._inpaints:
            fields = {name: fields[name] for name in fields if name in ("image", "latents")}
        pictures = {
            name: jax.ShapeDtypeStruct((self.image_size, self.image_size, CONDITIONS[name]), jnp.float32)
            for name in self.conditions
        }
        words = jax.ShapeDtypeStruct((self.model.tokenizer.length,), jnp.int32)
        found = {"hand_tokens": jax.ShapeDtypeStruct(words.shape, jnp.float32)} if self._alpha else {}
        return fields | pictures | {"input_ids": words} | found

    def init(self, rng):
        if self.start is not None:
            return {name: jax.tree.map(jnp.asarray, self.start) for name in self.conditions}, {}
        encoder = jax.tree.map(_as_float32, self.model.unet_params)
        draw = jax.jit(lambda rng: initial_controlnet(self.control, rng))
        keys = jax.random.split(rng, len(self.conditions))
        return {name: copy_encoder(encoder, draw(key)) for name, key in zip(self.conditions, keys, strict=True)}, {}

    def frozen(self):
        return self.model

    def loss(self, trainable, frozen, state, batch, rng):
        noise_rng, drop_rng = jax.vmap(jax.random.split, out_axes=1)(rng)
        ids = drop_captions(batch["input_ids"], self._empty_ids(), self.caption_dropout, drop_rng)
        examples = (*self._noised(frozen, batch, noise_rng), frozen.embed_ids(ids), self._word_bias(batch, ids))
        error = self._error(trainable, frozen, examples, self._pictures(batch))
        return {"noise_mse": error}, state, self._without_hands(batch)

    def evaluate(self, trainable, frozen, state, batch, rng) -> Terms:
        """Also the gain: how much larger the error is when the conditions are blank.

        It is near zero until the networks begin to follow their pictures, which happens suddenly.

        Source:
            Zhang et al. 2023, section 3.4, "sudden convergence phenomenon".
        """
        ids = batch["input_ids"]
        examples = (*self._noised(frozen, batch, rng), frozen.embed_ids(ids), self._word_bias(batch, ids))
        pictures = self._pictures(batch)
        error, count = self._error(trainable, frozen, examples, pictures)
        blank, _ = self._error(trainable, frozen, examples, jax.tree.map(jnp.zeros_like, pictures))
        return {"noise_mse": (error, count), "gain": (blank - error, count)} | self._without_hands(batch)

    def preview(self, trainable, frozen, state, batch, rng):
        batch, rng = jax.tree.map(lambda x: x[:PREVIEW_EXAMPLES], (batch, rng))
        image, pictures = image_of(frozen, batch), self._pictures(batch)
        context = frozen.embed_ids(batch["input_ids"])
        empty = frozen.embed_ids(jnp.broadcast_to(self._empty_ids(), batch["input_ids"].shape))
        noise, sampler = frozen.initial_noise(rng, self.image_size), DDIM(frozen.schedule, PREVIEW_STEPS)
        control, bias = partial(self.residuals, trainable), self._word_bias(batch, batch["input_ids"])
        seen = (image, *((hide(image, batch["mask"]),) if self._inpaints else ()))
        columns = [*map(from_model_range, seen), *(batch[name] for name in self.conditions)]
        if self._inpaints:
            paint = Painter(sampler, PREVIEW_GUIDANCE)
            given = (image, batch["mask"], context, empty, noise, rng[0])
            painted = paint(frozen, *given, control=control, condition=pictures, word_bias=bias)
        else:
            denoise = guided_denoise(
                lambda z, t, inputs: frozen.predict(z, t, inputs[0], **control(z, t, *inputs), word_bias=inputs[2]),
                frozen.schedule,
                (context, pictures, bias),
                (empty, pictures, jax.tree.map(jnp.zeros_like, bias)),
                PREVIEW_GUIDANCE,
            )
            painted = frozen.decode(sample(sampler, denoise, noise, rng[0])[0])
        return {"controlled": sheet(*columns, from_model_range(painted))}

    def residuals(
        self,
        trainable: Any,
        noisy: Float[Array, "batch h w latent"],
        timesteps: Float[Array, " batch"],
        context: Float[Array, "batch words embed"],
        pictures: Pictures,
        word_bias: Float[Array, "batch words"] | None = None,
    ) -> Residuals:
        """What all networks together add to the UNet; arguments as `ControlNet.__call__`, pictures by condition."""
        added: list[Any] = [
            self.control.apply({"params": trainable[name]}, noisy, timesteps, context, picture, word_bias=word_bias)
            for name, picture in pictures.items()
        ]
        return sum_residuals(added)

    @property
    def _inpaints(self) -> bool:
        return self.model.unet.config.in_channels > self.model.vae.config.latent_channels

    def _pictures(self, batch) -> Pictures:
        """The conditions as RGB."""
        return {
            name: jnp.broadcast_to(picture, (*picture.shape[:-1], 3))
            for name, picture in ((name, jnp.asarray(batch[name])) for name in self.conditions)
        }

    def _noised(self, frozen: StableDiffusion, batch, rng):
        """The UNet's input, timesteps, and what it should predict."""
        if self._inpaints:
            noisy = add_training_noise(frozen, *latents_of(frozen, batch), batch["mask"], rng)
            return noisy.sample, noisy.timesteps, noisy.target
        latents = batch["latents"] if "latents" in batch else frozen.encode(jnp.asarray(batch["image"]))
        return add_noise(frozen.schedule, jnp.asarray(latents), rng)

    def _error(self, trainable, frozen: StableDiffusion, examples, pictures: Pictures):
        """Squared error summed over the examples, mean over the latents of each, and their number."""
        inputs, timesteps, target, context, bias = examples
        noisy = inputs[..., : target.shape[-1]]
        added = self.residuals(trainable, noisy, timesteps, context, pictures, bias)
        predicted = frozen.predict(inputs, timesteps, context, **added, word_bias=bias)
        squared = jnp.square(predicted - target).mean(axis=(1, 2, 3))
        return squared.sum(), jnp.float32(len(squared))

    @property
    def _alpha(self) -> float:
        return self.control.config.hand_alpha

    def _word_bias(self, batch, ids) -> Float[Array, "batch words"] | None:
        """The bias of each caption; none where it was dropped."""
        if not self._alpha:
            return None
        kept = (ids != self._empty_ids()).any(axis=1, keepdims=True)
        return self._alpha * jnp.asarray(batch["hand_tokens"]) * kept

    def _without_hands(self, batch) -> Terms:
        """The share of captions without a word on hands, which get no bias."""
        if not self._alpha:
            return {}
        without = ~jnp.asarray(batch["hand_tokens"]).any(axis=1)
        return {"captions_without_hands": (without.sum().astype(jnp.float32), jnp.float32(len(without)))}

    def _save(self, params, state, folder, dtype):
        """One network in the folder itself, several in a folder each, named after their conditions."""
        for name in self.conditions:
            control = ControlNet(dataclasses.replace(self.control.config, condition=name))
            save_controlnet(control, params[name], folder / name if len(params) > 1 else folder, dtype)

    def _empty_ids(self):
        return jnp.asarray(self.model.tokenizer([""])[0])


def _as_float32(leaf: Any) -> Float[Array, "..."]:
    """A weight; zeros for one of which the model has only the shape (`launch.compile`)."""
    shape_alone = isinstance(leaf, jax.ShapeDtypeStruct)
    return jnp.zeros(leaf.shape) if shape_alone else jnp.asarray(leaf, jnp.float32)


def make(config: Any) -> ControlNetTask:
    """Makes the task of a recipe with `model` (what `load_stable_diffusion` takes), `dtype` (of the frozen weights and
    of all computation), `conditions`, `stem_channels` (of the stages that read a picture), `structural_fusion` and
    `hand_alpha` (see `ControlNetConfig`), `start` (a ControlNet to go on with, as `load_controlnet` takes it; empty:
    none), `caption_dropout`, `data.image_size` and `data.encoded`.

    Raises:
        WeightsError: the model is not there, or damaged.
        ConfigError: a value that does not fit.
    """
    conditions = tuple(config.conditions)
    if not conditions or not set(conditions) <= set(CONDITIONS) or len(set(conditions)) < len(conditions):
        raise ConfigError(f"conditions={conditions} does not fit; name one or several of {', '.join(CONDITIONS)}")
    if config.dtype not in DTYPES:
        raise ConfigError(f"dtype={config.dtype!r} is unknown; use one of {DTYPES}")
    dtype = jnp.dtype(config.dtype)
    try:
        model = load_stable_diffusion(config.model, dtype)
    except WeightsError as error:
        raise WeightsError(f"{error}; the recipe's variant `:tiny` needs no download") from error
    stem, factor = tuple(config.stem_channels), model.vae.config.factor
    if 2 ** (len(stem) - 1) != factor:
        raise ConfigError(f"stem_channels={stem} has stride {2 ** (len(stem) - 1)}, the autoencoder {factor}")
    unit = factor * 2 ** (len(model.unet.config.block_out_channels) - 1)
    if config.data.image_size % unit:
        raise ConfigError(f"data.image_size={config.data.image_size} does not fit this model; use a multiple of {unit}")
    unet = dataclasses.replace(model.unet.config, in_channels=model.vae.config.latent_channels)
    control = ControlNet(
        ControlNetConfig(unet, stem, structural_fusion=config.structural_fusion, hand_alpha=config.hand_alpha), dtype
    )
    start = _load_start(config.start, control, model) if config.start else None
    return ControlNetTask(
        model, control, conditions, config.data.image_size, config.caption_dropout, config.data.encoded, start
    )


def _load_start(path: str, control: ControlNet, model: StableDiffusion) -> Any:
    network, params = load_controlnet(path)
    stems = (network.config.conditioning_embedding_out_channels, control.config.conditioning_embedding_out_channels)
    if stems[0] != stems[1]:
        raise ConfigError(f"{path}: its stem has {stems[0]} channels; write stem_channels={stems[0]}")
    if not network.config.fits(model.unet.config, model.vae.config):
        raise WeightsError(f"{path}: a ControlNet of other sizes than this model's; give one that was trained on it")
    return params
