"""What MGHanD's guidance costs at the size of Stable Diffusion 1.5, added up: `launch.bench mghand_cost`.

A whole guided picture takes an hour on a CPU. So each kind of step is timed alone, with random weights, and the hands
are given, for random weights draw none. The kinds take turns, so that all see the same machine.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handjax.adapters.lora import initial_factors, lora_of
from handjax.diffusion.configs import TAESDConfig, VAEConfig
from handjax.diffusion.inpainting import text_to_image
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.diffusion.samplers import DDIM
from handjax.diffusion.sampling import guided_denoise
from handjax.diffusion.schedules import NoiseLevel, NoiseSchedule
from handjax.diffusion.shapes import SHAPES_ONLY
from handjax.diffusion.taesd import TAESD
from handjax.guidance.discriminator import Discriminator, DiscriminatorConfig, head_shapes
from handjax.guidance.hand_mask import HandMask, MaskSettings
from handjax.guidance.mghand import MGHandGuide, MGHandLog, MGHandSettings
from handjax.perception.detector import TASK_FILE
from handjax.perception.dino import DINOConfig, dino_shapes
from handjax.perception.flax_backend import load_weights
from handjax.tasks.slider import is_adapted
from handjax.training import ahead
from handjax.training.roofline import GIB
from launch.timing import seconds, summary

MODEL = f"{SHAPES_ONLY}stable-diffusion-v1-5/stable-diffusion-v1-5"
SIDE, STEPS, SCALE, RANK = 512, 100, 7.5, 4
ONE, TWO, LARGE = "one hand", "two hands", "a large hand"
Box = tuple[float, float, float, float]
HANDS: dict[str, list[Box]] = {
    ONE: [(180.0, 200.0, 320.0, 340.0)],
    TWO: [(180.0, 200.0, 320.0, 340.0), (330.0, 60.0, 470.0, 200.0)],
    LARGE: [(100.0, 110.0, 400.0, 410.0)],
}
"""Tight boxes in a picture of `SIDE`. Of 140 pixels the discriminator sees 210, which 32 cells hold; of 300, 450."""
FIRST, SECOND = (NoiseLevel(jnp.float32(timestep), jnp.float32(1.5)) for timestep in (401.0, 400.0))
DEFAULT = MGHandSettings()
LITERAL = MGHandSettings(every=1, through="denoiser", cells=None, remat="blocks", mask=MaskSettings(every=1))
"""What a gradient of both branches keeps is 32 GiB on a CPU, so it computes again what lies between blocks."""
SMALL = "small decoder, "
"""Begins the names of what is decoded by an autoencoder of TAESD's sizes."""


@dataclasses.dataclass(frozen=True)
class Way:
    """How a picture is guided.

    Args:
        settings: say how often each kind of step is taken.
        visual: the kind that the discriminator's move is.
        bound: at most so many times the unguided picture's seconds.
        decoder: begins the names of the kinds that decode.
    """

    settings: MGHandSettings
    visual: str
    bound: float
    decoder: str = ""


WAYS = {
    "default, one hand": Way(DEFAULT, f"visual, {ONE}", 1.5),
    "default, two hands": Way(DEFAULT, f"visual, {TWO}", 1.5),
    "default, a large hand": Way(DEFAULT, f"visual, {LARGE}", 1.5),
    "small decoder, one hand": Way(DEFAULT, f"visual, {ONE}", 1.5, SMALL),
    "small decoder, two hands": Way(DEFAULT, f"visual, {TWO}", 1.5, SMALL),
    "literal, one hand": Way(LITERAL, f"visual as written, {ONE}", 6.0),
}


class Part(NamedTuple):
    """One kind of step: takes it once; GiB that its program makes on its way, by the compiler's account."""

    take: Callable[[], Any]
    gib: float


def bench_mghand_cost(runs: int, model: str = MODEL, side: int = SIDE) -> Iterator[dict[str, Any]]:
    """Every kind of step, then DDIM's 100 steps by each of `WAYS`.

    Args:
        runs: of each kind of step, in turn.
        model: whose sizes, as `load_stable_diffusion` takes it.
        side: of the pictures in pixels.
    """
    full = drawn(load_stable_diffusion(model))
    taesd, params = small_decoder(full.vae.config)
    models = {"": full, SMALL: dataclasses.replace(full, vae=taesd, vae_params=params)}
    guide = draw_guide(full)
    parts = make_parts(models, guide, side)
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(runs):
        for name, part in parts.items():
            times[name].append(seconds(part.take))
    for name, taken in times.items():
        yield {"name": f"mghand, {name}", "ours": statistics.median(taken), "unit": "s", "runs": runs}
    makes = {name: part.gib for name, part in parts.items()}
    for name, way in WAYS.items():
        yield total_item(name, way, times) | peaks(way, makes, gib_of(models[way.decoder]), gib_of(guide))


def total_item(name: str, way: Way, times: Mapping[str, list[float]]) -> dict[str, Any]:
    """Guided and unguided seconds of a picture whose hands show from the first look on, run by run."""
    counts = kinds_of(way)
    both = []
    for run, step_seconds in enumerate(times["step"]):
        plain = STEPS * step_seconds + times[f"{way.decoder}decode"][run]
        both.append((plain + sum(count * times[kind][run] for kind, count in counts.items()), plain))
    item = summary(f"mghand {name}, {STEPS} steps of DDIM", "without", both)
    return item | {"ratio_bound": way.bound, "counts": counts}


def peaks(way: Way, makes: Mapping[str, float], model_gib: float, guide_gib: float) -> dict[str, Any]:
    """Memory of a guided and of an unguided picture: all weights stay, what a step makes on its way goes.

    Args:
        way: how it is guided.
        makes: GiB that each kind of step makes.
        model_gib: of the model's weights.
        guide_gib: of the guide's.
    """
    plain = ("step", f"{way.decoder}decode")
    return {
        "peak_gib": model_gib + guide_gib + max(makes[kind] for kind in (*plain, *kinds_of(way))),
        "peer_peak_gib": model_gib + max(makes[kind] for kind in plain),
        "peak_of": "all weights, and what the program of one step makes, the most of them",
    }


def kinds_of(way: Way) -> dict[str, int]:
    """How often each kind of step is taken besides the sampler's own."""
    settings = way.settings
    sampler = DDIM(NoiseSchedule(), STEPS)
    inside = sum(settings.window[0] <= t <= settings.window[1] for t in sampler.trajectory().timesteps)
    pushes, looks = math.ceil(inside / settings.every), math.ceil(inside / settings.mask.every)
    return {f"{way.decoder}look": looks, "textual": pushes, f"{way.decoder}{way.visual}": pushes}


def make_parts(models: Mapping[str, StableDiffusion], guide: MGHandGuide, side: int) -> dict[str, Part]:
    """Compiles every kind of step and takes it once.

    Args:
        models: with the model's own decoder, and with the small one.
        guide: its weights.
        side: of the picture in pixels.
    """
    model, small = models[""], models[SMALL]
    cells, rng = side // model.vae.config.factor, np.random.default_rng(0)
    z = jnp.float32(rng.normal(size=(1, cells, cells, model.vae.config.latent_channels)))
    width = model.unet.config.cross_attention_dim
    context = jnp.float32(rng.normal(size=(1, model.tokenizer.length, width)))
    visual = dataclasses.replace(DEFAULT, textual=0.0)
    # the adapter's move decodes nothing: with the small decoder, its program's memory is that of the move alone
    textual = guide_parts(guide, dataclasses.replace(DEFAULT, visual=0.0), small, z, context, [ONE])
    parts = {"step": make_part(step, model, z, context), "textual": textual[ONE]}
    for prefix, one in models.items():
        parts[f"{prefix}decode"] = make_part(StableDiffusion.decode, one, z)
        found = guide_parts(guide, visual, one, z, context, [ONE, TWO])
        parts |= {f"{prefix}look": found["look"]} | {f"{prefix}visual, {hands}": found[hands] for hands in (ONE, TWO)}
    # a crop that does not fit is taken from the whole picture
    whole = guide_parts(guide, dataclasses.replace(visual, cells=None), model, z, context, [LARGE])
    literal = guide_parts(guide, dataclasses.replace(LITERAL, textual=0.0), model, z, context, [ONE])
    return parts | {f"visual, {LARGE}": whole[LARGE], f"visual as written, {ONE}": literal[ONE]}


def guide_parts(
    guide: MGHandGuide, settings: MGHandSettings, model: StableDiffusion, z: Any, context: Any, hands: list[str]
) -> dict[str, Part]:
    """One guide's look for hands, and the move that it works out for each of `hands`, without a look.

    Args:
        guide: its weights.
        settings: of which `every` does not count.
        model: that is guided.
        z: noisy latents.
        context: text embedding.
        hands: names in `HANDS`.
    """
    # looks in the first step alone, and works its move out in every step that has a hand
    once = dataclasses.replace(settings, every=1, mask=dataclasses.replace(settings.mask, every=2**30))
    weights = (dataclasses.replace(guide, settings=once), model, z, context)
    start = guide.start(z)
    leaves, structure = jax.tree.flatten(start)
    compiled = jax.jit(partial(guided, structure)).lower(*weights, leaves, FIRST).compile()
    gib = ahead.memory_of(compiled).temporaries / GIB

    def take(log: MGHandLog, level: NoiseLevel):
        after, x0 = compiled(*weights, jax.tree.leaves(log), level)
        return jax.tree.unflatten(structure, after), x0

    looked, _ = take(start, FIRST)
    parts = {"look": Part(partial(take, start, FIRST), gib)}
    for name in hands:
        log = dataclasses.replace(looked, mask=mask_of(start.mask, HANDS[name], settings.mask))
        parts[name] = Part(partial(take, log, SECOND), gib)
    return parts


def make_part(function: Callable[..., Any], *arguments: Any) -> Part:
    """Compiles a function and calls it once."""
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    return Part(partial(compiled, *arguments), ahead.memory_of(compiled).temporaries / GIB)


def denoiser(model: StableDiffusion, z, context):
    """Both branches of classifier-free guidance."""
    side = z.shape[1] * model.vae.config.factor
    predict = text_to_image(model, (side, side))
    return guided_denoise(predict, model.schedule, context, jnp.zeros_like(context), SCALE)


def step(model: StableDiffusion, z, context):
    """The sampler's own step."""
    return denoiser(model, z, context)(z, FIRST)


def guided(structure: Any, guide: MGHandGuide, model: StableDiffusion, z, context, leaves, level: NoiseLevel):
    """What the guide adds to a step; its log comes and goes as leaves, whose memory the compiler can account for."""
    log = jax.tree.unflatten(structure, leaves)
    log, x0 = guide.steer(model.decode, context)(log, z, level, 0.5 * z, denoiser(model, z, context))
    return jax.tree.leaves(log), x0


def mask_of(empty: HandMask, boxes: Sequence[Box], settings: MaskSettings) -> HandMask:
    """The mask after a look that has found hands in these boxes."""
    given = np.zeros(empty.boxes.shape, np.float32)
    given[:, : len(boxes)] = np.array(boxes) * empty.pixels.shape[1] / SIDE
    return empty.grown(jnp.asarray(given), jnp.arange(settings.hands)[None] < len(boxes), settings)


def draw_guide(model: StableDiffusion) -> MGHandGuide:
    """The guide of a model with a random adapter and a random discriminator on DINO."""
    draw = partial(initial_factors, jax.random.key(0), wanted=is_adapted, rank=RANK)
    lora = lora_of(drawn(jax.eval_shape(draw, model.unet_params)), 1.0)
    config = DiscriminatorConfig("dino_vits16", 224, model.unet.config.cross_attention_dim)
    critic = Discriminator(drawn(head_shapes(config)), drawn(dino_shapes(DINOConfig())), config)
    guide = MGHandGuide(load_weights(TASK_FILE), lora, critic, DEFAULT, STEPS, model.vae.config.factor)
    return jax.device_put(guide)


def small_decoder(config: VAEConfig) -> tuple[TAESD, Any]:
    """A random autoencoder of TAESD's sizes, of as many levels as a model's own has."""
    levels, published = config.factor.bit_length(), TAESDConfig()
    taesd = TAESD(
        dataclasses.replace(
            published,
            latent_channels=config.latent_channels,
            encoder_block_out_channels=published.encoder_block_out_channels[:levels],
            decoder_block_out_channels=published.decoder_block_out_channels[-levels:],
            num_encoder_blocks=published.num_encoder_blocks[:levels],
            num_decoder_blocks=published.num_decoder_blocks[-levels:],
        )
    )
    picture = jnp.zeros((1, config.factor, config.factor, published.in_channels))
    return taesd, drawn(jax.eval_shape(taesd.init, jax.random.key(0), picture)["params"])


def drawn(shapes: Any) -> Any:
    """Random values of these shapes, on the device, small enough for networks of them to stay finite."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        return jax.device_put(np.float32(0.02) * rng.standard_normal(leaf.shape, np.float32))

    return jax.tree.map(draw, shapes)


def gib_of(tree: Any) -> float:
    """GiB of a tree's arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) / GIB
