"""What MGHanD's guidance costs at the size of Stable Diffusion 1.5, added up: `launch.bench mghand_cost`.

A whole guided picture takes an hour on a CPU. So each kind of step is timed alone, with random weights, and the hand is
given, for random weights draw none.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handjax.adapters.lora import initial_factors, lora_applied, lora_of
from handjax.diffusion.inpainting import text_to_image
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.diffusion.samplers import DDIM
from handjax.diffusion.sampling import guided_denoise
from handjax.diffusion.schedules import NoiseLevel
from handjax.diffusion.shapes import SHAPES_ONLY
from handjax.diffusion.unet import UNet
from handjax.guidance.discriminator import Discriminator, DiscriminatorConfig, head_shapes
from handjax.guidance.hand_mask import MaskSettings, look_for_hands
from handjax.guidance.mghand import MGHandGuide, MGHandSettings
from handjax.perception.detector import TASK_FILE
from handjax.perception.dino import DINOConfig, dino_shapes
from handjax.perception.flax_backend import HandWeights, load_weights
from handjax.tasks.slider import is_adapted
from handjax.training import ahead
from handjax.training.roofline import GIB
from launch.timing import seconds

MODEL = f"{SHAPES_ONLY}stable-diffusion-v1-5/stable-diffusion-v1-5"
SIDE, STEPS, SCALE, RANK = 512, 100, 7.5, 4
HAND = (180.0, 200.0, 320.0, 340.0)
"""Tight box: 140 pixels, so that the discriminator's crop is 210."""
LEVEL = NoiseLevel(jnp.float32(400.0), jnp.float32(1.5))
LITERAL = MGHandSettings(every=1, through="denoiser", cells=None, mask=MaskSettings(every=1))
BOUNDS = {"default": 1.5, "literal": 6.0}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one kind of step: median seconds, and GiB at the worst moment by the compiler's account."""

    seconds: float
    gib: float


def bench_mghand_cost(runs: int, model: str = MODEL, side: int = SIDE) -> Iterator[dict[str, Any]]:
    """Every kind of step, then DDIM's 100 steps by the default settings and as the method is written.

    Args:
        runs: of each kind of step.
        model: whose sizes, as `load_stable_diffusion` takes it.
        side: of the pictures in pixels.
    """
    settings = {"default": MGHandSettings(), "literal": LITERAL}
    costs = {}
    for name, cost in measure(jax.device_put(drawn(model)), side, settings, runs):
        costs[name] = cost
        yield {"name": f"mghand, {name}", "ours": cost.seconds, "unit": "s", "runs": runs}
    for name, chosen in settings.items():
        yield total_item(name, chosen, costs, runs)


def total_item(name: str, settings: MGHandSettings, costs: dict[str, Cost], runs: int) -> dict[str, Any]:
    """Guided and unguided seconds of a picture with one hand that shows from the first look on."""
    counts = count_steps(settings)
    plain = STEPS * costs["step"].seconds + costs["decode"].seconds
    extra = sum(count * costs[step].seconds for step, count in counts.items())
    return {
        "name": f"mghand {name}, {STEPS} steps of DDIM",
        "ours": plain + extra,
        "peer": plain,
        "peer_name": "without",
        "ratio": 1 + extra / plain,
        "ratio_bound": BOUNDS[name],
        "unit": "s",
        "runs": runs,
        "counts": counts,
        "peak_gib": max(costs[step].gib for step in ("step", "decode", *counts)),
        "peer_peak_gib": max(costs[step].gib for step in ("step", "decode")),
        "peak_of": "one step at a time; the gradient of one of the prompt's two branches",
    }


def count_steps(settings: MGHandSettings) -> dict[str, int]:
    """How often each kind of step is taken besides the sampler's own."""
    sampler = DDIM(load_stable_diffusion(MODEL).schedule, STEPS)
    inside = sum(settings.window[0] <= t <= settings.window[1] for t in sampler.trajectory().timesteps)
    pushes, looks = math.ceil(inside / settings.every), math.ceil(inside / settings.mask.every)
    visual = "visual, whole picture" if settings.cells is None else "visual, crop"
    counts = {"look": looks, "step with the adapter": pushes, visual: pushes}
    return counts | ({"gradient of the step": pushes} if settings.through == "denoiser" else {})


def measure(
    model: StableDiffusion, side: int, settings: dict[str, MGHandSettings], runs: int
) -> Iterator[tuple[str, Cost]]:
    """Times each kind of step."""
    cells, rng = side // model.vae.config.factor, np.random.default_rng(0)
    width = model.unet.config.cross_attention_dim
    z = jnp.float32(rng.normal(size=(1, cells, cells, model.vae.config.latent_channels)))
    context = jnp.float32(rng.normal(size=(1, model.tokenizer.length, width)))
    draw = functools.partial(initial_factors, jax.random.key(0), wanted=is_adapted, rank=RANK)
    adapter = drawn_tree(jax.eval_shape(draw, model.unet_params))

    def denoise(model, z, scale=SCALE):
        predict = text_to_image(model, (side, side))
        return guided_denoise(predict, model.schedule, context, jnp.zeros_like(context), scale)(z, LEVEL)

    def adapted(model, z, adapter):
        with lora_applied(lora_of(adapter, 1.0), network=UNet):
            return denoise(model, z)

    def gradient(model, z):
        # one of the two branches at a time, as less memory allows
        return jax.vjp(lambda noisy: denoise(model, noisy, 1.0), z)[1](jnp.ones_like(z))[0]

    weights = load_weights(TASK_FILE)
    yield "step", time(denoise, model, z, runs=runs)
    yield "step with the adapter", time(adapted, model, z, adapter, runs=runs)
    one = time(gradient, model, z, runs=runs)
    yield "gradient of the step", dataclasses.replace(one, seconds=2 * one.seconds)
    yield "decode", time(lambda model, z: model.decode(z), model, z, runs=runs)
    yield "look", time(look, weights, model, z, runs=runs)
    for name, chosen in (("visual, crop", settings["default"]), ("visual, whole picture", settings["literal"])):
        alone = dataclasses.replace(chosen, textual=0.0, through="latent")
        guide = visual_guide(weights, alone, width, model.vae.config.factor)
        yield name, time(push, guide, model, z, context, runs=runs)


def look(weights: HandWeights, model: StableDiffusion, z):
    """Decodes the picture and looks for hands."""
    return look_for_hands(weights, model.decode, z, MGHandSettings().mask)


def push(guide: MGHandGuide, model: StableDiffusion, z, context):
    """The guide's step between two looks, with a hand at `HAND`: decoding, discriminator and their gradient."""
    log = guide.start(z)
    boxes = jnp.tile(jnp.float32(HAND) * z.shape[1] * guide.factor / SIDE, (1, guide.settings.mask.hands, 1))
    mask = log.mask.grown(boxes, jnp.arange(guide.settings.mask.hands)[None] == 0, guide.settings.mask)
    log = dataclasses.replace(log, mask=mask, calls=jnp.int32(guide.settings.every * 1_000_003))
    return guide.steer(model.decode, context)(log, z, LEVEL, 0.5 * z, lambda z, level: z)[1]


def visual_guide(weights: HandWeights, settings: MGHandSettings, width: int, factor: int) -> MGHandGuide:
    """A guide by a discriminator on DINO alone, which looks for hands in its first step only."""
    config = DiscriminatorConfig("dino_vits16", 224, width)
    critic = Discriminator(drawn_tree(head_shapes(config)), drawn_tree(dino_shapes(DINOConfig())), config)
    mask = dataclasses.replace(settings.mask, every=2**30)
    return MGHandGuide(weights, None, critic, dataclasses.replace(settings, mask=mask), STEPS, factor)


def drawn(name: str) -> StableDiffusion:
    """A model with random weights."""
    return drawn_tree(load_stable_diffusion(name))


def drawn_tree(shapes: Any) -> Any:
    """Random values of these shapes, small enough for networks of them to stay finite."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: 0.02 * rng.standard_normal(leaf.shape, np.float32), shapes)


def time(function: Callable[..., Any], *arguments: Any, runs: int) -> Cost:
    """Compiles a function and times it."""
    arguments = jax.device_put(arguments)
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    times = [seconds(lambda: compiled(*arguments)) for _ in range(runs)]
    return Cost(statistics.median(times), ahead.memory_of(compiled).peak / GIB)
