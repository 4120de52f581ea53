"""Are hand meshes recovered as they should be? `python -m launch.evaluate --suite recovery --data RECORDS`.

Held-out records of prepared data, read from the picture alone and with their keypoints given. Rendered hands and data
sets with meshes tell errors of meshes; on photographs prepared by launch.precompute the mesh is the fit to MediaPipe's
keypoints, and the points in space are MediaPipe's own.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from tqdm import tqdm

from data_pipelines.features import RecordSource, open_records
from data_pipelines.loader import make_loader
from handjax.errors import InputError
from handjax.files import atomic_write, write_json
from handjax.hand.mano import load_hand
from handjax.hand.model import HandModel
from handjax.inference.evaluate_recovery import recover_batches
from handjax.metrics.recovery import RecoveredSet, hand_scores, recovery_figures
from handjax.recovery.decoding import ITERATIONS
from handjax.recovery.files import ASSET, RecoveryModel, load_recovery
from handjax.tasks.mesh_recovery import fields_of_hands
from launch import command
from launch.recovery_plots import plot_decoding, plot_reliability

SCORES = "scores.npz"
BATCH = 16
LIMIT = 200
CUES = {"alone": False, "with_keypoints": True}


def add_recovery_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate_recovery` reads."""
    parser.add_argument("--data", required=True, help="prepared records, of which the held-out split is used")
    parser.add_argument("--model", type=Path, default=ASSET, metavar="DIR", help="exported weights of mmhmr.py")
    parser.add_argument("--hand-model", default="", metavar="FILE", help="MANO file of weights that know MANO")
    parser.add_argument("--iterations", type=command.positive(int), default=ITERATIONS, help="of decoding")
    literal = "take the codes of the tokens themselves, as MMHMR, in place of their means"
    parser.add_argument("--literal-codes", action="store_true", help=literal)
    parser.add_argument("--limit", type=int, default=LIMIT, help="number of hands")
    parser.add_argument("--out", type=command.output_folder, help="folder for figures.json, scores.npz and plots")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")


def evaluate_recovery(arguments: argparse.Namespace, report: command.Report) -> None:
    """Prints the figures of both ways of reading and writes them to `arguments.out`."""
    model, hand = load_recovery(arguments.model), load_hand(arguments.hand_model)
    items: list[dict[str, Any]] = []
    scores: dict[str, np.ndarray] = {}
    for name, with_cue in CUES.items():
        options = {"iterations": arguments.iterations, "mean_codes": not arguments.literal_codes}
        hands = recover_held_out(model, hand, arguments.data, arguments.limit, with_cue, **options)
        for figure in recovery_figures(hands):
            items.append({**figure, "name": f"{name}/{figure['name']}"})
            report.item(items[-1], describe(items[-1]))
        scores |= {f"{name}/{figure}": values for figure, values in hand_scores(hands).items()}
    if arguments.out:
        with atomic_write(arguments.out / SCORES) as temporary:
            np.savez(temporary, allow_pickle=False, **scores)
        settings = {"data": Path(arguments.data).name, "limit": arguments.limit, **options}
        document = {"suite": "recovery", "figures": items, "settings": settings, **command.environment()}
        write_json(arguments.out / "figures.json", document)
        draw(items, arguments.out)


def draw(items: list[dict[str, Any]], folder: Path) -> None:
    """Writes decoding.png, of the picture alone, and reliability.png of what there is a true token for."""
    figures = {item["name"]: item for item in items}
    decoding = {name: np.array(values) for name, values in figures["alone/confidence"]["by_iteration"].items()}
    plot_decoding(folder / "decoding.png", **decoding)
    calibrations = {name: figures.get(f"{name}/token_calibration_error") for name in CUES}
    curves = {name: item["reliability"] for name, item in calibrations.items() if item}
    if curves:
        plot_reliability(folder / "reliability.png", curves)


def recover_held_out(
    model: RecoveryModel, hand: HandModel, path: str, limit: int, with_cue: bool, **options: Any
) -> RecoveredSet:
    """Recovers the "eval" split in fixed order, no record twice, at most `limit`."""
    batches, count = held_out_batches(model, hand, path, limit)
    with tqdm(total=count, unit="hand", disable=None) as bar:
        done = functools.partial(lambda bar, n: bar.update(n - bar.n), bar)
        return recover_batches(model, hand, batches, count, with_cue, done, **options)


def held_out_batches(model: RecoveryModel, hand: HandModel, path: str, limit: int) -> tuple[Any, int]:
    """The "eval" split in fixed order, and how many of its records there are, at most `limit`.

    Raises:
      InputError: there is no such split.
    """
    source = held_out_records(path)
    size, count = model.network.config.encoder.image_size, min(limit, len(source))
    fields = {"path": path, "image_size": size, "only_right": True, "hand_model": hand.name, "shuffle": False}
    batch = min(BATCH, count)
    batches = make_loader(ml_collections.ConfigDict(fields), fields_of_hands(size), batch, seed=0, split="eval")
    return batches, count


def held_out_records(path: str) -> RecordSource:
    """The "eval" split of prepared records; raises InputError where there is none."""
    source = open_records(path, "eval")
    if source is None:
        raise InputError(f"{path}: no held-out records; prepare more pictures or another fraction")
    return source


def describe(item: dict[str, Any]) -> str:
    """One line of a figure."""
    interval = "" if "interval_95" not in item else " [{:.4g}, {:.4g}]".format(*item["interval_95"])
    return f"{item['name']:40} {item['value']:.4g}{interval} of {item['hands']} hands"
