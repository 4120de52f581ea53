"""`launch.generate --condition`: hands of known meshes are painted, checked and kept with labels as training data.

The same as `launch.precompute painted:POSES`, which is what runs and has more options.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from handjax.errors import ConfigError

FORWARDED = ("hands", "model", "steps", "guidance_scale", "json")
"""Options that mean the same to both commands."""
_OWN = ("condition", "poses", "controlnet", "control_scale", "out")
_OPTIONS = {"prompts": "prompt", "file": "--prompts"}


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `paint_records` that pictures from prompts do not have."""
    add = parser.add_argument_group("training data: hands of known meshes, labelled").add_argument
    add(
        "--condition",
        action="append",
        metavar="NAME",
        help="what a --controlnet follows: depth, skeleton or mesh; may be repeated",
    )
    add("--poses", metavar="POSES", help="COUNT[:SEED] random ones, or a folder of prepared records")
    add("--hands", type=int, choices=[1, 2], help="in a picture; 2: right and left hand of a body, in random poses")


def given_options(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """What the command line names, without what is there by default."""
    names = vars(parser.parse_args())
    given = vars(parser.parse_args(namespace=argparse.Namespace(**dict.fromkeys(names))))
    return {name: value for name, value in given.items() if value is not None and value != []}


def paint_records(given: Mapping[str, Any]) -> NoReturn:
    """Becomes `launch.precompute painted:…`, which wants to be the first to start JAX.

    Args:
      given: options that the command line names.

    Raises:
      ConfigError: as `precompute_words`.
    """
    words = ["launch.precompute", *precompute_words(given)]
    print(f"$ python -m {shlex.join(words)}", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, "-m", *words])


def precompute_words(given: Mapping[str, Any]) -> list[str]:
    """The command line of `launch.precompute` that does what is asked for.

    Args:
      given: options that the command line names.

    Raises:
      ConfigError: one is missing, or is for pictures from prompts.
    """
    conditions, networks = given.get("condition", []), given.get("controlnet", [])
    if not conditions:
        name = "poses" if "poses" in given else "hands"
        raise ConfigError(f"--{name} {given[name]}: name what the ControlNet follows, such as --condition mesh")
    asked = f"--condition {' '.join(conditions)}"
    if "poses" not in given:
        raise ConfigError(f"{asked}: give --poses, COUNT or COUNT:SEED of random ones or a folder of prepared records")
    if len(networks) != len(conditions):
        raise ConfigError(f"{asked}: give --controlnet for each condition; there are {len(networks)}")
    if others := [_option(name) for name in given if name not in (*FORWARDED, *_OWN)]:
        raise ConfigError(f"{asked}: paints training data, which takes no {', '.join(others)}; leave it out")
    if len(scales := given.get("control_scale", [])) > 1:
        raise ConfigError(f"--control-scale {' '.join(map(str, scales))}: is one for all conditions")
    words = [f"painted:{given['poses']}", "--output", str(given["out"])]
    for condition, network in zip(conditions, networks, strict=True):
        words += ["--controlnet", f"{condition}={network}"]
    for scale in scales:
        words += ["--control-scale", str(scale)]
    for name in FORWARDED:
        if name in given:
            words += [_option(name)] + ([] if given[name] is True else [str(given[name])])
    return words


def _option(name: str) -> str:
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}")
