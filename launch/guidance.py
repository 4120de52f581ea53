"""What steers the sampler besides the prompt, as the command line names it."""

import argparse
import dataclasses
import math
from typing import Any

from handjax.errors import ConfigError
from handjax.guidance.anatomy import AnatomyGuide, AnatomySettings
from handjax.perception.detector import TASK_FILE
from handjax.perception.flax_backend import load_weights


def add_guidance_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --guidance and what it needs."""
    add, default = parser.add_argument, AnatomySettings()
    add("--guidance", choices=["none", "anatomy"], default="none", help="what steers the sampler besides the prompt")
    add("--anatomy-scale", type=float, default=default.scale, help=f"how hard it pushes (default: {default.scale})")
    add(
        "--anatomy-window",
        type=float,
        nargs=2,
        default=default.window,
        metavar="T",
        help="first and last timestep in which it pushes (default: {:.0f} {:.0f})".format(*default.window),
    )
    add("--anatomy-every", type=int, default=default.every, help="push in each n-th step of the window only")
    add("--anatomy-recurrences", type=int, default=default.recurrences, help="how often these steps are taken")
    add(
        "--anatomy-through",
        choices=["denoiser", "latent"],
        default=default.through,
        help="how far the gradient goes: through the network, or only to what it sees, which is faster",
    )
    add("--anatomy-raw", action="store_true", help="do not normalise the gradient")
    add("--anatomy-keep", type=float, default=default.keep, help="weight of the hand's presence")
    add("--anatomy-hands", type=int, default=default.hands, help="hands of a picture at most")
    add("--anatomy-cells", type=int, help="side of the latent square decoded about a hand (default: all)")


def read_guidance(arguments: argparse.Namespace) -> AnatomySettings | None:
    """Reads the settings of --guidance; None without.

    Raises:
      ConfigError: a number is out of its range.
    """
    if arguments.guidance == "none":
        return None
    asked = {
        field.name: getattr(arguments, f"anatomy_{field.name}")
        for field in dataclasses.fields(AnatomySettings)
        if hasattr(arguments, f"anatomy_{field.name}")
    }
    asked["window"] = tuple(sorted(asked["window"]))
    settings = AnatomySettings(**asked, normalize=not arguments.anatomy_raw)
    for name in ("every", "recurrences", "hands", "cells"):
        if asked[name] is not None and asked[name] < 1:
            raise ConfigError(f"--anatomy-{name} is {asked[name]}; it must be at least 1")
    for name in ("scale", "keep"):
        if not 0 <= asked[name] < math.inf:
            raise ConfigError(f"--anatomy-{name} is {asked[name]}; it must be 0 or more")
    return settings


def load_guide(settings: AnatomySettings | None) -> AnatomyGuide | None:
    """Makes the guide of `read_guidance`."""
    return None if settings is None else AnatomyGuide(load_weights(TASK_FILE), settings)


def describe_guidance(settings: AnatomySettings | None) -> dict[str, Any] | None:
    """The settings in JSON."""
    return None if settings is None else {"name": "anatomy", **dataclasses.asdict(settings)}
