"""CLIP's text encoder, and the layers that it shares with the image encoder."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from handjax.activations import gelu
from handjax.diffusion.attention import attention
from handjax.diffusion.configs import TextConfig, VisionConfig

ACTIVATION: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "gelu": gelu,
}


class Embeddings(nn.Module):
    """Token plus position embedding."""

    config: TextConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, ids: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens channels"]:
        config = self.config
        init = nn.initializers.normal(0.02)

        def embed(rows, name):
            return nn.Embed(rows, config.hidden_size, dtype=self.dtype, embedding_init=init, name=name)

        positions = embed(config.max_position_embeddings, "position_embedding")(jnp.arange(ids.shape[1]))
        return embed(config.vocab_size, "token_embedding")(ids) + positions


class SelfAttention(nn.Module):
    """Multi-head self-attention; where causal, to what comes before."""

    heads: int
    dtype: DTypeLike = jnp.float32
    causal: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens channels"]) -> Float[Array, "batch tokens channels"]:
        batch, tokens, channels = x.shape

        def project(name):
            projected = nn.Dense(channels, dtype=self.dtype, name=name)(x)
            return projected.reshape(batch, tokens, self.heads, channels // self.heads)

        bias = None
        if self.causal:
            future = jnp.triu(jnp.ones((tokens, tokens), bool), k=1)
            bias = jnp.where(future, jnp.finfo(jnp.float32).min, 0.0)[None, None]
        attended = attention(project("q_proj"), project("k_proj"), project("v_proj"), bias)
        return nn.Dense(channels, dtype=self.dtype, name="out_proj")(attended.reshape(x.shape))


class MLP(nn.Module):
    """Two linear layers with the config's activation."""

    config: TextConfig | VisionConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens channels"]) -> Float[Array, "batch tokens channels"]:
        h = nn.Dense(self.config.intermediate_size, dtype=self.dtype, name="fc1")(x)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="fc2")(ACTIVATION[self.config.hidden_act](h))


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each normalised first and added to its input."""

    config: TextConfig | VisionConfig
    dtype: DTypeLike = jnp.float32
    causal: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens channels"]) -> Float[Array, "batch tokens channels"]:
        attend = SelfAttention(self.config.num_attention_heads, self.dtype, self.causal, name="self_attn")
        x += attend(layer_norm(self.config, self.dtype, "layer_norm1")(x))
        return x + MLP(self.config, self.dtype, name="mlp")(layer_norm(self.config, self.dtype, "layer_norm2")(x))


class Encoder(nn.Module):
    """The stack of layers."""

    config: TextConfig | VisionConfig
    dtype: DTypeLike = jnp.float32
    causal: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens channels"]) -> Float[Array, "batch tokens channels"]:
        for i in range(self.config.num_hidden_layers):
            x = EncoderLayer(self.config, self.dtype, self.causal, name=f"layers_{i}")(x)
        return x


class TextEncoder(nn.Module):
    """Token ids to text embedding; parameter names are those of transformers' CLIPTextModel.

    Args:
        config: sizes.
        dtype: of the computation; parameters, softmax and normalisation statistics are float32.
    """

    config: TextConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, ids: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens channels"]:
        """Gives the last hidden state after the final norm, float32."""
        x = Embeddings(self.config, self.dtype, name="embeddings")(ids)
        x = Encoder(self.config, self.dtype, name="encoder")(x)
        return layer_norm(self.config, self.dtype, "final_layer_norm")(x).astype(jnp.float32)


def layer_norm(config: TextConfig | VisionConfig, dtype: DTypeLike, name: str) -> nn.LayerNorm:
    """A normalisation with the config's epsilon."""
    return nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=dtype, use_fast_variance=False, name=name)
