"""Scores the anatomy of the hands in pictures: whether each is plausible, and if not, what is wrong with it.

python -m launch.score photos/ 'generated/**/*.png'
python -m launch.score photos/ --report report.html --csv hands.csv
python -m launch.score generated/ --compare photos/ --json
python -m launch.score generated/ --fail-above 0.1
python -m launch.score wave.gif --video
python -m launch.score photos/ --detections hands.json

Pictures in which no hand is found are counted apart, never scored. A run that writes a report or a table goes on where
it was killed. Exit status: 0; 1 where more hands are implausible than --fail-above allows, 3 where it is given and no
hand was judged; 2 where an input could not be read or something is wrong with the options.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from handjax.errors import ConfigError, InputError
from handjax.inference.journal import Journal
from handjax.inference.score_pictures import ERROR, Item, ScoreOptions, load_given
from handjax.inference.score_run import provenance, run, without_thumbnails
from handjax.inference.score_sources import Source, find_sources
from handjax.inference.score_summary import Tally, compare
from launch import command
from launch.score_csv import write_csv
from launch.score_report import write_report
from launch.score_text import comparison_lines, describe, summarise

TOO_MANY_STATUS, NOTHING_JUDGED_STATUS = 1, 3


def main() -> int:
    """Scores every hand; prints a line a picture and the rates; returns the exit status."""
    arguments = _parse_arguments()
    options = _options(arguments)
    if options.detections:
        load_given(options.detections)  # what is wrong with it is said before the work
    report = command.Report("score", arguments.json)
    sets = {"a": arguments.images} | ({"b": arguments.compare} if arguments.compare else {})
    tallies = {name: Tally(name, _title(inputs)) for name, inputs in sets.items()}
    sources = [(name, source) for name in sets for source in find_sources(sets[name], options.video)]
    origin = provenance(options)
    with _journal(arguments.report or arguments.csv, origin) as journal:
        for name, items in _score(sources, options, arguments.workers, journal):
            tallies[name].add(items)
            for item in without_thumbnails(items):
                report.item(item | ({"set": name} if arguments.compare else {}), describe(item))
                if item["status"] == ERROR:
                    report.error(item["input"], InputError(item["error"]))
        comparison = compare(tallies["a"], tallies["b"]) if arguments.compare else None
        if arguments.csv:
            write_csv(arguments.csv, _written(sources, journal))
        if arguments.report:
            rows = (item for _, item in _written(sources, journal))
            write_report(arguments.report, list(tallies.values()), comparison, origin, rows)
    summaries = [tally.summary() for tally in tallies.values()]
    if not arguments.json:
        lines = comparison_lines(comparison) if comparison else []
        print("\n".join([*map(summarise, tallies.values()), *(f"{name}: {value}" for name, value in lines)]))
    status = report.finish(summary={"sets": summaries, "comparison": comparison, "provenance": origin})
    return status or _threshold_status(tallies["a"], arguments.fail_above)


def _score(
    sources: list[tuple[str, Source]], options: ScoreOptions, workers: int, journal: Journal
) -> Iterator[tuple[str, list[Item]]]:
    """The items of each source with the name of its set, under a progress bar."""
    results = run([source for _, source in sources], options, workers, journal)
    names = (name for name, _ in sources)
    yield from tqdm(zip(names, results, strict=True), "score", len(sources), unit="picture", disable=None)


def _written(sources: list[tuple[str, Source]], journal: Journal) -> Iterator[tuple[str, Item]]:
    """All items once more, with the names of their sets."""
    for name, source in sources:
        for item in journal.read(str(source.path)):
            yield name, item


@contextlib.contextmanager
def _journal(output: Path | None, header: dict[str, Any]) -> Iterator[Journal]:
    """A journal beside the output, there until the output is; without an output a temporary one."""
    with tempfile.TemporaryDirectory() as folder:
        path = output.with_name(f".{output.name}.partial") if output else Path(folder) / "journal"
        with Journal(path, header) as journal:
            yield journal
        path.unlink()


def _title(inputs: list[str]) -> str:
    return inputs[0] if len(inputs) == 1 else f"{inputs[0]} and {len(inputs) - 1} more"


def _threshold_status(tally: Tally, most: float | None) -> int:
    share = tally.rate("strict")["share"]
    if most is None:
        return 0
    if share is None:
        print("error: --fail-above: no hand was judged, so nothing is known of their share", file=sys.stderr)
        return NOTHING_JUDGED_STATUS
    return TOO_MANY_STATUS if share > most else 0


def _options(arguments: argparse.Namespace) -> ScoreOptions:
    if arguments.workers < 1:
        raise ConfigError(f"--workers {arguments.workers}; it must be at least 1")
    if arguments.fail_above is not None and not 0 <= arguments.fail_above <= 1:
        raise ConfigError(f"--fail-above {arguments.fail_above}; it must be a share between 0 and 1")
    return ScoreOptions(
        max_hands=arguments.max_hands,
        retry=not arguments.no_retries,
        detections=arguments.detections,
        video=arguments.video,
        rate=arguments.rate,
        thumbnails=arguments.report is not None,
        tolerance=arguments.tolerance,
    )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE|DIR|PATTERN", help="pictures, folders of them, patterns")
    parser.add_argument("--compare", nargs="+", metavar="IMAGE|DIR|PATTERN", help="a second set, b, to compare with")
    page, table = "write a page that needs no other file", "write a table, one row a hand"
    parser.add_argument("--report", type=command.output_file, metavar="FILE.html", help=page)
    parser.add_argument("--csv", type=command.output_file, metavar="FILE.csv", help=table)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--fail-above", type=float, metavar="SHARE", help="exit 1 if more hands are implausible, 3 if none is judged"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=ScoreOptions.tolerance,
        metavar="DEGREES",
        help="by which joints may bend beyond their limits, in both verdicts, because keypoints err; 0 is as printed",
    )
    parser.add_argument("--max-hands", type=int, default=ScoreOptions.max_hands, help="per picture")
    parser.add_argument("--no-retries", action="store_true", help="where no hand is found, look only once")
    parser.add_argument("--detections", metavar="FILE.json|MODULE:FUNCTION", help="hands that another detector finds")
    parser.add_argument("--video", action="store_true", help="inputs are clips: animated pictures, folders of frames")
    parser.add_argument("--rate", type=float, default=ScoreOptions.rate, help="frames of a clip a second")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that score side by side")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
