"""SGMHand: the structure-guided modulation learns on a frozen inpainting model."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from handjax.adapters.files import PYTORCH_MODULE, load_sgm, save_sgm
from handjax.adapters.losses import keypoint_aware_loss, keypoint_mask, masked_mse
from handjax.adapters.sgm import SGM, SGMConfig
from handjax.diffusion.inpainting import Painter, add_training_noise, drop_captions, hide
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.diffusion.samplers import DDIM
from handjax.errors import ConfigError, WeightsError
from handjax.files import atomic_write
from handjax.preview import from_model_range, heat_map, sheet
from handjax.tasks.pictures import hand_spec, image_of, latents_of, picture_spec
from handjax.training.task import Terms

PREVIEW_EXAMPLES, PREVIEW_STEPS, PREVIEW_GUIDANCE = 4, 20, 2.0
REDUCTIONS, DTYPES = ("mean", "sum"), ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class SGMTask:
    """Masked noise prediction plus the keypoint-aware term; only the module is trainable.

    Args:
        model: the inpainting model with its weights.
        sgm: the module.
        image_size: side of the training pictures in pixels.
        ka_weight: lambda_attn.
        ka_reduction: over the pixels of the attention map (DECISIONS A4).
        caption_dropout: share of examples that train without their caption.
        encoded: whether batches have latents in place of pictures (`launch.encode`).
        start: the module's parameters at the beginning; None draws them.

    Source:
        SGMHand Eq. 10-12, DECISIONS A.
    """

    model: StableDiffusion
    sgm: SGM
    image_size: int
    ka_weight: float
    ka_reduction: Literal["mean", "sum"]
    caption_dropout: float
    encoded: bool = False
    start: Any = None

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Eq. 12."""
        return {"mmse": 1.0, "ka": self.ka_weight}

    @property
    def exports(self):
        return {"torch": self._save_torch}

    def batch_spec(self):
        return picture_spec(self.model, self.image_size, self.encoded) | hand_spec(self.model, self.image_size)

    def init(self, rng):
        if self.start is not None:
            return jax.tree.map(jnp.asarray, self.start), {}
        depth = jnp.zeros((1, self.image_size, self.image_size, 1))
        skeleton = jnp.zeros((1, self.image_size, self.image_size, 3))
        return jax.jit(self.sgm.init)(rng, depth, skeleton)["params"], {}

    def frozen(self):
        return self.model

    def loss(self, trainable, frozen, state, batch, rng):
        noise_rng, drop_rng = jax.vmap(jax.random.split, out_axes=1)(rng)
        ids = drop_captions(batch["input_ids"], self._empty_ids(), self.caption_dropout, drop_rng)
        return self._terms(trainable, frozen, batch, ids, noise_rng), state, {}

    def evaluate(self, trainable, frozen, state, batch, rng):
        return self._terms(trainable, frozen, batch, batch["input_ids"], rng)

    def preview(self, trainable, frozen, state, batch, rng):
        batch, rng = jax.tree.map(lambda x: x[:PREVIEW_EXAMPLES], (batch, rng))
        image, mask = image_of(frozen, batch), batch["mask"]
        output = self._modulation(trainable, batch)
        painted = Painter(DDIM(frozen.schedule, PREVIEW_STEPS), PREVIEW_GUIDANCE)(
            frozen,
            image,
            mask,
            context=frozen.embed_ids(batch["input_ids"]),
            empty_context=frozen.embed_ids(jnp.broadcast_to(self._empty_ids(), batch["input_ids"].shape)),
            noise=frozen.initial_noise(rng, self.image_size),
            rng=rng[0],
            residuals=output.residuals,
        )
        attention = heat_map(output.attention_map, image.shape[1:3])
        hidden = from_model_range(hide(image, mask))
        columns = (from_model_range(image), hidden, batch["depth"], batch["skeleton"], attention)
        return {"repair": sheet(*columns, from_model_range(painted))}

    def _save_torch(self, params, state, folder, dtype):
        save_sgm(self.sgm, params, folder, dtype)
        with atomic_write(folder / PYTORCH_MODULE.name) as temporary:
            shutil.copyfile(PYTORCH_MODULE, temporary)

    def _terms(self, trainable, frozen: StableDiffusion, batch, ids, rng) -> Terms:
        noisy = add_training_noise(frozen, *latents_of(frozen, batch), batch["mask"], rng)
        output = self._modulation(trainable, batch)
        context = frozen.embed_ids(ids)
        predicted = frozen.predict(noisy.sample, noisy.timesteps, context, **output.residuals)
        attention = output.attention_map
        pose_mask = keypoint_mask(batch["keypoints"], batch["box_side"], self.image_size, attention.shape[-1])
        return {
            "mmse": masked_mse(predicted, noisy.target, noisy.mask),
            "ka": keypoint_aware_loss(attention, pose_mask, batch["keypoints_valid"], self.ka_reduction),
        }

    def _modulation(self, trainable, batch):
        return self.sgm.apply({"params": trainable}, batch["depth"], batch["skeleton"])

    def _empty_ids(self):
        return jnp.asarray(self.model.tokenizer([""])[0])


def make(config: Any) -> SGMTask:
    """Makes the task of a recipe with `model` (what `load_stable_diffusion` takes), `dtype` (of the frozen
    weights and of all computation), `sgm` (fields of `SGMConfig`), `start` (the folder of an exported module to go on
    with; empty: none), `loss`, `caption_dropout`, `data.image_size` and `data.encoded`.

    Raises:
        WeightsError: the model is not there, or damaged.
        ConfigError: a value that does not fit.
    """
    for name, value, known in (
        ("loss.ka_reduction", config.loss.ka_reduction, REDUCTIONS),
        ("dtype", config.dtype, DTYPES),
    ):
        if value not in known:
            raise ConfigError(f"{name}={value!r} is unknown; use one of {known}")
    dtype = jnp.dtype(config.dtype)
    try:
        model = load_stable_diffusion(config.model, dtype)
    except WeightsError as error:
        raise WeightsError(f"{error}; `--config sgm.py:tiny` needs no download") from error
    unet = model.unet.config
    sgm = SGMConfig(
        unet_channels=unet.block_out_channels, layers_per_block=unet.layers_per_block, **config.sgm.to_dict()
    )
    _check_fit(config, model, sgm)
    return SGMTask(
        model=model,
        sgm=SGM(sgm, dtype),
        image_size=config.data.image_size,
        ka_weight=config.loss.ka_weight,
        ka_reduction=config.loss.ka_reduction,
        caption_dropout=config.caption_dropout,
        encoded=config.data.encoded,
        start=_load_start(Path(config.start), sgm) if config.start else None,
    )


def _load_start(folder: Path, wanted: SGMConfig) -> Any:
    module, params = load_sgm(folder)
    if module.config != wanted:
        raise ConfigError(f"start={folder}: {module.config}, but the recipe has {wanted}; give the recipe its settings")
    return params


def _check_fit(config: Any, model: StableDiffusion, sgm: SGMConfig) -> None:
    unet, vae = model.unet.config, model.vae.config
    if unet.in_channels != 2 * vae.latent_channels + 1:
        raise WeightsError(f"{config.model}: no inpainting model, its UNet takes {unet.in_channels} channels; give one")
    stride = 2 ** (len(sgm.stem_channels) - 1)
    if stride != vae.factor:
        raise ConfigError(
            f"sgm.stem_channels={sgm.stem_channels} has stride {stride}, the autoencoder {vae.factor}; "
            "each stage after the first halves the size"
        )
    unit = vae.factor * 2 ** (len(unet.block_out_channels) - 1)
    if config.data.image_size % unit:
        raise ConfigError(f"data.image_size={config.data.image_size} does not fit this model; use a multiple of {unit}")
