"""The context-guided masked transformer: from a picture, keypoints and some pose tokens to the other tokens."""

import dataclasses
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from handjax.activations import gelu
from handjax.diffusion.transformer import Attention
from handjax.recovery.camera import MEAN_CAMERA, reference_points
from handjax.recovery.deformable import DeformableAttention
from handjax.recovery.ggpm import KEYPOINTS, GGPMBlock, SelfAttention, keypoint_of_tokens
from handjax.recovery.vit import ViT, ViTConfig

SHAPES = 10


@dataclasses.dataclass(frozen=True)
class RecoveryConfig:
    """Sizes and ablation switches.

    Args:
        tokens: of a pose; the tokenizer's.
        codes: of the codebook; the tokenizer's.
        encoder: size of the ViT.
        features: channels of the decoder.
        heads: of its attention.
        points: that each head samples of each map.
        scales: of the feature maps, powers of 2 (Table 15; without the upsampler of Table 5: only 1).
        graph_blocks: of pose modelling; none is "w/o GGPM" of Table 5.
        layers: of the synthesiser (Table 16).
        head_layers: of the head of shape and camera; none is "w/o x-attention head" of Table 5.
        use_cue: whether keypoints are looked at; not is "w/o 2D pose context" of Table 5.
    """

    tokens: int = 64
    codes: int = 2048
    encoder: ViTConfig = ViTConfig()
    features: int = 256
    heads: int = 8
    points: int = 4
    scales: tuple[int, ...] = (1, 4)
    graph_blocks: int = 2
    layers: int = 4
    head_layers: int = 6
    use_cue: bool = True


class Context(NamedTuple):
    """What of a picture stays the same while tokens are decoded: values of each layer at each scale, shape, camera."""

    values: tuple[tuple[Float[Array, "batch _ _ heads dim"], ...], ...]
    betas: Float[Array, "batch 10"]
    camera: Float[Array, "batch 3"]


class Doubling(nn.Module):
    """Transposed convolution of 2x2 pixels and stride 2, whose results do not overlap: one product a pixel of each.

    XLA's transposed convolution is many times slower on CPU. The kernel is as PyTorch has it, which its exported file
    is for.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch H W C"]) -> Float[Array, "batch h w D"]:
        batch, height, width, channels = x.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(3), (2, 2, self.features, channels))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = jnp.einsum("bhwc,ijdc->bhiwjd", x, kernel) + bias
        return x.reshape(batch, 2 * height, 2 * width, self.features)


class Upsampler(nn.Module):
    """Feature maps at multiples of the encoder's resolution, as ViTDet's simple pyramid (Li et al. 2022, section 3)."""

    features: int
    scale: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch H W C"]) -> Float[Array, "batch h w D"]:
        for number in range(round(math.log2(self.scale))):
            if number:
                x = gelu(nn.LayerNorm(name=f"up_norm_{number}")(x))
            width = max(x.shape[-1] // 2, self.features)
            x = Doubling(width, name=f"up_{number}")(x)
        return nn.LayerNorm(name="norm")(nn.Dense(self.features, name="project")(x))


class ConditionedLayer(nn.Module):
    """Attention among tokens, attention to what they depend on and feed-forward, each normalised first and added.

    Args:
        features: channels of the tokens.
        heads: of the attention among them.
    """

    features: int
    heads: int

    def setup(self):
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(), nn.LayerNorm(), nn.LayerNorm()
        self.self_attention = SelfAttention(self.heads)
        self.cross_attention = self.make_cross_attention()
        self.wide, self.narrow = nn.Dense(4 * self.features), nn.Dense(self.features)

    def make_cross_attention(self) -> nn.Module:
        """Of queries and what `__call__` is given besides."""
        raise NotImplementedError

    def __call__(self, x: Float[Array, "batch L C"], *condition: Any) -> Float[Array, "batch L C"]:
        x += self.self_attention(self.norm1(x))
        x += self.cross_attention(self.norm2(x), *condition)
        return x + self.narrow(gelu(self.wide(self.norm3(x))))


class SynthesiserLayer(ConditionedLayer):
    """Deformable attention to feature maps: called with tokens, their references and `values`.

    Args:
        scales: number of maps.
        points: that each head samples of each map.
    """

    scales: int
    points: int

    def make_cross_attention(self) -> nn.Module:
        return DeformableAttention(self.features, self.heads, self.scales, self.points)

    def values(self, maps):
        return tuple(self.cross_attention.values(maps))


class ShapeHead(nn.Module):
    """The x-attention head: one query that reads the map of the encoder's resolution; without layers it is the map's
    mean (DECISIONS F11)."""

    config: RecoveryConfig

    @nn.compact
    def __call__(self, tokens: Float[Array, "batch N C"]) -> tuple[Float[Array, "batch 10"], Float[Array, "batch 3"]]:
        c = self.config
        if c.head_layers:
            start = self.param("start", nn.initializers.normal(0.02), (1, 1, c.features))
            x = jnp.broadcast_to(start, (len(tokens), 1, c.features))
        else:
            x = tokens.mean(axis=1, keepdims=True)
        for number in range(c.head_layers):
            read = Attention(c.heads, name=f"attention_{number}")
            x += read(nn.LayerNorm(name=f"norm1_{number}")(x), tokens)
            h = nn.Dense(4 * c.features, name=f"wide_{number}")(nn.LayerNorm(name=f"norm2_{number}")(x))
            x += nn.Dense(c.features, name=f"narrow_{number}")(gelu(h))
        small = nn.initializers.variance_scaling(1e-4, "fan_avg", "uniform")
        betas = nn.Dense(SHAPES, kernel_init=small, name="betas")(x[:, 0])
        return betas, jnp.array(MEAN_CAMERA) + nn.Dense(3, kernel_init=small, name="camera")(x[:, 0])


class RecoveryNetwork(nn.Module):
    """MMHMR's second stage (section 3.2): `encode` a picture once, `predict` tokens as often as they are decoded.

    Args:
        config: sizes.
        dtype: of the encoder's computation; all else is float32.
    """

    config: RecoveryConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        c = self.config
        normal = nn.initializers.normal(0.02)
        self.backbone = ViT(c.encoder, self.dtype)
        self.pyramid = [Upsampler(c.features, scale) for scale in c.scales]
        self.shape_head = ShapeHead(c)
        self.head_map = nn.Dense(c.features)
        self.token_embedding = nn.Embed(c.codes + 1, c.features, embedding_init=normal)  # the last is [MASK]
        self.token_places = self.param("token_places", normal, (c.tokens, c.features))
        self.cue_places = self.param("cue_places", normal, (KEYPOINTS, c.features))
        self.cue_projection = nn.Dense(c.features)
        self.graph = [GGPMBlock(c.heads) for _ in range(c.graph_blocks)]
        self.references = nn.Dense(2)
        self.layers = [SynthesiserLayer(c.features, c.heads, len(c.scales), c.points) for _ in range(c.layers)]
        self.norm = nn.LayerNorm()
        self.logits = nn.Dense(c.codes)

    def __call__(self, images, tokens, cue):
        """Everything once, as `encode` and `predict`."""
        context = self.encode(images)
        return self.predict(tokens, cue, context), context

    def encode(self, images: Float[Array, "batch size size 3"]) -> Context:
        """Reads crops of right hands in [-1, 1], of the encoder's size."""
        features = self.backbone(images).astype(jnp.float32)
        maps = [scale(features) for scale in self.pyramid]
        flat = features.reshape(len(features), -1, features.shape[-1])
        return Context(tuple(layer.values(maps) for layer in self.layers), *self.shape_head(self.head_map(flat)))

    def predict(
        self, tokens: Int[Array, "batch L"], cue: Float[Array, "batch 21 3"], context: Context
    ) -> Float[Array, "batch L K"]:
        """Logits of p(y_i | tokens that are known, keypoints, picture).

        Args:
            tokens: indices of codes; K for hidden ones.
            cue: x and y of keypoints in the crop, -0.5 to 0.5, and confidence, 0 where there is none (DECISIONS F10).
            context: of `encode`.
        """
        c = self.config
        cue = cue * (cue[..., 2:] > 0) if c.use_cue else jnp.zeros_like(cue)
        pose = self.token_embedding(tokens) + self.token_places
        x = jnp.concatenate([pose, self.cue_projection(cue) + self.cue_places], axis=1)
        for block in self.graph:
            x = block(x)
        x = x[:, : c.tokens]
        references = self._references(x, cue)
        for layer, values in zip(self.layers, context.values, strict=True):
            x = layer(x, references, values)
        return self.logits(self.norm(x)).astype(jnp.float32)

    def _references(self, x: Float[Array, "batch L C"], cue: Float[Array, "batch 21 3"]) -> Float[Array, "batch L 2"]:
        """The keypoint of each token's joint where there is one, otherwise a place that the token asks for."""
        own = cue[:, keypoint_of_tokens(self.config.tokens)]
        return jnp.where(own[..., 2:] > 0, reference_points(own[..., :2]), jax.nn.sigmoid(self.references(x)))


def example_inputs(
    network: RecoveryNetwork,
) -> tuple[Float[Array, "1 size size 3"], Int[Array, "1 L"], Float[Array, "1 21 3"]]:
    """A picture, tokens and keypoints, all zero, by which parameters are made."""
    tokens = jnp.zeros((1, network.config.tokens), jnp.int32)
    size = network.config.encoder.image_size
    return jnp.zeros((1, size, size, 3)), tokens, jnp.zeros((1, KEYPOINTS, 3))
