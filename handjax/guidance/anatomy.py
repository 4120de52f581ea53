"""AnatomyGuide: leads sampling away from hands that no hand can be.

In some steps the clean latents that the network sees are decoded, a hand is looked for, its landmarks are read in
space, and the noise is moved along the gradient of their anatomy penalty. Everything is inside the jitted sampler.
Where no hand is found nothing is moved, and that is counted.

A guide that lowered the penalty by hiding the hand would be of no use. So neither the place of the crop nor the weight
of a hand is differentiated, a hand that is doubtful is not pushed, and the penalty has a term that holds the landmark
network's presence.
"""

import dataclasses
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from handjax.anatomy.features import measure
from handjax.anatomy.penalty import anatomy_penalty
from handjax.diffusion.samplers import Latents
from handjax.diffusion.sampling import Decode, Denoise, Guide, Repeats
from handjax.diffusion.schedules import NoiseLevel, scales
from handjax.guidance.seeing import as_picture, decode_about, find_in_margin
from handjax.perception.flax_backend import HandWeights, read_hand
from handjax.perception.landmarks import Hands, landmark_region
from handjax.perception.regions import Region
from handjax.training.remat import recomputed

SURE_OF_SIDE = 0.9
"""Less sure, a hand counts as the side of the smaller penalty: taken for the other, every joint is bent backwards."""
LEAST_PRESENCE = 1e-6


@dataclasses.dataclass(frozen=True)
class AnatomySettings:
    """When and how hard the guide pushes.

    Args:
        scale: s of the paper.
        window: first and last timestep in which it pushes.
        every: only each n-th step of the window pushes, beginning with the first.
        recurrences: how often each step of the window is taken where a hand is followed
            (`handjax.diffusion.sampling.sample`).
        through: "denoiser" differentiates the network too, as the paper writes; "latent" takes the noise in the latents
            as given, which saves the network's gradient.
        normalize: the gradient of each picture is brought to a root mean square of 1, so that `scale` is the share of
            the noise that is moved, whatever the penalty.
        keep: weight of the presence term.
        hands: most hands of a picture.
        cells: side of the latent square about a hand that is decoded for its gradient; None decodes the whole picture.
        min_presence: least score of a palm, and least presence of a hand, that is pushed.
        remat: what of decoding and of the network is kept for the gradient, of `handjax.training.remat`; the rest is
            computed again, which takes less memory and more time.

    Source:
        HandAnat section 3.4; the window is t* ± 100 of section 4.2 (DECISIONS E6).
    """

    scale: float = 0.2
    window: tuple[float, float] = (614.0, 814.0)
    every: int = 1
    recurrences: int = 1
    through: Literal["denoiser", "latent"] = "denoiser"
    normalize: bool = True
    keep: float = 1.0
    hands: int = 1
    cells: int | None = None
    min_presence: float = 0.5
    remat: str = "none"


@flax.struct.dataclass
class AnatomyLog:
    """The guide's carry: the hands it follows, and what it did.

    Attributes:
        visited: steps inside the window so far; one that is taken several times is one step.
        timestep: of the last of them.
        regions: where each picture's hands were read last, pixels; picture by picture.
        followed: whether there was one.
        pushed: steps in which a picture was pushed.
        missed: steps in which no hand was found in it, or its gradient was no number.
        first_penalty: mean over its hands, before the first push; NaN without one.
        last_penalty: before the last push.
    """

    visited: Int[Array, ""]
    timestep: Float[Array, ""]
    regions: Region
    followed: Bool[Array, " hands"]
    pushed: Int[Array, " batch"]
    missed: Int[Array, " batch"]
    first_penalty: Float[Array, " batch"]
    last_penalty: Float[Array, " batch"]


@flax.struct.dataclass
class AnatomyGuide:
    """Guidance by hand anatomy; a pytree of the networks' weights.

    Args:
        weights: of the perception.
        settings: when and how hard it pushes.
    """

    weights: HandWeights
    settings: AnatomySettings = flax.struct.field(pytree_node=False, default=AnatomySettings())

    def start(self, latents: Latents) -> AnatomyLog:
        """The carry before the first step."""
        batch = len(latents)
        pairs, nothing = batch * self.settings.hands, jnp.zeros(batch, jnp.int32)
        unknown = jnp.full(batch, jnp.nan)
        return AnatomyLog(
            visited=jnp.int32(0),
            timestep=jnp.float32(jnp.nan),
            regions=Region(jnp.zeros((pairs, 2)), jnp.ones(pairs), jnp.zeros(pairs)),
            followed=jnp.zeros(pairs, bool),
            pushed=nothing,
            missed=nothing,
            first_penalty=unknown,
            last_penalty=unknown,
        )

    @property
    def repeats(self) -> Repeats | None:
        """How often the sampler takes a step of pictures whose hands are followed; None where each is taken once."""
        if self.settings.recurrences == 1:
            return None

        def repeats(level: NoiseLevel, log: AnatomyLog):
            hands = log.followed.reshape(len(log.pushed), -1).any(axis=1)
            return jnp.where(_wide(hands) & self._inside(level), self.settings.recurrences, 1)

        return repeats

    def steer(self, decode: Decode, context: Float[Array, "batch words embed"] | None = None) -> Guide:
        """Makes the sampler's guide: ε + s·σ_t·∇L(x0(z_t)).

        Args:
            decode: pictures in [-1, 1] of clean latents; differentiable.
            context: of the prompts; anatomy is the same whatever they are.

        Source:
            HandAnat Eq. in section 3.4, with the sign that descends the penalty (DECISIONS E1).
        """

        def guide(log: AnatomyLog, z: Latents, level: NoiseLevel, x0: Latents, denoise: Denoise):
            inside = self._inside(level)
            first_time = inside & (log.timestep != level.timestep)
            active = inside & ((log.visited + first_time - 1) % self.settings.every == 0)
            log = dataclasses.replace(
                log,
                visited=log.visited + first_time,
                timestep=jnp.where(inside, level.timestep, log.timestep),
            )

            def push():
                return self._push(decode, log, z, level, x0, denoise, first_time)

            return jax.lax.cond(active, push, lambda: (log, x0))

        return guide

    def tell(self, carry: AnatomyLog) -> list[dict[str, Any]]:
        """Steps that pushed, steps that missed, and the penalty before the first and the last push, of each picture."""
        columns = jax.device_get((carry.pushed, carry.missed, carry.first_penalty, carry.last_penalty))
        return [
            {
                "pushed": int(pushed),
                "missed": int(missed),
                "penalty": [round(float(first), 4), round(float(last), 4)] if pushed else None,
            }
            for pushed, missed, first, last in zip(*columns, strict=True)
        ]

    def _inside(self, level: NoiseLevel) -> Bool[Array, ""]:
        low, high = self.settings.window
        return (level.timestep >= low) & (level.timestep <= high)

    def _push(self, decode, log: AnatomyLog, z, level, x0, denoise, first_time) -> tuple[AnatomyLog, Latents]:
        regions, found = self._regions(decode, log, x0)
        rows = jnp.repeat(x0, self.settings.hands, axis=0)
        decode_again = recomputed(decode, self.settings.remat)
        slopes, penalties, hands = jax.lax.map(lambda pair: self._slope(decode_again, *pair), (rows, regions))
        seen = found & (hands.presence >= self.settings.min_presence)
        weight = seen.reshape(len(x0), -1)
        weight = weight / jnp.maximum(weight.sum(axis=1, keepdims=True), 1)
        slope = jnp.einsum("bn,bnhwc->bhwc", weight, _by_picture(jnp.where(_wide(seen), slopes, 0), x0))
        penalty = (weight * _by_picture(jnp.where(seen, penalties, 0), x0)).sum(axis=1)
        gradient = self._to_noisy(slope, z, level, denoise)
        signal_to_x0 = level.sigma * self.settings.scale * scales(level.sigma)[1]
        moved = x0 - signal_to_x0 * gradient
        good = weight.any(axis=1) & jnp.isfinite(moved).all(axis=(1, 2, 3))
        log = dataclasses.replace(
            log,
            regions=jax.vmap(landmark_region)(hands.keypoints[..., :2]),
            followed=seen,
            pushed=log.pushed + (first_time & good),
            missed=log.missed + (first_time & ~good),
            first_penalty=jnp.where(good & (log.pushed == 0), penalty, log.first_penalty),
            last_penalty=jnp.where(good, penalty, log.last_penalty),
        )
        return log, jnp.where(_wide(good), moved, x0)

    def _to_noisy(self, slope: Latents, z: Latents, level: NoiseLevel, denoise: Denoise) -> Latents:
        """From the gradient in the clean latents to that in the noisy ones."""
        if self.settings.through == "denoiser":
            again = recomputed(denoise, self.settings.remat)
            gradient = jax.vjp(lambda noisy: again(noisy, level), z)[1](slope)[0]
        else:
            gradient = slope / scales(level.sigma)[0]
        if not self.settings.normalize:
            return gradient
        size = jnp.sqrt(jnp.square(gradient).mean(axis=(1, 2, 3), keepdims=True))
        return gradient / jnp.where(size > 0, size, 1)

    def _regions(self, decode, log: AnatomyLog, x0: Latents) -> tuple[Region, Bool[Array, " hands"]]:
        """Where to read: about the hands of the step before; pictures without one are searched for palms."""
        followed = log.followed.reshape(len(x0), -1)
        search = ~followed.any(axis=1, keepdims=True)

        def find():
            regions, found = jax.lax.map(lambda latents: self._find(decode, latents), x0)
            mixed = jax.tree.map(
                lambda new, old: jnp.where(_wide(search, new), new, old.reshape(new.shape)), regions, log.regions
            )
            flat = jax.tree.map(lambda leaf, old: leaf.reshape(old.shape), mixed, log.regions)
            return flat, jnp.where(search, found, followed).ravel()

        return jax.lax.cond(search.any(), find, lambda: (log.regions, log.followed))

    def _find(self, decode, latents: Float[Array, "h w c"]) -> tuple[Region, Bool[Array, " hands"]]:
        return find_in_margin(self.weights, decode(latents[None])[0], self.settings.hands, self.settings.min_presence)

    def _slope(self, decode, latents: Float[Array, "h w c"], region: Region):
        """Gradient of one hand's loss in a picture's latents, its penalty, and the hand."""

        def loss(latents):
            hand = self._read(decode, latents, region)
            penalty = hand_penalty(hand)
            hold = -jnp.log(jnp.maximum(hand.presence, LEAST_PRESENCE))
            return penalty + self.settings.keep * hold, (penalty, hand)

        (_, (penalty, hand)), slope = jax.value_and_grad(loss, has_aux=True)(latents)
        return slope, penalty, hand

    def _read(self, decode, latents: Float[Array, "h w c"], region: Region) -> Hands:
        """Decodes a picture, or the square about a region, and reads the hand in the region."""
        image, origin = decode_about(decode, latents, region.center, self.settings.cells)
        moved = dataclasses.replace(region, center=region.center - origin)
        hand = read_hand(self.weights, as_picture(image), moved, 0.0)
        return dataclasses.replace(hand, keypoints=hand.keypoints.at[:, :2].add(origin))


def hand_penalty(hand: Hands) -> Float[Array, ""]:
    """The anatomy penalty of one hand that was read, of the side it is, or seems to be."""
    right, left = (anatomy_penalty(measure(hand.world, jnp.array(side))) for side in (True, False))
    surely = jnp.where(hand.right >= 0.5, right, left)
    return jnp.where(jnp.abs(hand.right - 0.5) < SURE_OF_SIDE - 0.5, jnp.minimum(right, left), surely)


def _by_picture(values: Array, x0: Latents) -> Array:
    return values.reshape(len(x0), -1, *values.shape[1:])


def _wide(flags: Array, like: Array | None = None) -> Array:
    """Flags with axes of length 1, to be spread over latents or over `like`."""
    dims = 4 if like is None else like.ndim
    return flags.reshape(flags.shape + (1,) * (dims - flags.ndim))
