"""Deformable attention: each query looks at a few points of feature maps, at places that it chooses itself."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Maps = Sequence[Float[Array, "batch _ _ C"]]


def sample_maps(
    maps: Sequence[Float[Array, "batch _ _ heads dim"]], places: Float[Array, "batch Q heads levels points 2"]
) -> Float[Array, "batch Q heads levels points dim"]:
    """Bilinear samples of feature maps, zero outside of them.

    Args:
        maps: one a level.
        places: (x, y), 0 at the left and upper edge of a map, 1 at the right and lower one.

    Source: Zhu et al. 2021 (Deformable DETR), section 4.1; PyTorch's `grid_sample` of 2·place - 1 with zero padding
        and corners not aligned; DECISIONS F8.
    """
    levels = [_sample(values, places[:, :, :, level]) for level, values in enumerate(maps)]
    return jnp.stack(levels, axis=3)


def _sample(values: Float[Array, "batch H W heads dim"], places: Float[Array, "batch Q heads points 2"]) -> Array:
    batch, height, width, heads, dim = values.shape
    pixels = places * jnp.array([width, height]) - 0.5
    corner = jnp.floor(pixels)
    shares = pixels - corner
    flat = values.transpose(0, 3, 1, 2, 4).reshape(batch, heads, height * width, dim)
    total = jnp.zeros((*places.shape[:-1], dim), values.dtype)
    for step_x, step_y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = corner[..., 0] + step_x, corner[..., 1] + step_y
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        near = (shares[..., 0] if step_x else 1 - shares[..., 0]) * (shares[..., 1] if step_y else 1 - shares[..., 1])
        index = jnp.where(inside, y * width + x, 0).astype(jnp.int32)
        index = index.swapaxes(1, 2).reshape(batch, heads, -1, 1)
        taken = jnp.take_along_axis(flat, index, axis=2).reshape(batch, heads, *places.shape[1:2], -1, dim)
        total += jnp.where(inside, near, 0)[..., None] * taken.swapaxes(1, 2)
    return total


class DeformableAttention(nn.Module):
    """MCDA of MMHMR section 3.2.2: attention weights over levels and points, of values sampled around a reference.

    Args:
        features: channels of queries and result.
        heads: of the attention.
        levels: number of feature maps.
        points: that each head samples of each map.
    """

    features: int
    heads: int
    levels: int
    points: int

    def setup(self):
        count = self.heads * self.levels * self.points
        zeros, circle = nn.initializers.zeros, _circle(self.heads, self.levels, self.points)
        self.value_proj = nn.Dense(self.features)
        self.sampling_offsets = nn.Dense(2 * count, kernel_init=zeros, bias_init=lambda *_: jnp.float32(circle))
        self.attention_weights = nn.Dense(count, kernel_init=zeros)
        self.output_proj = nn.Dense(self.features)

    def values(self, maps: Maps) -> list[Float[Array, "batch _ _ heads dim"]]:
        """W·x of all maps, which does not depend on the queries."""
        projected = [self.value_proj(x) for x in maps]
        return [x.reshape(*x.shape[:3], self.heads, -1) for x in projected]

    def __call__(
        self,
        queries: Float[Array, "batch Q C"],
        references: Float[Array, "batch Q 2"],
        values: Sequence[Float[Array, "batch _ _ heads dim"]],
    ) -> Float[Array, "batch Q C"]:
        """Attends.

        Args:
            queries: what looks.
            references: (x, y) of each query, in [0, 1] over the maps.
            values: of `values`.
        """
        places = self.places(queries, references, [(v.shape[1], v.shape[2]) for v in values])
        shape = (*queries.shape[:2], self.heads, self.levels * self.points)
        weights = jax.nn.softmax(self.attention_weights(queries).reshape(shape))
        samples = sample_maps(values, places)
        samples = samples.reshape(*shape, -1)
        gathered = jnp.einsum("bqhk,bqhkd->bqhd", weights, samples)
        return self.output_proj(gathered.reshape(queries.shape))

    def places(
        self,
        queries: Float[Array, "batch Q C"],
        references: Float[Array, "batch Q 2"],
        sizes: Sequence[tuple[int, int]],
    ) -> Float[Array, "batch Q heads levels points 2"]:
        """Where each query samples: its reference and offsets of pixels of each map."""
        offsets = self.sampling_offsets(queries)
        offsets = offsets.reshape(*queries.shape[:2], self.heads, self.levels, self.points, 2)
        scale = jnp.array([(width, height) for height, width in sizes], offsets.dtype)
        return references[:, :, None, None, None] + offsets / scale[:, None]


def _circle(heads: int, levels: int, points: int) -> np.ndarray:
    """Offsets to begin with: heads look into as many directions, their points one pixel farther out each."""
    angles = 2 * math.pi * np.arange(heads) / heads
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    directions /= np.abs(directions).max(-1, keepdims=True)
    steps = np.arange(1, points + 1)[:, None]
    return np.broadcast_to(directions[:, None, None] * steps, (heads, levels, points, 2)).ravel()
