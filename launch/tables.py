"""Trains and measures every row of the papers' tables at a size that two cores can train.

    python -m launch.tables --data photos@3,rendered --tests photos rendered --workdir DIR
    python -m launch.tables --set recovery --data photos,rendered@2 --tests rendered --workdir DIR --only "Table 7"

The set `pictures` is SGMHand's Tables 1-4 and Fig. 8 and SesaHand's tables on the tiny model, `recovery` MMHMR's Tables
5, 7-9, 11 and 14-16. Prints the tables with the papers' figures beside ours, and says where the order of the rows is
another one. Rows of one setting share its training. Run again after an interruption it goes on where it was; run again
with more seeds it makes what they need besides.
"""

import argparse
import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from handjax.errors import ConfigError
from handjax.files import atomic_write, write_json
from launch import command
from launch.paper_tables.jobs import Workshop
from launch.paper_tables.page import document_of, markdown
from launch.paper_tables.painting import SAMPLING
from launch.paper_tables.recovery_jobs import RecoveryWorkshop
from launch.paper_tables.recovery_rows import RECOVERY_TABLES
from launch.paper_tables.rows import TABLES, Table

PICTURES = """# The papers' tables on the tiny model

Printed by `python -m launch.tables`, not written by hand. Each row trained {steps} steps of batch
{batch_size} on {data} with the recipes' `:tiny` variants ({runs} seed(s));
{pictures} held-out pictures of {tests} were painted by DDIM in {sampling_steps} steps, guidance
{guidance_scale:g}, in all rows alike. 95 % intervals in brackets are over pictures, from the least to the
greatest bound of the seeds. The papers' figures are of Stable Diffusion 1.5, of other pictures and of Inception-v3:
only orders can be compared, and with so few pictures FD only with FD. MPJPE is in pixels of 96, by the network that
the conditions come from, which reads all hands' places; MSE-3D is of hands that are found. "Not run" are methods
without code or weights here.
"""
RECOVERY = """# MMHMR's tables at a small size

Printed by `python -m launch.tables --set recovery`, not written by hand. Each transformer trained {steps} steps of
batch {batch_size} on {data} with `mmhmr.py:embedded` and four layers, each tokenizer
{tokenizer_steps} steps with `vq_mano.py:embedded` at the paper's tokens and codes ({runs} seed(s)); {pictures}
held-out hands of {tests} were read with their keypoints given, as the paper has OpenPose's, and (alone) without.
95 % intervals in brackets are over hands or poses, from the least to the greatest bound of the seeds. The paper's
figures are of ViT-H, of other pictures and of 400,000 steps: only orders can be compared.
"""


class TableSet(NamedTuple):
    """Tables that one workshop makes.

    Attributes:
      tables: of the papers.
      workshop: a dataclass whose fields are the command's options, as `Workshop`.
      tests: how many test sets it can use; SGMHand's Table 2 has one of its own.
      introduction: of their page.
      fixed: settings that nobody chooses.
    """

    tables: tuple[Table, ...]
    workshop: type[Any]
    tests: int
    introduction: str
    fixed: dict[str, Any]


SETS = {
    "pictures": TableSet(
        TABLES,
        Workshop,
        2,
        PICTURES,
        {"sampler": "DDIM", "sampling_steps": SAMPLING.steps, "guidance_scale": SAMPLING.guidance_scale},
    ),
    "recovery": TableSet(RECOVERY_TABLES, RecoveryWorkshop, 1, RECOVERY, {}),
}


def main() -> int:
    """Does what is not done yet and prints the tables."""
    arguments = _parse_arguments()
    _check(arguments)
    chosen = SETS[arguments.set]
    tables = [table for table in chosen.tables if any(words in table.title for words in arguments.only)]
    if not tables:
        raise ConfigError(f"--only {' '.join(arguments.only)}: there are {'; '.join(t.title for t in chosen.tables)}")
    report = command.Report("tables", arguments.json)
    options = {**vars(arguments), "folder": arguments.workdir, "tests": tuple(arguments.tests)}
    workshop = chosen.workshop(**{field.name: options[field.name] for field in dataclasses.fields(chosen.workshop)})
    workshop.claim()
    settings, seeds = workshop.settings_of(tables), sorted(set(arguments.seeds))
    jobs = list(itertools.product(settings, seeds))
    measured: dict[Any, list[Any]] = {setting: [] for setting in settings}
    for number, (setting, seed) in enumerate(jobs, 1):
        measured[setting].append(workshop.measured(setting, seed))
        if not arguments.json:
            print(f"{number} of {len(jobs)}: {setting.name}, seed {seed}", flush=True)
    documents = [document_of(table, measured) for table in tables]
    about = describe(workshop, seeds) | chosen.fixed
    for document in documents:
        report.item(document, f"\n{markdown(document)}")
    if arguments.out:
        write_json(arguments.out, {"tables": documents, "settings": about, **command.environment()})
    if arguments.page:
        with atomic_write(arguments.page) as temporary:
            temporary.write_text(page(chosen.introduction, about, documents))
    return report.finish()


def describe(workshop: Workshop | RecoveryWorkshop, seeds: list[int]) -> dict[str, Any]:
    """What decides the figures, without the places of folders."""
    names = [Path(test).name for test in workshop.tests]
    data = ",".join(Path(item).name for item in workshop.data.split(","))
    return workshop.settings | {"folder": None, "data": data, "tests": names, "seeds": seeds}


def page(introduction: str, settings: Mapping[str, Any], documents: list[dict[str, Any]]) -> str:
    """The tables as a page in Markdown."""
    told = {**settings, "runs": len(settings["seeds"]), "tests": " and ".join(settings["tests"])}
    return "\n\n".join([introduction.format(**told).rstrip(), *map(markdown, documents)]) + "\n"


def _check(arguments: argparse.Namespace) -> None:
    for name in ("steps", "tokenizer_steps", "batch_size", "pictures"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}; it must be at least 1")
    most = SETS[arguments.set].tests
    if len(arguments.tests) > most:
        raise ConfigError(f"--tests names {len(arguments.tests)} sets; the set {arguments.set} has at most {most}")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--set", choices=sorted(SETS), default="pictures", help="whose tables (default: pictures)")
    add("--only", nargs="+", default=[""], metavar="WORDS", help="tables whose titles have some of these words")
    add("--data", required=True, metavar="PATHS", help="prepared records to train on, as a recipe's data.path")
    add(
        "--tests",
        required=True,
        nargs="+",
        metavar="DIR",
        help="whose held-out are painted or read; a second one: SGMHand's Table 2",
    )
    add("--workdir", type=Path, required=True, metavar="DIR", help="runs, pictures and results; goes on with them")
    add("--steps", type=int, default=300, help="of each training (default: 300)")
    add("--tokenizer-steps", type=int, default=3000, help="of each tokenizer of recovery (default: 3000)")
    add("--batch-size", type=int, default=16, help="of each training (default: 16)")
    add("--pictures", type=int, default=200, help="painted or read of each test set (default: 200)")
    add("--seeds", type=int, nargs="+", default=[0], help="a training each (default: 0)")
    add("--out", type=command.output_file, metavar="FILE.json", help="the figures with machine and versions")
    add("--page", type=Path, metavar="FILE.md", help="the tables as a page")
    add("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
