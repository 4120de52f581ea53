"""Makes pictures from prompts: `python -m launch.generate PROMPT… --out DIR`.

Writes DIR/PROMPT-SEED.png; each file carries, as PNG text "handjax", the prompt, the seed, all settings and what guides
did. No safety checker is run, whichever the model names.
A prompt may weigh its words: (more), (much more:1.4), [less]; BREAK starts another chunk.

`python -m launch.generate --condition mesh --poses 2000 --controlnet exported --out records` paints hands of known
meshes instead, checks every picture and keeps what passes as training data with exact labels; with `--hands 2` both
hands of a body in each.
"""

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from handjax.anatomy.head import HandHead
from handjax.diffusion.model import ASSETS, find_model
from handjax.errors import ConfigError, InputError
from handjax.images import write_image
from handjax.inference.best import Rank, anatomy_rank, best_of
from handjax.inference.generate import Wish
from handjax.inference.score import HeadCounter
from handjax.perception import HandDetector
from handjax.perception.hand_json import hand_item
from handjax.perception.margin import add_margin, detect_with_margin
from launch import command, generate_records
from launch.estimates import Estimates
from launch.generator import add_model_arguments, load_generator
from launch.guidance_plot import plot_log

SEEDS = 2**32
LONGEST_NAME = 50
Made = tuple[Wish, UInt8[np.ndarray, "height width 3"], dict[str, Any]]


def main() -> int:
    """Makes every picture; prints where each is."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.condition or arguments.poses or arguments.hands:
        generate_records.paint_records(generate_records.given_options(parser))
    arguments.batch = max(arguments.batch, arguments.best_of)  # candidates are made together
    wishes = read_wishes(arguments)
    if arguments.plot and "mghand" not in (arguments.guidance or ()):
        raise ConfigError("--plot is of no use without --guidance mghand; add it or leave it out")
    report = command.Report("generate", arguments.json)
    generator, provenance = load_generator(arguments)
    warn_of_no_checker(arguments.model)
    estimates = Estimates(arguments.out, tuple(arguments.estimates)) if arguments.estimates else None
    generator = estimates.recording(generator) if estimates else generator
    detector = HandDetector.load()
    by_anatomy = anatomy_rank(detector, HeadCounter(HandHead.load()))
    with tqdm(total=len(wishes), desc="generate", unit="picture", disable=None) as bar:
        made = generator.steered(wishes)
        for candidates in zip(*[made] * arguments.best_of, strict=True):
            (wish, image, told), chosen = choose(candidates, lambda picture: by_anatomy(add_margin(picture)))
            guidance = provenance["guidance"] and provenance["guidance"] | told
            item = dataclasses.asdict(wish) | {"provenance": provenance, "guidance": guidance}
            output = arguments.out / file_name(wish)
            write_image(output, image, text={"handjax": json.dumps(item)})
            if estimates:
                estimates.write(generator, output, wish.prompt, told)
            if arguments.plot:
                plot_log(output.with_suffix(".svg"), told["log"])
            hands = [hand_item(hand) for hand in detect_with_margin(detector, image)]
            item |= {"output": str(output), "hands": hands, "best_of": chosen}
            with bar.external_write_mode(file=sys.stdout):
                report.item(item, line(output, told))
            bar.update(len(candidates))
    return report.finish()


def warn_of_no_checker(model: str) -> None:
    """Says of any model but the embedded ones, which know nothing but hands, that nobody checks its pictures."""
    if find_model(model).parent != ASSETS:
        print(f"warning: {model}: no safety checker is run, whichever the model names", file=sys.stderr)


def line(output: Path, told: dict[str, Any]) -> str:
    """Where the picture is and, of a guide that has a status, that and the mask's last area."""
    return f"{output}  {told['status']}, mask {told['mask_area']:.0%}" if "status" in told else str(output)


def choose(candidates: Sequence[Made], rank: Rank) -> tuple[Made, dict[str, Any] | None]:
    """The best candidate, and what the JSON says of all: seeds and ranks; None where there is no choice."""
    if len(candidates) == 1:
        return candidates[0], None
    best, ranks = best_of([image for _, image, _ in candidates], rank)
    seeds = [wish.seed for wish, _, _ in candidates]
    return candidates[best], {"seeds": seeds, "scores": [round(value, 4) for value in ranks]}


def read_wishes(arguments: argparse.Namespace) -> list[Wish]:
    """Lists the pictures to make, candidates of one beside each other; seeds count up from --seed.

    Raises:
      InputError: the file of prompts cannot be read, or holds none.
      ConfigError: there is no prompt, or a number is out of its range.
    """
    for name in ("count", "batch", "best_of"):
        if getattr(arguments, name) < 1:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} is {getattr(arguments, name)}; it must be at least 1")
    prompts = [*arguments.prompts, *arguments.prompt]
    if arguments.file:
        prompts += read_prompts(arguments.file)
    if not prompts:
        raise ConfigError("there is no prompt; give one, or a file of them with --prompts")
    repeated = [prompt for prompt in prompts for _ in range(arguments.count * arguments.best_of)]
    if not 0 <= arguments.seed <= SEEDS - len(repeated):
        raise ConfigError(f"--seed is {arguments.seed}; it must be from 0 to {SEEDS - len(repeated)}")
    return [Wish(prompt, arguments.negative, arguments.seed + number) for number, prompt in enumerate(repeated)]


def read_prompts(path: Path) -> list[str]:
    """Reads a file of prompts, one a line; empty lines are passed over."""
    try:
        prompts = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a text file that can be read; give one prompt a line, in UTF-8") from error
    if not prompts:
        raise InputError(f"{path}: holds no prompt; give one a line")
    return prompts


def file_name(wish: Wish) -> str:
    """Names a picture after its prompt and seed."""
    words = re.sub(r"\W+", "-", wish.prompt.lower()).strip("-")[:LONGEST_NAME].strip("-")
    return f"{words or 'picture'}-{wish.seed}.png"


def add_wish_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `read_wishes` reads, without --seed and --best-of, and --out."""
    add = parser.add_argument
    add("prompts", nargs="*", metavar="PROMPT", help="what the pictures show")
    add("--prompt", action="append", default=[], metavar="PROMPT", help="the same as an option; may be repeated")
    add("--prompts", dest="file", type=Path, metavar="FILE", help="text file, one prompt a line")
    add("--negative", default="", metavar="PROMPT", help="what the pictures should not show")
    add("--out", type=command.output_folder, required=True, metavar="DIR", help="where the results go")
    add("--count", type=int, default=1, help="pictures a prompt")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="launch.generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_wish_arguments(parser)
    add = parser.add_argument
    add("--best-of", type=int, default=1, metavar="K", help="make K candidates of each, keep the best by anatomy")
    add(
        "--estimates",
        type=float,
        nargs=2,
        metavar="T",
        help="also write what the model saw at these timesteps, and "
        "captions.json: generated hands for mghand_discriminator.py",
    )
    add_model_arguments(parser)
    add("--plot", action="store_true", help="also draw MGHanD's log by step, PROMPT-SEED.svg")
    add("--json", action="store_true", help="print one JSON document")
    generate_records.add_record_arguments(parser)
    return parser


if __name__ == "__main__":
    command.run(main)
