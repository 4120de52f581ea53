"""Pictures from prompts, by a text-to-image model or by an inpainting model that paints everything."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree, UInt8

from handjax.adapters.controlnet import ControlNet, sum_residuals
from handjax.diffusion.inpainting import text_to_image
from handjax.diffusion.model import StableDiffusion
from handjax.diffusion.prompts import embed_prompts, tokenize_prompts
from handjax.diffusion.samplers import Sampler
from handjax.diffusion.sampling import Steering, guided_denoise, sample, steered
from handjax.errors import WeightsError
from handjax.inference.finite import finite_pictures, to_bytes


@dataclasses.dataclass(frozen=True)
class Wish:
    """A picture to make.

    Args:
        prompt: what it shows, in the notation of `handjax.diffusion.prompts`.
        negative: what guidance leads away from, in the same notation.
        seed: of all its noise, in [0, 2³²); the picture depends on no other wish.
    """

    prompt: str
    negative: str = ""
    seed: int = 0


@flax.struct.dataclass
class Control:
    """A ControlNet at work. A pytree of all but the network.

    Args:
        network: the module.
        params: its parameters.
        picture: the condition, in [0, 1], at the size of the pictures to make.
        scale: of the residuals.
        guess: follow the picture where the prompt tells little: the branch of guidance without the prompt is not
            controlled, and finer levels are controlled less.

    Source:
        Zhang et al. 2023, section 3.3 (guess mode).
    """

    network: ControlNet = flax.struct.field(pytree_node=False)
    params: Any
    picture: Float[Array | np.ndarray, "height width channels"]
    scale: float = 1.0
    guess: bool = flax.struct.field(pytree_node=False, default=False)


@dataclasses.dataclass(frozen=True)
class Generator:
    """Makes pictures from prompts.

    Args:
        model: text-to-image or inpainting.
        sampler: the sampler.
        size: (height, width) in pixels, multiples of the autoencoder's factor.
        guidance_scale: of the prompt; 1 leaves the negative prompt out.
        batch: pictures made at once.
        controls: ControlNets, whose residuals are added up.
        steering: what else leads the sampler; a pytree.

    Raises:
        WeightsError: the model's UNet reads more than latents, or than an inpainting model's does.
    """

    model: StableDiffusion
    sampler: Sampler
    size: tuple[int, int]
    guidance_scale: float = 7.5
    batch: int = 1
    controls: tuple[Control, ...] = ()
    steering: Steering | None = None

    def __post_init__(self):
        channels, latents = self.model.unet.config.in_channels, self.model.vae.config.latent_channels
        if channels not in (latents, 2 * latents + 1):
            raise WeightsError(
                f"the model's UNet takes {channels} channels; give a text-to-image model, whose takes {latents}, or an "
                f"inpainting model, whose takes {2 * latents + 1}"
            )

    def __call__(self, wishes: Sequence[Wish]) -> Iterator[tuple[Wish, UInt8[np.ndarray, "height width 3"]]]:
        """Makes pictures as `steered` does, and says nothing of the steering."""
        return ((wish, image) for wish, image, _ in self.steered(wishes))

    def steered(
        self, wishes: Sequence[Wish]
    ) -> Iterator[tuple[Wish, UInt8[np.ndarray, "height width 3"], dict[str, Any]]]:
        """Makes pictures batch by batch, those whose prompts have equally many chunks together.

        A program is compiled for each number of chunks that occurs; the last batch is filled up for that reason.

        Args:
            wishes: the pictures to make.

        Yields:
            A wish, its picture and what the steering tells of it; wishes with longer prompts come last.

        Raises:
            WeightsError: a picture is not finite.
        """
        for _, group in itertools.groupby(sorted(wishes, key=self._chunks), self._chunks):
            members = list(group)
            for start in range(0, len(members), self.batch):
                asked = members[start : start + self.batch]
                filled = asked + [asked[-1]] * (self.batch - len(asked))
                prompts = [wish.negative for wish in filled] + [wish.prompt for wish in filled]
                tokens = tokenize_prompts(self.model.tokenizer, prompts)
                seeds = np.array([wish.seed for wish in filled], np.uint32)
                inputs = (self.model, self.controls, self.steering, tokens, seeds)
                painted, carry = _generate(self.sampler, self.guidance_scale, self.size, *inputs)
                told = self.steering.tell(carry) if self.steering else [{}] * self.batch
                yield from zip(asked, finite_pictures(*painted), told, strict=False)

    def _chunks(self, wish: Wish) -> int:
        return tokenize_prompts(self.model.tokenizer, [wish.negative, wish.prompt]).ids.shape[1]


def paint_from_text(
    model: StableDiffusion,
    sampler: Sampler,
    guidance_scale: float,
    context: Float[Array, "batch words embed"],
    negative_context: Float[Array, "batch words embed"],
    noise: Float[Array, "batch h w latent"],
    rng: Key[Array, "*batch"],
    controls: Sequence[Control] = (),
    steering: Steering | None = None,
) -> tuple[Float[Array, "batch height width 3"], PyTree]:
    """Paints whole pictures.

    Args:
        model: text-to-image; an inpainting model is told that all is to be painted and shown a grey picture.
        sampler: the sampler.
        guidance_scale: of the prompt; 1 leaves the negative prompt out.
        context: text embedding of the prompts.
        negative_context: text embedding of the negative prompts.
        noise: standard normal, where sampling starts.
        rng: keys of the fresh noise of stochastic samplers, as `sample` takes them.
        controls: ControlNets; they see both branches of the guidance unless they guess.
        steering: what else leads the sampler.

    Returns:
        The decoded pictures, nominally in [-1, 1], and the last carry of the steering's guide.
    """
    height, width = (side * model.vae.config.factor for side in noise.shape[1:3])
    paint = text_to_image(model, (height, width))

    def predict(z, timesteps, context):
        unprompted = len(z) - len(noise)
        residuals = [_control(control, z, timesteps, context, unprompted) for control in controls]
        return paint(z, timesteps, context, **(sum_residuals(residuals) if residuals else {}))

    denoise = guided_denoise(predict, model.schedule, context, negative_context, guidance_scale)
    latents, carry = sample(sampler, denoise, noise, rng, **steered(steering, model.decode, context, noise))
    return model.decode(latents), carry


def _control(control: Control, z, timesteps, context, unprompted: int):
    """Residuals for a batch whose first `unprompted` rows are the branch without the prompt."""
    first = unprompted if control.guess else 0
    inputs = (rows[first:] for rows in (z, timesteps, context))
    picture = jnp.broadcast_to(control.picture, (len(z) - first, *control.picture.shape))
    residuals = control.network.apply({"params": control.params}, *inputs, picture, control.scale, control.guess)
    return jax.tree.map(lambda added: jnp.pad(added, ((first, 0), (0, 0), (0, 0), (0, 0))), residuals)


@partial(jax.jit, static_argnames=("sampler", "guidance_scale", "size"))
def _generate(sampler, guidance_scale, size, model, controls, steering, tokens, seeds):
    """`tokens` has the negative prompts first, then the prompts."""
    factor, latents = model.vae.config.factor, model.vae.config.latent_channels
    shape = (size[0] // factor, size[1] // factor, latents)
    noise_keys, step_keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)), out_axes=1)(seeds)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(noise_keys)
    negative_context, context = jnp.split(embed_prompts(model, tokens), 2)
    painted, carry = paint_from_text(
        model, sampler, guidance_scale, context, negative_context, noise, step_keys, controls, steering
    )
    return to_bytes(painted), carry
