"""MGHanD: inside the cumulative hand mask, a discriminator and a low-rank adapter lead sampling to real hands.

In the steps of a window in t, hands are looked for in the clean latents that the network sees, the mask grows, and two
moves are added to the noise inside it: away from what a discriminator takes for a generated hand (visual), and towards
what the network predicts with the adapter (textual). Everything is inside the jitted sampler. Where no hand is ever
found nothing is moved, and the guide says so.
"""

import dataclasses
from functools import partial
from typing import Any, Literal, Protocol

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from handjax.adapters.lora import LoRA, lora_applied
from handjax.diffusion.samplers import Latents, noise_in
from handjax.diffusion.sampling import Decode, Denoise, Guide, Repeats
from handjax.diffusion.schedules import NoiseLevel, scales
from handjax.diffusion.unet import UNet
from handjax.guidance.hand_mask import HandMask, MaskSettings, look_for_hands
from handjax.guidance.seeing import cut_square, decode_about
from handjax.perception.flax_backend import HandWeights
from handjax.training.remat import recomputed

CROP_SCALE = 1.5
"""Side of the square that the discriminator sees, in longer sides of the tight box (DECISIONS C5)."""
Cells = Float[Array, "batch h w 1"]


class Critic(Protocol):
    """Tells real hands from generated ones; a pytree of its weights."""

    @property
    def size(self) -> int:
        """Side of the crops that it reads."""

    def __call__(
        self, crops: Float[Array, "batch size size 3"], context: Float[Array, "batch words embed"]
    ) -> Float[Array, " batch"]:
        """Scores of crops in [-1, 1] for text embeddings of their prompts; the greater, the more real."""


@dataclasses.dataclass(frozen=True)
class MGHandSettings:
    """When and how hard the guide pushes.

    Args:
        textual: v, weight of the adapter's move; 0 leaves it out.
        visual: w, share of the noise inside the mask that the discriminator moves; 0 leaves it out.
        window: least and greatest timestep in which it pushes.
        every: the moves are worked out in each n-th step of the window, beginning with the first; those between make
            the same moves of the noise again, which costs nothing.
        recurrences: how often each step of the window is taken inside the mask
            (`handjax.diffusion.sampling.sample`).
        through: "denoiser" differentiates the network too, as the method is written; "latent" takes the noise in the
            latents as given, which saves the network's gradient.
        cells: side of the latent square about a hand that is decoded for its gradient; the whole picture is decoded for
            a hand that does not fit, and for all with None, as the method is written.
        masked: False moves the whole of a picture in which a hand was found (the ablation of the mask).
        remat: what of decoding and of the network is kept for the gradient, of `handjax.training.remat`; the rest is
            computed again, which takes less memory and more time.
        mask: how the mask grows.

    Source:
        MGHanD's method; DECISIONS C1 to C3.
    """

    textual: float = 1.0
    visual: float = 0.1
    window: tuple[float, float] = (150.0, 650.0)
    every: int = 5
    recurrences: int = 1
    through: Literal["denoiser", "latent"] = "latent"
    cells: int | None = 32
    masked: bool = True
    remat: str = "none"
    mask: MaskSettings = MaskSettings()


@flax.struct.dataclass
class MGHandLog:
    """The guide's carry: its mask, and what it did in each step inside the window.

    A step that is taken several times is one step, so that a picture is the same whatever others of its batch need. The
    last time is what is kept of it.

    Attributes:
        mask: so far.
        turn: by what the last moves turned the noise, with the sign that the clean latents have; nothing but in
            pictures where a hand had been found.
        visited: steps inside the window so far.
        timesteps: of the steps.
        area: of the mask, share of the picture.
        textual: the adapter's move over the noise, both inside the mask; NaN where the picture was not moved by it.
        loss: of the discriminator, before the move; likewise.
        pushed: steps in which a picture was moved.
    """

    mask: HandMask
    turn: Latents
    visited: Int[Array, ""]
    timesteps: Float[Array, " steps"]
    area: Float[Array, "steps batch"]
    textual: Float[Array, "steps batch"]
    loss: Float[Array, "steps batch"]
    pushed: Int[Array, " batch"]


@flax.struct.dataclass
class MGHandGuide:
    """Guidance by a discriminator, an adapter, or both; a pytree of their weights.

    Among several guides it is to be the first, for it compares the adapter's estimate with the model's own.

    Args:
        weights: of the perception.
        lora: of the UNet; None leaves textual guidance out.
        critic: the discriminator; None leaves visual guidance out.
        settings: when and how hard it pushes.
        steps: of the sampler, which says how long the log is.
        factor: of the autoencoder, pixels a cell of the latents.
    """

    weights: HandWeights
    lora: LoRA | None
    critic: Any
    settings: MGHandSettings = flax.struct.field(pytree_node=False)
    steps: int = flax.struct.field(pytree_node=False)
    factor: int = flax.struct.field(pytree_node=False)

    def start(self, latents: Latents) -> MGHandLog:
        """The carry before the first step."""
        batch, height, width = latents.shape[:3]
        unknown = jnp.full((self.steps, batch), jnp.nan)
        return MGHandLog(
            mask=HandMask.empty(batch, self.factor * height, self.factor * width, self.settings.mask.hands),
            turn=jnp.zeros(latents.shape, jnp.float32),
            visited=jnp.int32(0),
            timesteps=jnp.full(self.steps, jnp.nan),
            area=unknown,
            textual=unknown,
            loss=unknown,
            pushed=jnp.zeros(batch, jnp.int32),
        )

    @property
    def repeats(self) -> Repeats | None:
        """How often the sampler takes a step where the guide moves latents; None where each is taken once."""
        if self.settings.recurrences == 1:
            return None

        def repeats(level: NoiseLevel, log: MGHandLog):
            return jnp.where(self._cells(log.mask) & self._inside(level), self.settings.recurrences, 1)

        return repeats

    def steer(self, decode: Decode, context: Float[Array, "batch words embed"]) -> Guide:
        """Makes the sampler's guide: ε + M·(v·(ε_LoRA - ε) + w·g), ε after classifier-free guidance.

        Args:
            decode: pictures in [-1, 1] of clean latents; differentiable.
            context: text embedding of the prompts, which the discriminator is told.

        Source:
            MGHanD's method; DECISIONS C2, C3.
        """

        def guide(log: MGHandLog, z: Latents, level: NoiseLevel, x0: Latents, denoise: Denoise):
            def step():
                return self._step(decode, context, log, z, level, x0, denoise)

            return jax.lax.cond(self._inside(level), step, lambda: (log, x0))

        return guide

    def tell(self, carry: MGHandLog) -> list[dict[str, Any]]:
        """What was done to each picture: status, the mask's last area, steps that moved it, and the log by step."""
        visited, timesteps = jax.device_get((carry.visited, carry.timesteps))
        columns = jax.device_get((carry.mask.area, carry.mask.full, carry.mask.found, carry.pushed))
        by_step = jax.device_get({"mask_area": carry.area, "textual": carry.textual, "loss": carry.loss})
        return [
            {
                "status": _status(int(visited), int(found), int(pushed)),
                "mask_area": _told(area),
                "mask_full": bool(full),
                "steps": int(pushed),
                "log": [
                    {"t": float(t)} | {name: _told(values[step, picture]) for name, values in by_step.items()}
                    for step, t in enumerate(timesteps[:visited])
                ],
            }
            for picture, (area, full, found, pushed) in enumerate(zip(*columns, strict=True))
        ]

    def _inside(self, level: NoiseLevel) -> Bool[Array, ""]:
        low, high = self.settings.window
        return (level.timestep >= low) & (level.timestep <= high)

    def _cells(self, mask: HandMask) -> Bool[Array, "batch h w 1"]:
        """Where latents are moved."""
        cells = mask.cells(self.factor) > 0
        return cells if self.settings.masked else jnp.broadcast_to(_wide(mask.found > 0), cells.shape)

    def _step(self, decode, context, log: MGHandLog, z, level, x0, denoise) -> tuple[MGHandLog, Latents]:
        def look():
            return log.mask.grown(*look_for_hands(self.weights, decode, x0, self.settings.mask), self.settings.mask)

        first_time = (log.visited == 0) | (log.timesteps[log.visited - 1] != level.timestep)
        step = log.visited + first_time - 1
        mask = jax.lax.cond(step % self.settings.mask.every == 0, look, lambda: log.mask)
        found = mask.found > 0
        cells = self._cells(mask).astype(x0.dtype)
        nothing = jnp.full(len(z), jnp.nan)

        def push():
            turn, textual, loss = self._push(decode, context, mask, cells, z, level, x0, denoise)
            good = found & jnp.isfinite(turn).all(axis=(1, 2, 3))
            return jnp.where(_wide(good), turn, 0), textual, loss

        active = (step % self.settings.every == 0) & found.any()
        turn, textual, loss = jax.lax.cond(active, push, lambda: (log.turn, nothing, nothing))
        move = level.sigma * cells * turn  # Δx0 = -σ·Δε
        moved = (move != 0).any(axis=(1, 2, 3))
        log = MGHandLog(
            mask=mask,
            turn=turn,
            visited=step + 1,
            timesteps=log.timesteps.at[step].set(level.timestep),
            area=log.area.at[step].set(mask.area),
            textual=log.textual.at[step].set(jnp.where(found, textual, jnp.nan)),
            loss=log.loss.at[step].set(loss),
            pushed=log.pushed + (moved & first_time),
        )
        return log, jnp.where(_wide(moved), x0 + move, x0)

    def _push(self, decode, context, mask: HandMask, cells: Cells, z, level, x0, denoise):
        """-Δε, whose part inside the mask is to be moved by, the adapter's share in it, the discriminator's loss."""
        turn, size = jnp.zeros_like(x0), _size(cells, noise_in(z, x0, level.sigma))
        textual = loss = jnp.full(len(z), jnp.nan)
        if self.lora is not None and self.settings.textual:
            with lora_applied(self.lora, network=UNet):
                turn += self.settings.textual * (denoise(z, level) - x0) / level.sigma
            textual = _size(cells, turn) / jnp.where(size > 0, size, 1)
        if self.critic is not None and self.settings.visual:
            slope, loss = self._slope(decode, context, mask, x0)
            gradient = self._to_noisy(slope, z, level, denoise)
            length = _size(cells, gradient)
            share = self.settings.visual * size / jnp.where(length > 0, length, 1)
            turn -= gradient * _wide(share)
        return turn, textual, loss

    def _slope(self, decode, context, mask: HandMask, x0: Latents) -> tuple[Latents, Float[Array, " batch"]]:
        """Gradient of the discriminator's loss in the clean latents, picture by picture."""
        decode = recomputed(decode, self.settings.remat)

        def loss(latents, boxes, seen, context, cells):
            whole = None if cells else decode(latents[None])
            look = decode if whole is None else lambda _: whole

            def of_hand(box):
                score = self.critic(self._crop(look, latents, box, cells)[None], context[None])[0]
                return jax.nn.softplus(-score)

            hands = (boxes, seen)
            losses = jax.lax.map(lambda hand: jax.lax.cond(hand[1], of_hand, lambda _: 0.0, hand[0]), hands)
            return losses.sum() / jnp.maximum(seen.sum(), 1)

        cells = self.settings.cells
        by_square = jax.value_and_grad(partial(loss, cells=cells))
        by_whole = jax.value_and_grad(partial(loss, cells=None))

        def one(inputs):
            _, boxes, seen, _ = inputs
            if cells is None or cells >= max(x0.shape[1:3]):
                value, slope = by_whole(*inputs)
            else:
                # the square begins at the cell nearest to where it should; chosen outside of the gradient, which would
                # keep what both ways need
                fits = jax.vmap(_side)(boxes) <= self.factor * (min(cells, *x0.shape[1:3]) - 1)
                value, slope = jax.lax.cond((fits | ~seen).all(), by_square, by_whole, *inputs)
            return slope, jnp.where(seen.any(), value, jnp.nan)

        return jax.lax.map(one, (x0, mask.boxes, mask.seen, context))

    def _crop(
        self, decode, latents: Float[Array, "h w c"], box: Float[Array, "4"], cells: int | None
    ) -> Float[Array, "size size 3"]:
        """The square about a hand, decoded, in [-1, 1]."""
        center = (box[:2] + box[2:]) / 2
        image, origin = decode_about(decode, latents, center, cells)
        longest = CROP_SCALE * self.factor * max(latents.shape[:2])
        return cut_square(image, center - origin, _side(box), self.critic.size, longest)

    def _to_noisy(self, slope: Latents, z: Latents, level: NoiseLevel, denoise: Denoise) -> Latents:
        """From the gradient in the clean latents to that in the noisy ones."""
        if self.settings.through == "denoiser":
            again = recomputed(denoise, self.settings.remat)
            return jax.vjp(lambda noisy: again(noisy, level), z)[1](slope)[0]
        return slope / scales(level.sigma)[0]


def _side(box: Float[Array, "4"]) -> Float[Array, ""]:
    """Of the square that the discriminator sees of a hand, pixels."""
    return jnp.maximum(CROP_SCALE * jnp.maximum(box[2] - box[0], box[3] - box[1]), 1.0)


def _size(cells: Cells, values: Latents) -> Float[Array, " batch"]:
    """Length of a picture's values inside the mask."""
    return jnp.sqrt(jnp.square(cells * values).sum(axis=(1, 2, 3)))


def _wide(values: Float[Array, " batch"] | Bool[Array, " batch"]) -> Array:
    return values[:, None, None, None]


def _status(visited: int, found: int, pushed: int) -> str:
    """What became of a picture in so many steps, with hands found in so many looks and moved in so many steps."""
    if pushed:
        return "guided"
    if not visited:
        return "no step in the window"
    return "hand found, nothing moved" if found else "no hand found"


def _told(value: Any) -> float | None:
    """A number of the log, rounded; None for NaN."""
    return None if value != value else round(float(value), 4)
