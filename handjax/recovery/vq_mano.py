"""VQ-MANO's networks: 16 joint rotations to a sequence of latents and back (MMHMR section 3.1, DECISIONS F1)."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.hand.rotations import matrix_to_six_d, six_d_to_matrix

JOINTS = 16
TOKEN_COUNTS = (16, 32, 64, 128)
"""Of MMHMR Table 8; each joint has as many tokens as the others, next to each other."""
# As in T2M-GPT (Zhang et al. 2023), whose networks the paper follows.
DILATIONS = (9, 3, 1)


class ResidualBlock(nn.Module):
    """ReLU, dilated convolution, ReLU, pointwise convolution, added to the input."""

    dilation: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch L C"]) -> Float[Array, "batch L C"]:
        h = nn.Conv(x.shape[-1], (3,), kernel_dilation=self.dilation)(nn.relu(x))
        return x + nn.Conv(x.shape[-1], (1,))(nn.relu(h))


class Encoder(nn.Module):
    """Rotations to latents.

    Convolution, doublings to twice the tokens, one halving, dilated residual blocks.

    Args:
        tokens: length of the sequence, one of TOKEN_COUNTS.
        width: channels.
        blocks: groups of dilated residual blocks.
        dim: of a latent.
    """

    tokens: int
    width: int
    blocks: int
    dim: int

    @nn.compact
    def __call__(self, rotations: Float[Array, "batch 16 3 3"]) -> Float[Array, "batch L D"]:
        x = nn.relu(nn.Conv(self.width, (3,))(matrix_to_six_d(rotations)))
        for _ in range(_doublings(self.tokens) + 1):
            x = nn.Conv(self.width, (3,))(jnp.repeat(x, 2, axis=1))
        x = nn.Conv(self.width, (4,), strides=2, padding=1)(x)
        x = _residual(x, self.blocks)
        return nn.Conv(self.dim, (3,))(x)


class Decoder(nn.Module):
    """Latents to rotations: dilated residual blocks, then halvings to one place a joint.

    Args:
        tokens: length of the sequence.
        width: channels.
        blocks: groups of dilated residual blocks.
    """

    tokens: int
    width: int
    blocks: int

    @nn.compact
    def __call__(self, latents: Float[Array, "batch L D"]) -> Float[Array, "batch 16 3 3"]:
        x = nn.relu(nn.Conv(self.width, (3,))(latents))
        x = _residual(x, self.blocks)
        for _ in range(_doublings(self.tokens)):
            x = nn.Conv(self.width, (4,), strides=2, padding=1)(x)
        x = nn.relu(nn.Conv(self.width, (3,))(x))
        return six_d_to_matrix(nn.Conv(6, (3,))(x))


class VQMano(nn.Module):
    """Encoder and decoder; what lies between is `quantizer.Quantizer`'s.

    Args:
        tokens: length of the sequence, one of TOKEN_COUNTS.
        width: channels.
        blocks: groups of dilated residual blocks in either half.
        dim: of a latent.
    """

    tokens: int = 64
    width: int = 512
    blocks: int = 2
    dim: int = 256

    def setup(self):
        self.encoder = Encoder(self.tokens, self.width, self.blocks, self.dim)
        self.decoder = Decoder(self.tokens, self.width, self.blocks)

    def __call__(self, rotations: Float[Array, "batch 16 3 3"]) -> Float[Array, "batch 16 3 3"]:
        return self.decode(self.encode(rotations))

    def encode(self, rotations: Float[Array, "batch 16 3 3"]) -> Float[Array, "batch L D"]:
        """Latents of a pose, joint after joint."""
        return self.encoder(rotations)

    def decode(self, latents: Float[Array, "batch L D"]) -> Float[Array, "batch 16 3 3"]:
        """The pose of latents: rotations relative to the parent joint, the first for the whole hand."""
        return self.decoder(latents)


def _residual(x: Array, blocks: int) -> Array:
    for _ in range(blocks):
        for dilation in DILATIONS:
            x = ResidualBlock(dilation)(x)
    return x


def _doublings(tokens: int) -> int:
    return round(math.log2(tokens / JOINTS))
