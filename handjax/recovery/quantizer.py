"""Vector quantisation with a codebook of moving averages.

All state is averages over tokens, so that averages over micro-batches and devices give what one device would give
(`Task.loss`). What is not linear, the codes themselves and the reset of dead ones, is read off the averages at the
beginning of the next step, alike everywhere.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

Codes = dict[str, Array]
"""counts [K]: moving average of each code's share of tokens, times K; sums [K, D]: of the latents that chose it.
spare_counts [K], spare_sums [K, D]: latents of the last batch from which dead codes are made anew."""

# Of the draw for a spare latent: the likeliest token of a place outweighs the next of 16 about thirty times.
_SHARPNESS = 60.0


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """Replaces latents by their nearest codes.

    Args:
        codes: size of the codebook.
        dim: of a code.
        decay: of the moving averages.
        dead_below: share of what a code would get were all used alike, below which it is replaced by a latent of the
            last batch.

    Source: van den Oord et al. 2017, appendix A.1; resets as in Williams et al. 2020; MMHMR section 3.1, DECISIONS F2.
    """

    codes: int
    dim: int
    decay: float = 0.99
    dead_below: float = 0.05

    @property
    def revived_count(self) -> float:
        """What a code counts that begins anew: time enough to be chosen, some 70 steps."""
        return 2 * self.dead_below

    def init(self, rng: Key[Array, ""]) -> Codes:
        """A random codebook that counts as dead, so that the first batch replaces what it does not use."""
        counts = jnp.full(self.codes, self.dead_below)
        sums = self.dead_below * jax.random.normal(rng, (self.codes, self.dim))
        return {
            "counts": counts,
            "sums": sums,
            "spare_counts": jnp.zeros_like(counts),
            "spare_sums": jnp.zeros_like(sums),
        }

    def revived(self, codes: Codes) -> tuple[Float[Array, "K D"], Float[Array, " K"]]:
        """The codebook, dead codes replaced, and how much each code counts."""
        dead = (codes["counts"] < self.dead_below) & (codes["spare_counts"] > 0)
        spare = codes["spare_sums"] / jnp.where(dead, codes["spare_counts"], 1.0)[:, None]
        codebook = jnp.where(dead[:, None], spare, codes["sums"] / codes["counts"][:, None])
        return codebook, jnp.where(dead, self.revived_count, codes["counts"])

    def updated(
        self,
        codes: Codes,
        latents: Float[Array, "batch L D"],
        indices: Int[Array, "batch L"],
        rng: Key[Array, " batch"],
    ) -> Codes:
        """The state after a batch or a part of it.

        Args:
            codes: the state before.
            latents: what was quantised.
            indices: the codes that it was replaced by.
            rng: one key an example, for the choice of spare latents.
        """
        codebook, counts = self.revived(codes)
        used, used_sums = self._means(latents, indices, jnp.ones(indices.shape))
        spare_counts, spare_sums = self._means(latents, *self._spare_places(rng, latents.shape[1]))
        return {
            "counts": self.decay * counts + (1 - self.decay) * used,
            "sums": self.decay * counts[:, None] * codebook + (1 - self.decay) * used_sums,
            "spare_counts": spare_counts,
            "spare_sums": spare_sums,
        }

    def _spare_places(
        self, rng: Key[Array, " batch"], length: int
    ) -> tuple[Int[Array, "batch L"], Float[Array, "batch L"]]:
        """Sends each token to a random place of the codebook with a weight by which one of a place stands out.

        A weighted mean is linear in the tokens, as a choice of one is not.
        """

        def draw(key):
            place, weight = jax.random.split(key)
            places = jax.random.randint(place, (length,), 0, self.codes)
            return places, jnp.exp(-_SHARPNESS * jax.random.uniform(weight, (length,)))

        return jax.vmap(draw)(rng)

    def _means(
        self, latents: Float[Array, "batch L D"], places: Int[Array, "batch L"], weights: Float[Array, "batch L"]
    ) -> tuple[Float[Array, " K"], Float[Array, "K D"]]:
        """Weighted sums of the tokens of each place, divided by the tokens of a place were all used alike."""
        alike = places.size / self.codes
        weighted = weights[..., None] * latents
        add = functools.partial(jax.ops.segment_sum, segment_ids=places.ravel(), num_segments=self.codes)
        return add(weights.ravel()) / alike, add(weighted.reshape(-1, self.dim)) / alike


@jax.default_matmul_precision("highest")
def nearest_codes(latents: Float[Array, "*batch D"], codebook: Float[Array, "K D"]) -> Int[Array, "*batch"]:
    """Index of the code nearest to each latent by Euclidean distance (MMHMR section 3.1)."""
    return jnp.argmin(jnp.square(codebook).sum(-1) - 2 * latents @ codebook.T, axis=-1)


def straight_through(
    latents: Float[Array, "*batch D"], quantized: Float[Array, "*batch D"]
) -> Float[Array, "*batch D"]:
    """The quantised latents, whose gradient goes to the latents as if they were the same."""
    return latents + jax.lax.stop_gradient(quantized - latents)


def perplexity(counts: Float[Array, " K"]) -> Float[Array, ""]:
    """Number of codes that would be as hard to guess if all were used alike: the exponential of the entropy."""
    shares = counts / counts.sum()
    return jnp.exp(jax.scipy.special.entr(shares).sum())
