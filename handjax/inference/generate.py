"""Pictures from prompts, by a text-to-image model or by an inpainting model that paints everything."""

import dataclasses
import itertools
import logging
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
from handjax.diffusion.prompts import PromptTokens, embed_prompts, tokenize_prompts
from handjax.diffusion.samplers import Sampler
from handjax.diffusion.sampling import Steering, guided_denoise, sample, steered
from handjax.errors import WeightsError
from handjax.hand.words import hand_words, told_by
from handjax.inference.finite import finite_pictures, to_bytes

log = logging.getLogger(__name__)


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
        picture: the condition, in [0, 1], at the size of the pictures to make; one for all, or one each.
        scale: of the residuals.
        guess: follow the picture where the prompt tells little: the branch of guidance without the prompt is not
            controlled, and finer levels are controlled less.

    Source:
        Zhang et al. 2023, section 3.3 (guess mode).
    """

    network: ControlNet = flax.struct.field(pytree_node=False)
    params: Any
    picture: Float[Array | np.ndarray, "*batch height width channels"]
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
        self, wishes: Sequence[Wish], pictures: Sequence[Float[np.ndarray, "wishes height width channels"]] = ()
    ) -> Iterator[tuple[Wish, UInt8[np.ndarray, "height width 3"], dict[str, Any]]]:
        """Makes pictures batch by batch, those whose prompts have equally many chunks together.

        A program is compiled for each number of chunks that occurs; the last batch is filled up for that reason.

        Args:
            wishes: the pictures to make.
            pictures: for each of `controls` its condition of each wish, in place of its one for all.

        Yields:
            A wish, its picture and what the steering tells of it; wishes with longer prompts come last.

        Raises:
            WeightsError: a picture is not finite.
        """
        numbers = sorted(range(len(wishes)), key=lambda number: self._chunks(wishes[number]))
        for _, group in itertools.groupby(numbers, lambda number: self._chunks(wishes[number])):
            members = list(group)
            for start in range(0, len(members), self.batch):
                rows = members[start : start + self.batch]
                asked = [wishes[row] for row in rows]
                filled = rows + [rows[-1]] * (self.batch - len(rows))
                prompts = [wishes[row].negative for row in filled] + [wishes[row].prompt for row in filled]
                tokens = tokenize_prompts(self.model.tokenizer, prompts, hand_words)
                self._warn_of_handless(asked, tokens)
                seeds = np.array([wishes[row].seed for row in filled], np.uint32)
                inputs = (self.model, self._controls(pictures, filled), self.steering, tokens, seeds)
                painted, carry = _generate(self.sampler, self.guidance_scale, self.size, *inputs)
                told = self.steering.tell(carry) if self.steering else [{}] * self.batch
                yield from zip(asked, finite_pictures(*painted), told, strict=False)

    def _warn_of_handless(self, asked: Sequence[Wish], tokens: PromptTokens) -> None:
        """Says which prompts have no word on hands, where a ControlNet was trained with a bias on those."""
        found = np.asarray(tokens.found)[self.batch :]
        without = [wish.prompt for wish, words in zip(asked, found, strict=False) if not words.any()]
        if without and _largest_alpha(self.controls):
            told = "prompts without a word on hands (by %s), which get no bias: %d, as %r"
            log.warning(told, told_by(), len(without), without[0])

    def _controls(self, pictures, rows: list[int]) -> tuple[Control, ...]:
        if not pictures:
            return self.controls
        pairs = zip(self.controls, pictures, strict=True)
        return tuple(dataclasses.replace(control, picture=given[np.array(rows)]) for control, given in pairs)

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
    hand_tokens: Float[Array, "batch words"] | None = None,
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
        hand_tokens: 1 at words on hands of the prompts. A ControlNet that was trained with a bias on them biases its
            own cross-attention, and with the largest such bias the UNet's.

    Returns:
        The decoded pictures, nominally in [-1, 1], and the last carry of the steering's guide.
    """
    height, width = (side * model.vae.config.factor for side in noise.shape[1:3])
    paint = text_to_image(model, (height, width))

    alpha = _largest_alpha(controls)
    words = hand_tokens if alpha else None

    def predict(z, timesteps, inputs):
        context, words = inputs
        unprompted = len(z) - len(noise)
        residuals = [_control(control, z, timesteps, context, words, unprompted) for control in controls]
        added = sum_residuals(residuals) if residuals else {}
        return paint(z, timesteps, context, **added, word_bias=None if words is None else alpha * words)

    empty = jax.tree.map(jnp.zeros_like, words)
    denoise = guided_denoise(predict, model.schedule, (context, words), (negative_context, empty), guidance_scale)
    latents, carry = sample(sampler, denoise, noise, rng, **steered(steering, model.decode, context, noise))
    return model.decode(latents), carry


def _largest_alpha(controls: Sequence[Control]) -> float:
    return max((control.network.config.hand_alpha for control in controls), default=0.0)


def _control(control: Control, z, timesteps, context, words, unprompted: int):
    """Residuals for a batch whose first `unprompted` rows are the branch without the prompt."""
    first = unprompted if control.guess else 0
    inputs = (rows[first:] for rows in (z, timesteps, context))
    rows = len(z) - first
    each = control.picture if control.picture.ndim == 4 else control.picture[None]
    picture = jnp.tile(each, (rows // len(each), 1, 1, 1))  # the same for both branches of the guidance
    bias = None if words is None else control.network.config.hand_alpha * words[first:]
    residuals = control.network.apply({"params": control.params}, *inputs, picture, control.scale, control.guess, bias)
    return jax.tree.map(lambda added: jnp.pad(added, ((first, 0), (0, 0), (0, 0), (0, 0))), residuals)


@partial(jax.jit, static_argnames=("sampler", "guidance_scale", "size"))
def _generate(sampler, guidance_scale, size, model, controls, steering, tokens, seeds):
    """`tokens` has the negative prompts first, then the prompts."""
    factor, latents = model.vae.config.factor, model.vae.config.latent_channels
    shape = (size[0] // factor, size[1] // factor, latents)
    noise_keys, step_keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)), out_axes=1)(seeds)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(noise_keys)
    negative_context, context = jnp.split(embed_prompts(model, tokens), 2)
    inputs = (context, negative_context, noise, step_keys, controls, steering)
    hand_tokens = jnp.split(tokens.found, 2)[1].reshape(context.shape[:2])
    painted, carry = paint_from_text(model, sampler, guidance_scale, *inputs, hand_tokens)
    return to_bytes(painted), carry
