"""The cumulative hand mask: where a hand has been seen in any step so far, there guidance may act."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from handjax.diffusion.inpainting import latent_mask
from handjax.diffusion.samplers import Latents
from handjax.diffusion.sampling import Decode
from handjax.guidance.seeing import as_picture, find_in_margin
from handjax.perception.flax_backend import HandWeights, read_hand
from handjax.perception.landmarks import drop_duplicates

SHRINKS = 20
"""A box that would make the mask too large is tried in so many sizes, evenly spaced."""


@dataclasses.dataclass(frozen=True)
class MaskSettings:
    """How the mask grows.

    Args:
        every: hands are looked for in each n-th step, beginning with the first.
        threshold: least score of a palm and least presence of a hand.
        hands: most hands of a picture in one step.
        dilation: by which boxes grow on every edge, in shares of their longer side.
        cap: largest share of the picture.

    Source:
        DECISIONS C6; the dilation is that of repair's masks, DECISIONS B4.
    """

    every: int = 5
    threshold: float = 0.3
    hands: int = 2
    dilation: float = 0.15
    cap: float = 0.35


@flax.struct.dataclass
class HandMask:
    """The mask, and what made it.

    Attributes:
        pixels: where guidance may act.
        boxes: tight boxes x0, y0, x1, y1 of the hands of the last look that found any, pixels.
        seen: which of them are hands.
        found: looks in which a picture had a hand.
        full: whether the cap has kept a box out or made one smaller.
    """

    pixels: Bool[Array, "batch height width"]
    boxes: Float[Array, "batch hands 4"]
    seen: Bool[Array, "batch hands"]
    found: Int[Array, " batch"]
    full: Bool[Array, " batch"]

    @classmethod
    def empty(cls, batch: int, height: int, width: int, hands: int) -> "HandMask":
        """Before the first look."""
        return cls(
            pixels=jnp.zeros((batch, height, width), bool),
            boxes=jnp.zeros((batch, hands, 4)),
            seen=jnp.zeros((batch, hands), bool),
            found=jnp.zeros(batch, jnp.int32),
            full=jnp.zeros(batch, bool),
        )

    @property
    def area(self) -> Float[Array, " batch"]:
        """Share of the picture."""
        return self.pixels.mean(axis=(1, 2))

    def cells(self, factor: int) -> Float[Array, "batch h w 1"]:
        """The mask in latents, `factor` pixels a cell: a cell with any pixel of it is in it."""
        return latent_mask(self.pixels[..., None].astype(jnp.float32), factor)

    def grown(
        self, boxes: Float[Array, "batch hands 4"], seen: Bool[Array, "batch hands"], settings: MaskSettings
    ) -> "HandMask":
        """Adds the dilated boxes of one look, the surest first; the mask never loses a pixel.

        A box that would take the mask over the cap is made smaller about its centre until it does not.

        Args:
            boxes: tight, pixels; the centre of the first pixel is at 0.
            seen: which of them are hands.
            settings: of dilation and cap.
        """

        def grow(pixels, boxes, seen):
            full = jnp.zeros((), bool)
            for box, is_hand in zip(boxes, seen, strict=True):
                wider, cut = _add_box(pixels, _dilate(box, settings.dilation), settings.cap)
                pixels, full = jnp.where(is_hand, wider, pixels), full | (is_hand & cut)
            return pixels, full

        pixels, full = jax.vmap(grow)(self.pixels, boxes, seen)
        found = seen.any(axis=1)
        return HandMask(
            pixels=pixels,
            boxes=jnp.where(found[:, None, None], boxes, self.boxes),
            seen=jnp.where(found[:, None], seen, self.seen),
            found=self.found + found,
            full=self.full | full,
        )


def look_for_hands(
    weights: HandWeights, decode: Decode, x0: Latents, settings: MaskSettings
) -> tuple[Float[Array, "batch hands 4"], Bool[Array, "batch hands"]]:
    """Decodes pictures and looks for hands in them, one picture after the other.

    Args:
        weights: of the perception.
        decode: pictures of latents.
        x0: clean latents.
        settings: how many hands, and how sure.

    Returns:
        Tight boxes of their keypoints, pixels, and which of them are hands.
    """

    def look(latents):
        image = decode(latents[None])[0]
        regions, found = find_in_margin(weights, image, settings.hands, settings.threshold)
        read = jax.vmap(read_hand, in_axes=(None, None, 0, None))
        hands = read(weights, as_picture(image), regions, settings.threshold)
        hands = drop_duplicates(dataclasses.replace(hands, valid=hands.valid & found))
        places = hands.keypoints[..., :2]
        return jnp.concatenate([places.min(axis=1), places.max(axis=1)], axis=-1), hands.valid

    return jax.lax.map(look, x0)


def _dilate(box: Float[Array, "4"], share: float) -> Float[Array, "4"]:
    margin = share * jnp.maximum(box[2] - box[0], box[3] - box[1])
    return box + margin * jnp.array([-1, -1, 1, 1])


def _add_box(
    pixels: Bool[Array, "height width"], box: Float[Array, "4"], cap: float
) -> tuple[Bool[Array, "height width"], Bool[Array, ""]]:
    """The mask with as much of a box as the cap allows, and whether that is not all of it."""
    rows, columns = (jnp.arange(length, dtype=jnp.float32) for length in pixels.shape)
    center, reach = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2

    def union(size):
        x, y = jnp.abs(columns - center[0]) <= size * reach[0], jnp.abs(rows - center[1]) <= size * reach[1]
        return pixels | (y[:, None] & x[None])

    sizes = jnp.arange(SHRINKS, 0, -1) / SHRINKS
    fits = jax.lax.map(lambda size: union(size).mean() <= cap, sizes)
    largest = jnp.argmax(fits)
    return jnp.where(fits.any(), union(sizes[largest]), pixels), ~fits[0]
