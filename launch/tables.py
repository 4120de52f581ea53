"""Trains and measures every row of SGMHand's Tables 1-4 and Fig. 8 and of SesaHand's tables on the tiny model.

    python -m launch.tables --data photos@3,rendered --tests photos rendered --workdir DIR

Prints the tables with the papers' figures beside ours, and says where the order of the rows is another one. Rows of one
setting share its training. Run again after an interruption it goes on where it was; run again with more seeds it makes
what they need besides.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

from handjax.errors import ConfigError
from handjax.files import atomic_write, write_json
from launch import command
from launch.paper_tables.jobs import Workshop
from launch.paper_tables.page import document_of, markdown
from launch.paper_tables.painting import SAMPLING
from launch.paper_tables.rows import TABLES, settings_of

TABLE_2 = 2
"""Has a test set of its own."""


def main() -> int:
    """Does what is not done yet and prints the tables."""
    arguments = _parse_arguments()
    for name in ("steps", "batch_size", "pictures"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}; it must be at least 1")
    if len(arguments.tests) > TABLE_2:
        raise ConfigError(f"--tests names {len(arguments.tests)} sets; there are {TABLE_2}, of Table 1 and of Table 2")
    report = command.Report("tables", arguments.json)
    budget = {name: getattr(arguments, name) for name in ("data", "steps", "batch_size", "pictures")}
    workshop = Workshop(folder=arguments.workdir, tests=tuple(arguments.tests), **budget)
    workshop.claim()
    settings, seeds = settings_of(TABLES, len(arguments.tests)), sorted(set(arguments.seeds))
    jobs = list(itertools.product(settings, seeds))
    measured: dict[Any, list[Any]] = {setting: [] for setting in settings}
    for number, (setting, seed) in enumerate(jobs, 1):
        measured[setting].append(workshop.measured(setting, seed))
        if not arguments.json:
            print(f"{number} of {len(jobs)}: {setting.name}, test set {setting.test}, seed {seed}", flush=True)
    tables = [document_of(table, measured) for table in TABLES]
    document = {"tables": tables, "settings": describe(workshop, seeds), **command.environment()}
    for table in tables:
        report.item(table, f"\n{markdown(table)}")
    if arguments.out:
        write_json(arguments.out, document)
    if arguments.page:
        with atomic_write(arguments.page) as temporary:
            temporary.write_text(page(document))
    return report.finish()


def describe(workshop: Workshop, seeds: list[int]) -> dict[str, Any]:
    """What decides the figures, without the places of folders."""
    names = [Path(test).name for test in workshop.tests]
    data = ",".join(Path(item).name for item in workshop.data.split(","))
    sampling = {"sampler": "DDIM", "sampling_steps": SAMPLING.steps, "guidance_scale": SAMPLING.guidance_scale}
    return workshop.settings | {"folder": None, "data": data, "tests": names, "seeds": seeds} | sampling


def page(document: dict[str, Any]) -> str:
    """The tables as a page in Markdown."""
    settings = document["settings"]
    tests = " and ".join(settings["tests"])
    head = f"""# The papers' tables on the tiny model

Printed by `python -m launch.tables`, not written by hand. Each row trained {settings["steps"]} steps of batch
{settings["batch_size"]} on {settings["data"]} with the recipes' `:tiny` variants ({len(settings["seeds"])} seed(s));
{settings["pictures"]} held-out pictures of {tests} were painted by DDIM in {settings["sampling_steps"]} steps, guidance
{settings["guidance_scale"]:g}, in all rows alike. 95 % intervals in brackets are over pictures, from the least to the
greatest bound of the seeds. The papers' figures are of Stable Diffusion 1.5, of other pictures and of Inception-v3:
only orders can be compared, and with so few pictures FD only with FD. MPJPE is in pixels of 96, by the network that
the conditions come from, which reads all hands' places; MSE-3D is of hands that are found. "Not run" are methods
without code or weights here.
"""
    return "\n\n".join([head.rstrip(), *map(markdown, document["tables"])]) + "\n"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", required=True, metavar="PATHS", help="prepared records to train on, as a recipe's data.path")
    add("--tests", required=True, nargs="+", metavar="DIR", help="whose held-out are painted; a second one: Table 2's")
    add("--workdir", type=Path, required=True, metavar="DIR", help="runs, pictures and results; goes on with them")
    add("--steps", type=int, default=300, help="of each training (default: 300)")
    add("--batch-size", type=int, default=16, help="of each training (default: 16)")
    add("--pictures", type=int, default=200, help="painted of each test set (default: 200)")
    add("--seeds", type=int, nargs="+", default=[0], help="a training each (default: 0)")
    add("--out", type=command.output_file, metavar="FILE.json", help="the figures with machine and versions")
    add("--page", type=Path, metavar="FILE.md", help="the tables as a page")
    add("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
