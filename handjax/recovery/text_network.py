"""The masked transformer with words in place of a picture: from a prompt and some pose tokens to the other tokens."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from handjax.diffusion.transformer import Attention
from handjax.recovery.ggpm import KEYPOINTS, GGPMBlock
from handjax.recovery.network import ConditionedLayer


@dataclasses.dataclass(frozen=True)
class TextMeshConfig:
    """Sizes; as those of `RecoveryConfig`.

    Args:
        tokens: of a pose; the tokenizer's.
        codes: of the codebook; the tokenizer's.
        text: channels of the text embedding; the text encoder's.
        features: channels of the decoder.
        heads: of its attention.
        graph_blocks: of pose modelling.
        layers: of the synthesiser.
    """

    tokens: int = 64
    codes: int = 2048
    text: int = 768
    features: int = 256
    heads: int = 8
    graph_blocks: int = 2
    layers: int = 4


class TextLayer(ConditionedLayer):
    """A layer of the synthesiser that reads all words: called with tokens and the text embedding."""

    def make_cross_attention(self) -> nn.Module:
        return Attention(self.heads)


class TextMeshNetwork(nn.Module):
    """MMHMR's graph-guided pose modelling and synthesiser under a text embedding.

    The nodes of the 21 keypoints stay in the graph, empty, as where the network of pictures is given none.

    Source: MMHMR appendix D, Fig. 7.
    """

    config: TextMeshConfig

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch L"], text: Float[Array, "batch words channels"]
    ) -> Float[Array, "batch L K"]:
        """Logits of p(y_i | tokens that are known, prompt).

        Args:
            tokens: indices of codes; K for hidden ones.
            text: of CLIP's text encoder.
        """
        c, normal = self.config, nn.initializers.normal(0.02)
        embedding = nn.Embed(c.codes + 1, c.features, embedding_init=normal, name="token_embedding")
        pose = embedding(tokens) + self.param("token_places", normal, (c.tokens, c.features))
        empty = self.param("cue_places", normal, (KEYPOINTS, c.features))
        x = jnp.concatenate([pose, jnp.broadcast_to(empty, (len(tokens), *empty.shape))], axis=1)
        for number in range(c.graph_blocks):
            x = GGPMBlock(c.heads, name=f"graph_{number}")(x)
        x = x[:, : c.tokens]
        for number in range(c.layers):
            x = TextLayer(c.features, c.heads, name=f"layers_{number}")(x, text)
        return nn.Dense(c.codes, name="logits")(nn.LayerNorm(name="norm")(x)).astype(jnp.float32)


def example_inputs(network: TextMeshNetwork) -> tuple[Int[Array, "1 L"], Float[Array, "1 1 channels"]]:
    """Tokens and a word, all zero, by which parameters are made."""
    return jnp.zeros((1, network.config.tokens), jnp.int32), jnp.zeros((1, 1, network.config.text))
