"""MGHanD's discriminator: frozen features of a hand's crop, and a small head on each level that is told the prompt."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.errors import ConfigError, WeightsError
from handjax.files import write_json
from handjax.perception import efficientnet
from handjax.perception.dino import DINO, DINOConfig, dino_shapes, load_dino
from handjax.weights.files import read_weights
from handjax.weights.names import check_tree, to_flax, to_torch
from handjax.weights.safetensors import write_tensors

BACKBONES = ("dino_vits16", "efficientnet_lite0")
DINO_BLOCKS = (2, 5, 8, 11)
"""After which features are taken, besides those on entry (DECISIONS C5)."""
EFFICIENTNET_MAPS = (1, 2, 3)
"""A 4th, 8th and 16th of the size; a head on the 32nd's 320 channels would be seven times as large as these three."""
PROJECTION = 64
KERNEL, SLOPE, NORM_EPSILON = 9, 0.2, 1e-5
CONFIG, WEIGHTS = "config.json", "discriminator.safetensors"
Tokens = Float[Array, "batch _tokens _channels"]
Logits = Float[Array, "batch _tokens"]


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """What a discriminator is made of.

    Args:
        backbone: one of BACKBONES, whose features it reads.
        image_size: side of the crops in pixels; 224 for DINO, a multiple of 32 for EfficientNet.
        text_channels: of the model's text embedding.
    """

    backbone: str = "dino_vits16"
    image_size: int = 224
    text_channels: int = 768

    def __post_init__(self):
        if self.backbone not in BACKBONES:
            raise ConfigError(f"backbone={self.backbone!r} is unknown; use one of {BACKBONES}")
        if self.image_size % 32 or self.image_size < 32 or (self.backbone == "dino_vits16" and self.image_size != 224):
            raise ConfigError(f"image_size={self.image_size} does not fit {self.backbone}; use 224")


class Head(nn.Module):
    """Scores every token of one level.

    Convolutions along the tokens, row by row, that go round. Each token is normalised over its channels: StyleGAN-T's
    statistics of 8 pictures would make a score depend on the other pictures of a batch, and those of one picture would
    take the class token out again.

    Source:
        Sauer et al. 2023 (StyleGAN-T), section 3.2; DECISIONS C5.
    """

    @nn.compact
    def __call__(self, tokens: Float[Array, "batch tokens C"], text: Float[Array, "batch 64"]) -> Logits:
        channels = tokens.shape[-1]
        x = _activate(nn.Dense(channels, name="conv1")(tokens), "norm1")
        around = nn.Conv(channels, (KERNEL,), padding="CIRCULAR", name="conv2")(x)
        x = (x + _activate(around, "norm2")) / math.sqrt(2)
        projected = nn.Dense(PROJECTION, name="project")(x)
        return jnp.einsum("bnp,bp->bn", projected, text) / math.sqrt(PROJECTION)


class Heads(nn.Module):
    """All heads, and what they are told of the prompt."""

    @nn.compact
    def __call__(self, features: tuple[Tokens, ...], context: Float[Array, "batch words embed"]) -> tuple[Logits, ...]:
        """Logits of every level's tokens, above 0 for real hands.

        Args:
            features: of the levels.
            context: text embedding of the prompts; its mean over the words is projected.
        """
        text = nn.Dense(PROJECTION, name="text")(context.mean(axis=1))
        return tuple(Head(name=f"heads_{level}")(tokens, text) for level, tokens in enumerate(features))


def _activate(x: Float[Array, "batch tokens C"], name: str) -> Float[Array, "batch tokens C"]:
    return nn.leaky_relu(nn.LayerNorm(epsilon=NORM_EPSILON, use_fast_variance=False, name=name)(x), SLOPE)


def level_features(
    config: DiscriminatorConfig, backbone_params: Any, images: Float[Array, "batch size size 3"]
) -> tuple[Tokens, ...]:
    """Features of crops in [-1, 1], level by level; DINO's class token is added to all others.

    Args:
        config: which backbone.
        backbone_params: of `load_backbone`.
        images: differentiable.
    """
    if config.backbone == "dino_vits16":
        read: Any = DINO().apply({"params": backbone_params}, images / 2 + 0.5)
        inside = read[1]
        levels = [inside[0], *(inside[block + 1] for block in DINO_BLOCKS)]
        return tuple(tokens[:, 1:] + tokens[:, :1] for tokens in levels)
    pixels = (255 * (images / 2 + 0.5) - efficientnet.MEAN) / efficientnet.DEVIATION
    read = efficientnet.EfficientNetLite0().apply({"params": backbone_params}, pixels)
    maps = read[1]
    return tuple(maps[level].reshape(len(images), -1, maps[level].shape[-1]) for level in EFFICIENTNET_MAPS)


def head_logits(
    params: Any, features: tuple[Tokens, ...], context: Float[Array, "batch words embed"]
) -> tuple[Logits, ...]:
    """What `Heads` of these parameters says."""
    logits: Any = Heads().apply({"params": params}, features, context)
    return logits


def mean_logit(logits: Sequence[Logits]) -> Float[Array, " batch"]:
    """One score a picture: the mean over tokens, then over levels."""
    return jnp.stack([level.mean(axis=1) for level in logits]).mean(axis=0)


def hinge(logits: Sequence[Logits], real: bool) -> Float[Array, " batch"]:
    """The discriminator's loss of pictures that are all real, or all generated.

    Source:
        Lim and Ye 2017, Eq. 4; each level counts alike.
    """
    sign = 1 if real else -1
    return mean_logit([nn.relu(1 - sign * level) for level in logits])


@flax.struct.dataclass
class Discriminator:
    """A trained discriminator as guides use it (`handjax.guidance.mghand.Critic`); a pytree of its weights.

    Args:
        params: of the heads, normalised.
        backbone_params: frozen.
        config: its sizes.
    """

    params: Any
    backbone_params: Any
    config: DiscriminatorConfig = flax.struct.field(pytree_node=False)

    @property
    def size(self) -> int:
        """Side of the crops that it reads."""
        return self.config.image_size

    def __call__(
        self, crops: Float[Array, "batch size size 3"], context: Float[Array, "batch words embed"]
    ) -> Float[Array, " batch"]:
        """Scores crops in [-1, 1]; above 0 is real."""
        features = level_features(self.config, self.backbone_params, crops)
        return mean_logit(head_logits(self.params, features, context))


def head_shapes(config: DiscriminatorConfig) -> Any:
    """The tree of shapes of the heads' parameters."""
    return jax.eval_shape(lambda rng: initial_heads(rng, config), jax.random.key(0))


def initial_heads(rng: Any, config: DiscriminatorConfig) -> Any:
    """Draws the heads' parameters."""
    crops = jnp.zeros((1, config.image_size, config.image_size, 3))
    shapes = jax.eval_shape(lambda images: level_features(config, _zero_backbone(config), images), crops)
    features = tuple(jnp.zeros(level.shape) for level in shapes)
    return Heads().init(rng, features, jnp.zeros((1, 1, config.text_channels)))["params"]


def _zero_backbone(config: DiscriminatorConfig) -> Any:
    if config.backbone == "dino_vits16":
        shapes = dino_shapes(DINOConfig())
    else:
        image = jnp.zeros((1, config.image_size, config.image_size, 3))
        shapes = jax.eval_shape(efficientnet.EfficientNetLite0().init, jax.random.key(0), image)["params"]
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def load_backbone(config: DiscriminatorConfig, dino: str | Path = "", allow_pickle: bool = False) -> Any:
    """Reads the frozen weights.

    Args:
        config: which backbone.
        dino: file of DINO's published weights; EfficientNet's are those of its package.
        allow_pickle: read DINO's pickled file.

    Raises:
        ConfigError: DINO without a file.
        BackendError: a package that is needed is not installed.
        WeightsError: the file is missing, damaged or of another network.
    """
    if config.backbone == "efficientnet_lite0":
        return efficientnet.load_params()["params"]
    if not str(dino):
        raise ConfigError(
            "the backbone dino_vits16 needs its weights; download dino_deitsmall16_pretrain.pth of "
            "facebookresearch/dino and name the file"
        )
    return load_dino(dino, allow_pickle=allow_pickle)


def save_discriminator(folder: Path, config: DiscriminatorConfig, params: Any, dtype: DTypeLike = np.float32) -> None:
    """Writes the normalised heads of a discriminator; its backbone is not theirs to carry."""
    write_tensors(folder / WEIGHTS, to_torch(jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), params)))
    write_json(folder / CONFIG, dataclasses.asdict(config))


def load_discriminator(folder: Path, dino: str | Path = "", allow_pickle: bool = False) -> Discriminator:
    """Reads what `save_discriminator` wrote, and the backbone.

    Args:
        folder: with config.json and discriminator.safetensors.
        dino: as `load_backbone` takes it.
        allow_pickle: likewise.

    Raises:
        WeightsError: a file is missing, damaged or does not fit the other; others as `load_backbone`.
    """
    try:
        config = DiscriminatorConfig(**json.loads((folder / CONFIG).read_text()))
    except FileNotFoundError as error:
        raise WeightsError(f"{folder}: no {CONFIG}; give the folder of an exported discriminator") from error
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{folder / CONFIG}: not of a discriminator ({error}); export it again") from error
    params = to_flax((name, value.astype(np.float32)) for name, value in read_weights(folder / WEIGHTS))
    check_tree(params, head_shapes(config), str(folder / WEIGHTS))
    return Discriminator(params, load_backbone(config, dino, allow_pickle), config)
