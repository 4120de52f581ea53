"""HandRefiner: hands are inpainted under a ControlNet of depth, as weakly as keeps their pose."""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from handjax.adapters.controlnet import ControlNet
from handjax.diffusion.inpainting import Painter
from handjax.diffusion.model import StableDiffusion
from handjax.diffusion.samplers import DDIM
from handjax.inference.finite import finite_pictures, to_bytes
from handjax.inference.refine import Attempt, Refiner, RepairSettings

PAPER_SETTINGS = RepairSettings(steps=50, guidance_scale=9.0, candidates=1, strengths=(1.0,))
REFERENCE_SCALE = 1.0
WEAKER_SCALES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TOLERANCE = 1.15
"""A weaker control is enough when its keypoints are off by less than this times the reference's error."""


@dataclasses.dataclass(frozen=True)
class HandRefiner(Refiner):
    """Repairs hands with an inpainting model and a ControlNet of depth, which is the `adapter`.

    Args:
      scale: of the ControlNet's residuals; None is adaptive (`search`).

    Source:
      HandRefiner (Lu et al. 2023, arXiv:2311.17957); DECISIONS B5.
    """

    scale: float | None = None

    def search(self, attempt: Callable[..., Attempt], rng: PRNGKeyArray) -> Attempt:
        """Takes the weakest control whose keypoints are about as good as those of full control, from the same noise.

        A fixed scale is tried alone; arguments and result as `Refiner.search`.
        """
        if self.scale is not None:
            return attempt(rng, scale=self.scale)
        reference = attempt(rng, scale=REFERENCE_SCALE)
        for scale in WEAKER_SCALES:
            weaker = attempt(rng, scale=scale)
            if weaker.error < TOLERANCE * reference.error:
                return weaker
        return reference

    def paint(self, images, mask, depth, skeleton, input_ids, rng, scale=None):
        """Repaints crops as `Refiner.paint` does, under control of the depth alone.

        Args:
          scale: of the ControlNet's residuals; None takes the fixed one, or full control where it is adaptive.
        """
        if scale is None:
            scale = REFERENCE_SCALE if self.scale is None else self.scale
        painter = Painter(DDIM(self.model.schedule, self.settings.steps), self.settings.guidance_scale)
        control = None if depth is None else Controlled(self.adapter, self.adapter_params, scale)
        inputs = (images, mask, depth, input_ids, self.model.tokenizer([""]))
        return finite_pictures(*paint_controlled(painter, self.model, control, *inputs, rng))


@flax.struct.dataclass
class Controlled:
    """A ControlNet as `Painter` takes it. A pytree of all but the network."""

    network: ControlNet = flax.struct.field(pytree_node=False)
    params: dict
    scale: float

    def __call__(self, z, timesteps, context, picture, word_bias):
        arrays = (z, timesteps, context, picture, self.scale)
        return self.network.apply({"params": self.params}, *arrays, word_bias=word_bias)


@partial(jax.jit, static_argnames="painter")
def paint_controlled(
    painter: Painter,
    model: StableDiffusion,
    control: Controlled | None,
    images: Float[Array, "batch size size 3"],
    mask: Float[Array, "batch size size 1"],
    picture: Float[Array, "batch size size _"] | None,
    input_ids: Int[Array, "batch words"],
    empty_ids: Int[Array, "1 words"],
    rng: PRNGKeyArray,
    word_bias: Float[Array, "batch words"] | None = None,
) -> tuple[UInt8[Array, "batch size size 3"], Bool[Array, " batch"]]:
    """Repaints crops under a ControlNet.

    Args:
      painter: the sampler and its guidance.
      model: an inpainting model.
      control: the network; None leaves the inpainting model to itself.
      images: at the model's size, in [-1, 1].
      mask: 1 is to be painted.
      picture: the condition, in [0, 1]; grey ones become RGB.
      input_ids: tokens of the prompts.
      empty_ids: tokens of the empty prompt.
      rng: key of the noise.
      word_bias: on the words of the prompts, as `Painter` takes it.

    Returns:
      What `finite_pictures` takes.
    """
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
