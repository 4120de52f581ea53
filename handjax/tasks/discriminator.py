"""MGHanD's discriminator learns to tell crops of real hands from generated ones."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from handjax.diffusion.model import load_stable_diffusion
from handjax.diffusion.text_encoder import TextEncoder
from handjax.errors import WeightsError
from handjax.guidance.diff_augment import diff_augment
from handjax.guidance.discriminator import (
    DiscriminatorConfig,
    Logits,
    head_logits,
    hinge,
    initial_heads,
    level_features,
    load_backbone,
    mean_logit,
    save_discriminator,
)
from handjax.guidance.spectral import initial_vectors, spectral_normalised
from handjax.preview import from_model_range, sheet
from handjax.training.task import Batch, Terms, total

SIDES = ("real", "generated")
HEADS = "heads_"


@dataclasses.dataclass(frozen=True)
class DiscriminatorTask:
    """Hinge loss on the logits of all levels; the features are frozen, the crops augmented.

    The model state is the vectors of the spectral norm.

    Args:
        config: sizes.
        backbone_params: frozen.
        text_encoder: of the model that is to be guided.
        text_params: frozen.
        words: tokens of a caption.

    Source:
        Sauer et al. 2023 (StyleGAN-T), section 3.2; MGHanD's visual guidance; DECISIONS C5.
    """

    config: DiscriminatorConfig
    backbone_params: Any
    text_encoder: TextEncoder
    text_params: Any
    words: int

    @property
    def loss_weights(self):
        return {f"hinge_{side}": 1.0 for side in SIDES}

    @property
    def exports(self):
        return {"handjax": self._save}

    def batch_spec(self):
        size = self.config.image_size
        image = jax.ShapeDtypeStruct((size, size, 3), jnp.float32)
        ids = jax.ShapeDtypeStruct((self.words,), jnp.int32)
        return {f"{side}_image": image for side in SIDES} | {f"{side}_ids": ids for side in SIDES}

    def init(self, rng):
        params_rng, vectors_rng = jax.random.split(rng)
        params = initial_heads(params_rng, self.config)
        heads = {name: value for name, value in params.items() if name.startswith(HEADS)}
        return params, {"spectral": initial_vectors(vectors_rng, heads)}

    def frozen(self):
        return {"backbone": self.backbone_params, "text_encoder": self.text_params}

    def loss(self, trainable, frozen, state, batch, rng):
        normalised, vectors = spectral_normalised(trainable, state["spectral"])
        keys = dict(zip(SIDES, jax.vmap(jax.random.split, out_axes=1)(rng), strict=True))
        logits = {side: self._logits(normalised, frozen, batch, side, keys[side]) for side in SIDES}
        return _hinges(logits), {"spectral": vectors}, _right(logits)

    def evaluate(self, trainable, frozen, state, batch, rng):
        """Measures the losses, and how many crops are told right, without augmentation."""
        normalised, _ = spectral_normalised(trainable, state["spectral"])
        logits = {side: self._logits(normalised, frozen, batch, side, None) for side in SIDES}
        return _hinges(logits) | _right(logits)

    def preview(self, trainable, frozen, state, batch, rng):
        """Crops as they are and as they are augmented."""
        keys = jax.vmap(jax.random.split, out_axes=1)(rng)
        columns = []
        for side, own in zip(SIDES, keys, strict=True):
            images = jnp.asarray(batch[f"{side}_image"])
            columns += [from_model_range(images), from_model_range(diff_augment(images, own))]
        return {"crops": sheet(*(column[:8] for column in columns))}

    def _logits(
        self, params: Any, frozen: Any, batch: Batch, side: str, keys: Key[Array, " batch"] | None
    ) -> tuple[Logits, ...]:
        images = jnp.asarray(batch[f"{side}_image"])
        images = images if keys is None else diff_augment(images, keys)
        features = level_features(self.config, frozen["backbone"], images)
        context: Any = self.text_encoder.apply({"params": frozen["text_encoder"]}, jnp.asarray(batch[f"{side}_ids"]))
        return head_logits(params, features, context)

    def _save(self, params, state, folder, dtype):
        normalised, _ = spectral_normalised(params, state["spectral"])
        save_discriminator(folder, self.config, normalised, dtype)


def _hinges(logits: dict[str, tuple[Logits, ...]]) -> Terms:
    return {f"hinge_{side}": total(hinge(logits[side], real=side == "real")) for side in SIDES}


def _right(logits: dict[str, tuple[Logits, ...]]) -> Terms:
    """How many are told right, of either kind."""
    signs = {"real": 1, "generated": -1}
    return {f"{side}_right": total(jnp.float32(signs[side] * mean_logit(logits[side]) > 0)) for side in SIDES}


def make(config: Any) -> DiscriminatorTask:
    """Makes the task of a recipe with `model` (whose text encoder reads the captions), `backbone`, `dino` (file of its
    weights), `allow_pickle`, `data.image_size` and `data.max_length`.

    Raises:
        WeightsError: weights are not there, or damaged.
        ConfigError: a value that does not fit.
        BackendError: a package that the backbone needs is not installed.
    """
    try:
        model = load_stable_diffusion(config.model)
    except WeightsError as error:
        raise WeightsError(f"{error}; `--config mghand_discriminator.py:tiny` needs no download") from error
    sizes = DiscriminatorConfig(config.backbone, config.data.image_size, model.text_encoder.config.hidden_size)
    return DiscriminatorTask(
        config=sizes,
        backbone_params=jax.tree.map(np.asarray, load_backbone(sizes, config.dino, config.allow_pickle)),
        text_encoder=model.text_encoder,
        text_params=jax.tree.map(np.asarray, model.text_params),
        words=config.data.max_length,
    )
