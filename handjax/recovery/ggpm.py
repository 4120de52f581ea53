"""Graph-guided pose modelling: pose tokens and keypoints as nodes of a graph with learnt links (MMHMR Eq. 1, 2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from handjax.diffusion.attention import attention
from handjax.hand.topology import KEYPOINT_BONES, MANO_TO_OPENPOSE

KEYPOINTS = 21
SELF_LOGIT, LINK_LOGIT = 5.0, 3.0
SQUEEZE = 4


def keypoint_of_tokens(tokens: int) -> np.ndarray:
    """Index of the keypoint at the joint that each pose token belongs to: token i is joint i·16 // tokens (F1)."""
    of_joint = np.argsort(MANO_TO_OPENPOSE)[:16]
    return of_joint[np.arange(tokens) * 16 // tokens]


def kinematic_links(tokens: int) -> Bool[np.ndarray, "nodes nodes"]:
    """Which nodes, pose tokens and then keypoints, are at one joint or at the two ends of a bone."""
    near = np.eye(KEYPOINTS, dtype=bool)
    near[KEYPOINT_BONES[:, 0], KEYPOINT_BONES[:, 1]] = near[KEYPOINT_BONES[:, 1], KEYPOINT_BONES[:, 0]] = True
    place = np.concatenate([keypoint_of_tokens(tokens), np.arange(KEYPOINTS)])
    return near[place][:, place]


class GraphConvolution(nn.Module):
    """softmax(A)·Q·W with learnable logits A, at first 5 on the diagonal and 3 on kinematic links (DECISIONS F9)."""

    @nn.compact
    def __call__(self, nodes: Float[Array, "batch N C"]) -> Float[Array, "batch N C"]:
        links = kinematic_links(nodes.shape[1] - KEYPOINTS)
        start = np.where(np.eye(len(links), dtype=bool), SELF_LOGIT, LINK_LOGIT * links)
        logits = self.param("adjacency", lambda key: jnp.asarray(start, jnp.float32))
        mixed = jnp.einsum("nm,bmc->bnc", jax.nn.softmax(logits).astype(nodes.dtype), nodes)
        return nn.Dense(nodes.shape[-1], use_bias=False, name="weight")(mixed)


class SelfAttention(nn.Module):
    """Multi-head self-attention of float32 nodes."""

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch N C"]) -> Float[Array, "batch N C"]:
        qkv = nn.Dense(3 * x.shape[-1], name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, self.heads, -1), 2, 0)
        return nn.Dense(x.shape[-1], name="proj")(attention(q, k, v).reshape(x.shape))


class SqueezeExcitation(nn.Module):
    """Scales channels by what all nodes together say (Hu et al. 2018)."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch N C"]) -> Float[Array, "batch N C"]:
        squeezed = nn.relu(nn.Dense(x.shape[-1] // SQUEEZE, name="squeeze")(x.mean(axis=1)))
        return x * nn.sigmoid(nn.Dense(x.shape[-1], name="excite")(squeezed))[:, None]


class GGPMBlock(nn.Module):
    """One block: graph convolution, then attention and pointwise convolution side by side, then squeeze-and-excitation.

    Args:
        heads: of the attention.
    """

    heads: int

    @nn.compact
    def __call__(self, nodes: Float[Array, "batch N C"]) -> Float[Array, "batch N C"]:
        refined = GraphConvolution(name="graph")(nodes)
        normed = nn.LayerNorm(name="norm1")(refined)
        attended = SelfAttention(self.heads, name="attention")(normed)
        mixed = attended + nn.Dense(nodes.shape[-1], name="conv")(normed) + refined  # Eq. 1
        return SqueezeExcitation(name="se")(nn.LayerNorm(name="norm2")(mixed))  # Eq. 2
