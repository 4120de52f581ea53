"""What steers the sampler besides the prompt, as the command line names it."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handjax.adapters.files import load_lora
from handjax.adapters.lora import LoRA
from handjax.diffusion.model import ASSETS, StableDiffusion
from handjax.diffusion.samplers import Sampler
from handjax.diffusion.sampling import Steering
from handjax.diffusion.schedules import NoiseSchedule
from handjax.errors import ConfigError, WeightsError
from handjax.guidance.anatomy import AnatomyGuide, AnatomySettings
from handjax.guidance.discriminator import Discriminator, load_discriminator
from handjax.guidance.hand_mask import MaskSettings
from handjax.guidance.mghand import MGHandGuide, MGHandSettings
from handjax.guidance.together import Together
from handjax.perception.detector import TASK_FILE
from handjax.perception.flax_backend import load_weights
from handjax.tasks.slider import FILES
from handjax.training.checkpoints import content_hash
from handjax.training.remat import POLICIES

NAMES = ("anatomy", "mghand")
THROUGH = ("denoiser", "latent")
LAST_TIMESTEP = NoiseSchedule.num_train_timesteps - 1
EMBEDDED = ASSETS / "mghand"
"""Discriminator and adapter of the embedded model, which guide where no others are named."""


@dataclasses.dataclass(frozen=True)
class Guidance:
    """What was asked for.

    Attributes:
      settings: of each guide, by name, in the order in which they move.
      lora: file of MGHanD's textual guidance; None without.
      discriminator: folder of its visual guidance; None without.
      dino: file of the discriminator's backbone, where that is DINO.
      allow_pickle: read it where it is pickled.
    """

    settings: dict[str, Any]
    lora: Path | None
    discriminator: Path | None
    dino: str
    allow_pickle: bool


def add_guidance_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --guidance and what it needs. Without files, MGHanD takes those of the embedded model."""
    parser.add_argument(
        "--guidance",
        action="append",
        choices=["none", *NAMES],
        help="what steers the sampler besides the prompt; may be repeated",
    )
    _add_anatomy_arguments(parser)
    _add_mghand_arguments(parser)


def _add_anatomy_arguments(parser: argparse.ArgumentParser) -> None:
    add, default = parser.add_argument, AnatomySettings()
    add("--anatomy-scale", type=float, default=default.scale, help=f"how hard it pushes (default: {default.scale})")
    _add_common_arguments(parser, "anatomy", default)
    add("--anatomy-raw", action="store_true", help="do not normalise the gradient")
    add("--anatomy-keep", type=float, default=default.keep, help="weight of the hand's presence")
    add("--anatomy-hands", type=int, default=default.hands, help="hands of a picture at most")


def _add_mghand_arguments(parser: argparse.ArgumentParser) -> None:
    add, default, mask = parser.add_argument, MGHandSettings(), MaskSettings()
    add("--mghand-lora", type=Path, metavar="FILE", help="of textual guidance, as of mghand_lora.py")
    add("--mghand-textual", type=float, default=default.textual, metavar="V", help="its weight (default: 1)")
    add("--mghand-discriminator", type=Path, metavar="DIR", help="of visual guidance, as of mghand_discriminator.py")
    add("--mghand-dino", default="", metavar="FILE", help="the discriminator's backbone, where that is DINO")
    add("--mghand-visual", type=float, default=default.visual, metavar="W", help="its weight (default: 0.1)")
    _add_common_arguments(parser, "mghand", default)
    add("--mghand-unmasked", action="store_true", help="move the whole of a picture that has a hand")
    add("--mghand-look-every", type=int, default=mask.every, help="look for hands in each n-th step (default: 5)")
    add("--mghand-threshold", type=float, default=mask.threshold, help="least score of a hand (default: 0.3)")
    add("--mghand-hands", type=int, default=mask.hands, help="hands of a picture at most (default: 2)")
    add("--mghand-dilation", type=float, default=mask.dilation, help="margin of the boxes, share of a side")
    add("--mghand-cap", type=float, default=mask.cap, help="largest share of the picture (default: 0.35)")


def _add_common_arguments(parser: argparse.ArgumentParser, name: str, default: Any) -> None:
    add = parser.add_argument
    add(
        f"--{name}-window",
        type=float,
        nargs=2,
        default=default.window,
        metavar="T",
        help="first and last timestep in which it pushes (default: {:.0f} {:.0f})".format(*default.window),
    )
    add(
        f"--{name}-every",
        type=int,
        default=default.every,
        help=f"push anew in each n-th step (default: {default.every})",
    )
    add(f"--{name}-recurrences", type=int, default=default.recurrences, help="how often these steps are taken")
    add(
        f"--{name}-through",
        choices=THROUGH,
        default=default.through,
        help="how far the gradient goes: through the network, or only to what it sees, which is faster",
    )
    decoded = f"side of the latent square decoded about a hand (default: {default.cells or 'all'})"
    add(f"--{name}-cells", type=int, default=default.cells, help=decoded)
    kept = "what is kept for the gradient; the rest is computed again: less memory, more time"
    add(f"--{name}-remat", choices=("none", *POLICIES), default=default.remat, help=kept)


def read_guidance(arguments: argparse.Namespace) -> Guidance | None:
    """Reads the settings of --guidance; None without.

    Raises:
      ConfigError: a number is out of its range, or something is missing or of no use.
    """
    # MGHanD first: it compares the adapter's noise with the model's own, which no guide has moved yet
    names = [name for name in ("mghand", "anatomy") if name in (arguments.guidance or ())]
    for name in NAMES:
        given = [] if name in names else _given(arguments, name)
        if given:
            raise ConfigError(f"{given[0]} is of no use without --guidance {name}; add it or leave it out")
    lora, discriminator = arguments.mghand_lora, arguments.mghand_discriminator
    if "mghand" in names and not (lora or discriminator):
        if not (EMBEDDED / FILES["peft"]).is_file() or not (EMBEDDED / "config.json").is_file():
            raise ConfigError(
                "--guidance mghand needs --mghand-lora FILE, --mghand-discriminator DIR or both; launch.assets.mghand "
                "makes a pair for the embedded model"
            )
        lora, discriminator = EMBEDDED / FILES["peft"], EMBEDDED
    if arguments.mghand_dino and not discriminator:
        raise ConfigError("--mghand-dino is of no use without --mghand-discriminator; add it or leave it out")
    read = {"anatomy": _read_anatomy, "mghand": _read_mghand}
    if not names:
        return None
    return Guidance(
        settings={name: read[name](arguments) for name in names},
        lora=lora,
        discriminator=discriminator,
        dino=arguments.mghand_dino,
        allow_pickle=arguments.allow_pickle,
    )


def _given(arguments: argparse.Namespace, name: str) -> list[str]:
    """The options of a guide that are not as they are where nothing is asked for."""
    parser = argparse.ArgumentParser()
    add_guidance_arguments(parser)
    untouched = vars(parser.parse_args([]))
    own = [key for key in untouched if key.startswith(f"{name}_")]
    return [_option(key) for key in own if getattr(arguments, key) != untouched[key]]


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _read_anatomy(arguments: argparse.Namespace) -> AnatomySettings:
    _check(arguments, "anatomy", at_least_1=("every", "recurrences", "hands", "cells"), at_least_0=("scale", "keep"))
    return AnatomySettings(**_asked(arguments, "anatomy", AnatomySettings), normalize=not arguments.anatomy_raw)


def _read_mghand(arguments: argparse.Namespace) -> MGHandSettings:
    whole = ("every", "recurrences", "cells", "look_every", "hands")
    _check(arguments, "mghand", whole, at_least_0=("textual", "visual", "dilation"), shares=("threshold", "cap"))
    mask = _asked(arguments, "mghand", MaskSettings) | {"every": arguments.mghand_look_every}
    settings = _asked(arguments, "mghand", MGHandSettings) | {"mask": MaskSettings(**mask)}
    return MGHandSettings(**settings, masked=not arguments.mghand_unmasked)


def _asked(arguments: argparse.Namespace, prefix: str, settings: type) -> dict[str, Any]:
    """The fields of the settings that have an option of their name."""
    names = [field.name for field in dataclasses.fields(settings) if hasattr(arguments, f"{prefix}_{field.name}")]
    asked = {name: getattr(arguments, f"{prefix}_{name}") for name in names}
    return asked | {"window": tuple(sorted(asked["window"]))} if "window" in asked else asked


def _check(
    arguments: argparse.Namespace,
    prefix: str,
    at_least_1: Sequence[str],
    at_least_0: Sequence[str],
    shares: Sequence[str] = (),
) -> None:
    for names, least, most, words in (
        (at_least_1, 1, sys.float_info.max, "at least 1"),
        (at_least_0, 0, sys.float_info.max, "0 or more"),
        (shares, 0, 1, "from 0 to 1"),
    ):
        for name in names:
            value = getattr(arguments, f"{prefix}_{name}")
            if value is not None and not least <= value <= most:
                raise ConfigError(f"{_option(f'{prefix}_{name}')} is {value}; it must be {words}")
    low, high = getattr(arguments, f"{prefix}_window")
    if not all(0 <= t <= LAST_TIMESTEP for t in (low, high)):
        raise ConfigError(f"--{prefix}-window is {low:g} {high:g}; timesteps are from 0 to {LAST_TIMESTEP}")


def load_guide(guidance: Guidance | None, model: StableDiffusion, sampler: Sampler) -> Steering | None:
    """Makes the guides of `read_guidance`.

    Args:
      guidance: what was asked for.
      model: that is guided.
      sampler: that is guided.

    Raises:
      WeightsError: a file is missing, damaged, or of another model.
      ConfigError: the discriminator's backbone is not named.
      BackendError: a package that it needs is not installed.
    """
    if guidance is None:
        return None
    weights = load_weights(TASK_FILE)
    guides: list[Steering] = []
    for name, settings in guidance.settings.items():
        if name == "anatomy":
            guides.append(AnatomyGuide(weights, settings))
        else:
            lora, critic = load_pair(guidance, model)
            guides.append(MGHandGuide(weights, lora, critic, settings, sampler.steps, model.vae.config.factor))
    return guides[0] if len(guides) == 1 else Together(tuple(guides))


def load_pair(guidance: Guidance, model: StableDiffusion) -> tuple[LoRA | None, Discriminator | None]:
    """MGHanD's adapter and discriminator, those that are asked for.

    Raises:
      WeightsError: a file is missing, damaged, or of another model.
      ConfigError, BackendError: as `load_guide`.
    """
    try:
        lora = load_unet_lora(guidance.lora, model) if guidance.lora else None
        return lora, _load_critic(guidance, model) if guidance.discriminator else None
    except WeightsError as error:
        if guidance.discriminator != EMBEDDED:
            raise
        raise WeightsError(
            "--guidance mghand: the carried adapter and discriminator are of the embedded model and do not fit this "
            "one; name its own with --mghand-lora FILE, --mghand-discriminator DIR or both"
        ) from error


def load_unet_lora(path: Path, model: StableDiffusion) -> LoRA:
    """Reads an adapter of the UNet, whose difference can be taken where it is wanted.

    Raises:
      WeightsError: the file is missing or damaged, of another model, or changes the text encoder too.
    """
    loras = load_lora(path, {"unet": model.unet_params, "text_encoder": model.text_params})
    if set(loras) != {"unet"}:
        raise WeightsError(f"{path}: changes more than the UNet, which no mask can hold; give an adapter of it alone")
    return loras["unet"]


def _load_critic(guidance: Guidance, model: StableDiffusion) -> Discriminator:
    folder = Path(str(guidance.discriminator))
    critic = load_discriminator(folder, guidance.dino, guidance.allow_pickle)
    if guidance.dino and critic.config.backbone != "dino_vits16":
        raise ConfigError(f"--mghand-dino is of no use to {folder}, which reads {critic.config.backbone}; leave it out")
    reads, gives = critic.config.text_channels, model.text_encoder.config.hidden_size
    if reads != gives:
        raise WeightsError(
            f"{folder}: made for text embeddings of {reads} channels, the model's have {gives}; train one of this model"
        )
    return critic


def describe_guidance(guidance: Guidance | None, guide: Steering | None) -> dict[str, Any] | None:
    """The settings in JSON; by name where there are several guides."""
    if guidance is None:
        return None
    guides = guide.guides if isinstance(guide, Together) else [guide]
    described = {}
    for (name, settings), one in zip(guidance.settings.items(), guides, strict=True):
        described[name] = {"name": name, **dataclasses.asdict(settings)}
        if isinstance(one, MGHandGuide):
            weights = {"lora": (guidance.lora, one.lora), "discriminator": (guidance.discriminator, one.critic)}
            for part, (file, tree) in weights.items():
                described[name][part] = file and {"file": str(file), "hash": content_hash(tree)}
    return described[name] if len(described) == 1 else {"name": "+".join(described), **described}
