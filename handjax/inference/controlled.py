"""Hands are inpainted under a ControlNet."""

import dataclasses
from functools import partial
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray, UInt8

from handjax.adapters.controlnet import ControlNet
from handjax.diffusion.inpainting import Painter
from handjax.diffusion.model import StableDiffusion
from handjax.diffusion.samplers import DDIM
from handjax.inference.finite import finite_pictures, to_bytes
from handjax.inference.refine import Refiner, RepairSettings

Condition = Literal["depth", "skeleton"]
PLAIN_SETTINGS = RepairSettings(candidates=1, strengths=(1.0,))
"""One picture a hand, from noise alone."""


@flax.struct.dataclass
class Controlled:
    """A ControlNet as `Painter` takes it. A pytree of all but the network."""

    network: ControlNet = flax.struct.field(pytree_node=False)
    params: dict
    scale: float = 1.0

    def __call__(self, z, timesteps, context, picture, word_bias):
        arrays = (z, timesteps, context, picture, self.scale)
        return self.network.apply({"params": self.params}, *arrays, word_bias=word_bias)


@dataclasses.dataclass(frozen=True)
class ControlNetRefiner(Refiner):
    """Repairs hands with an inpainting model and a ControlNet, which is the `adapter`.

    Args:
      condition: the picture that the ControlNet follows.
      scale: of its residuals.

    Source:
      SGMHand, the baselines of Tables 1 and 2: inpainting under a skeleton, under a depth map.
    """

    condition: Condition = "depth"
    scale: float = 1.0

    def paint(self, images, mask, depth, skeleton, input_ids, rng, strength=1.0):
        """Repaints crops as `Refiner.paint` does, under control of the one condition alone."""
        picture = {"depth": depth, "skeleton": skeleton}[self.condition]
        control = None if picture is None else Controlled(self.adapter, self.adapter_params, self.scale)
        inputs = (images, mask, picture, input_ids)
        return paint_controlled(self.model, control, self.settings, *inputs, rng, strength=strength)


def paint_controlled(
    model: StableDiffusion,
    control: Controlled | None,
    settings: RepairSettings,
    images: Float[np.ndarray, "batch size size 3"],
    mask: Float[np.ndarray, "batch size size 1"],
    picture: Float[np.ndarray, "batch size size _"] | None,
    input_ids: Int[np.ndarray, "batch words"],
    rng: PRNGKeyArray,
    word_bias: Float[np.ndarray, "batch words"] | None = None,
    strength: float = 1.0,
) -> UInt8[np.ndarray, "batch size size 3"]:
    """Repaints crops under a ControlNet.

    Args:
      model: an inpainting model.
      control: the network; None leaves the inpainting model to itself.
      settings: of which steps and guidance scale are used.
      images: at the model's size, in [-1, 1].
      mask: 1 is to be painted.
      picture: the condition, in [0, 1]; grey ones become RGB.
      input_ids: tokens of the prompts.
      rng: key of the noise.
      word_bias: on the words of the prompts, as `Painter` takes it.
      strength: below 1 it begins with the picture (`Painter`).

    Returns:
      The whole decoded crops.

    Raises:
      WeightsError: a crop is not finite.
    """
    painter = Painter(DDIM(model.schedule, settings.steps), settings.guidance_scale, strength=strength)
    inputs = (images, mask, picture, input_ids, model.tokenizer([""]))
    return finite_pictures(*_paint(painter, model, control, *inputs, rng, word_bias))


@partial(jax.jit, static_argnames="painter")
def _paint(painter, model, control, images, mask, picture, input_ids, empty_ids, rng, word_bias):
    noise_key, sampler_key = jax.random.split(rng)
    painted = painter(
        model,
        images,
        mask,
        context=model.embed_ids(input_ids),
        empty_context=model.embed_ids(jnp.broadcast_to(empty_ids, input_ids.shape)),
        noise=model.initial_noise(jax.random.split(noise_key, len(images)), images.shape[1]),
        rng=sampler_key,
        control=control,
        condition=None if picture is None else jnp.broadcast_to(picture, (*picture.shape[:-1], 3)),
        word_bias=word_bias,
    )
    return to_bytes(painted)
