"""Makes the learned head of HandAnat, in one command that goes on where it was stopped:

    python -m launch.assets.anatomy_head --photos DIR --workdir DIR

`DIR` holds photographs of normal hands (Sign Language Digits Dataset, Apache-2.0). Malformed hands are rendered and
made of the photographs, feature maps of them and of the photographs as they are are written down once, the head learns
from them, and hands that are held out of training give temperature and threshold. The test sets are not looked at.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from data_pipelines.features import open_records
from data_pipelines.hand_maps import MapSource, write_maps
from data_pipelines.malformed.photos import plain_records, session
from data_pipelines.malformed.rendered import LICENCE
from data_pipelines.splits import split_names
from handjax.anatomy.head import ASSET, MAPS, NOT_COUNTED, HeadNetwork, initial_params, save_head
from handjax.record import HandRecord
from handjax.training.checkpoints import restore_params
from launch import command, stages

RECIPE = "anatomy_head.py"
VALIDATION_SHARE = 0.1
FALSE_ALARMS = 0.03
"""Share of the normal hands in photographs of validation, edited and as they are, above the threshold."""
LEAST_THRESHOLD = 0.5
"""Whoever is called malformed is so more likely than not."""
SPLITS = ("train", "eval")
PLAIN = "plain"
"""Photographs as they are, beside those that were edited."""
BATCH = 64


def main() -> None:
    """Runs the stages that have not left their result yet."""
    parser = argparse.ArgumentParser(prog="launch.assets.anatomy_head", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photographs of normal hands")
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="records, maps and the run")
    parser.add_argument("--rendered", type=int, default=13_000, help="rendered hands beside the photographs")
    arguments = parser.parse_args()
    work = arguments.workdir
    sources = {
        "photos": (f"malformed-photos:{arguments.photos}",),
        "rendered": (f"malformed:{arguments.rendered}", "--splits", "train"),
    }
    for name, source in sources.items():
        if not (work / name).exists():
            # some photographs show no hand: status 2, but the rest is prepared
            stages.run("precompute", *source, "--output", work / name, tolerated=command.USER_ERROR_STATUS)
    for number, name in enumerate((*sources, PLAIN)):
        maps = work / "maps" / name
        if not all((maps / split).exists() for split in SPLITS):
            records = list(plain_records(arguments.photos)) if name == PLAIN else open_records(work / name, "train")
            for split, chosen in split_records(records or ()).items():
                print(f"{maps / split}: {write_maps(chosen, maps / split, seed=number)} hands", flush=True)
    paths = ",".join(str(work / "maps" / name) for name in (*sources, PLAIN))
    stages.run("train", "--config", RECIPE, "--workdir", work / "run", f"--config.data.path={paths}")
    _, params = restore_params(work / "run", jax.eval_shape(initial_params))
    photographs, rendered = (
        [work / "maps" / n / "eval" for n in names] for names in (("photos", PLAIN), ("rendered",))
    )
    export(params, photographs, rendered, ASSET.parent)


def split_records(records: Sequence[HandRecord]) -> dict[str, list[HandRecord]]:
    """Divides records into "train" and "eval"; photographs of one session stay together."""
    keys = [record.id if record.licence == LICENCE else session(record.source or "") for record in records]
    held_out = set(split_names(dict.fromkeys(keys), VALIDATION_SHARE).get("eval", ()))
    sides: dict[str, list[HandRecord]] = {split: [] for split in SPLITS}
    for record, key in zip(records, keys, strict=True):
        sides[SPLITS[key in held_out]].append(record)
    return sides


def export(params: dict, photographs: Sequence[Path], rendered: Sequence[Path], folder: Path) -> None:
    """Writes a head with the temperature and threshold that validation asks for.

    Args:
      params: of the head.
      photographs: maps of those of validation, which the threshold is for; rendered hands are harder.
      rendered: maps of rendered hands of validation.
      folder: receives the file.
    """
    parts = [_validate(params, maps) for maps in (*photographs, *rendered)]
    kinds, true_kinds, counts, true_counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    counted = true_counts != NOT_COUNTED
    counts, true_counts = counts[counted], true_counts[counted]
    temperatures = [temperature(kinds, true_kinds), temperature(counts, true_counts)]
    last = sum(len(part[0]) for part in parts[: len(photographs)])
    normal = jax.nn.softmax(kinds[:last][true_kinds[:last] == 0] / temperatures[0])
    threshold = max(float(np.quantile(1 - normal[:, 0], 1 - FALSE_ALARMS)), LEAST_THRESHOLD)
    save_head(folder, params, np.dtype("float16"), temperatures, threshold)
    right = [float((said.argmax(axis=1) == true).mean()) for said, true in ((kinds, true_kinds), (counts, true_counts))]
    print(f"{folder}: classes {right[0]:.3f}, counts {right[1]:.3f} right; {temperatures=}, {threshold=:.3f}")


def temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """What to divide logits by so that the truth is likeliest.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """

    def surprise(log_temperature: float) -> float:
        scaled = jax.nn.log_softmax(logits / np.exp(log_temperature))
        return -float(scaled[np.arange(len(truth)), truth].mean())

    return float(np.exp(scipy.optimize.minimize_scalar(surprise, bounds=(-2, 2), method="bounded").x))


def _validate(params: dict, folder: Path) -> tuple[np.ndarray, ...]:
    """Logits and truth of kinds, logits and truth of counts, of all hands in a folder of maps."""
    source = MapSource([folder], (*MAPS, "kind", "count"))
    predict = jax.jit(HeadNetwork().apply)
    parts = []
    for start in range(0, len(source), BATCH):
        rows = [source[number] for number in range(start, min(start + BATCH, len(source)))]
        batch = {name: jnp.stack([row[name] for row in rows]) for name in rows[0]}
        kinds, counts = predict({"params": params}, batch)
        parts.append((kinds, batch["kind"], counts, batch["count"]))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


if __name__ == "__main__":
    command.run(main)
