"""Makes the learned head of HandAnat, in one command that goes on where it was stopped:

    python -m launch.assets.anatomy_head --photos DIR --workdir DIR

`DIR` holds photographs of normal hands (Sign Language Digits Dataset, Apache-2.0). Malformed hands are rendered and
made of the photographs, their feature maps are written down once, the head learns from them, and hands that are held
out of training give temperature and threshold. The test sets are not looked at.
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
from data_pipelines.malformed.photos import session
from data_pipelines.malformed.rendered import LICENCE
from data_pipelines.splits import split_names
from handjax.anatomy.head import ASSET, MAPS, HeadNetwork, initial_params, save_head
from handjax.record import HandRecord
from handjax.training.checkpoints import restore_params
from launch import command
from launch.assets.tiny_inpainting import stage

RECIPE = "anatomy_head.py"
VALIDATION_SHARE = 0.1
FALSE_ALARMS = 0.03
"""Share of edited normal hands of validation above the threshold; of real ones there are fewer."""
SPLITS = ("train", "eval")
BATCH = 64


def main() -> None:
    """Runs the stages that have not left their result yet."""
    parser = argparse.ArgumentParser(prog="launch.assets.anatomy_head", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photographs of normal hands")
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="records, maps and the run")
    parser.add_argument("--rendered", type=int, default=8000, help="rendered hands beside the photographs")
    arguments = parser.parse_args()
    work = arguments.workdir
    sources = {"photos": f"malformed-photos:{arguments.photos}", "rendered": f"malformed:{arguments.rendered}"}
    for number, (name, source) in enumerate(sources.items()):
        records, maps = work / name, work / "maps" / name
        if not records.exists():
            # some photographs show no hand: status 2, but the rest is prepared
            stage("precompute", source, "--output", records, tolerated=command.USER_ERROR_STATUS)
        for split, chosen in split_records(open_records(records, "train") or ()).items():
            if not (maps / split).exists():
                print(f"{maps / split}: {write_maps(chosen, maps / split, seed=number)} hands", flush=True)
    paths = ",".join(str(work / "maps" / name) for name in sources)
    stage("train", "--config", RECIPE, "--workdir", work / "run", f"--config.data.path={paths}")
    _, params = restore_params(work / "run", jax.eval_shape(initial_params))
    export(params, [work / "maps" / name / "eval" for name in sources], ASSET.parent)


def split_records(records: Sequence[HandRecord]) -> dict[str, list[HandRecord]]:
    """Divides records into "train" and "eval"; photographs of one session stay together."""
    keys = [record.id if record.licence == LICENCE else session(record.source or "") for record in records]
    held_out = set(split_names(dict.fromkeys(keys), VALIDATION_SHARE).get("eval", ()))
    sides: dict[str, list[HandRecord]] = {split: [] for split in SPLITS}
    for record, key in zip(records, keys, strict=True):
        sides[SPLITS[key in held_out]].append(record)
    return sides


def export(params: dict, folders: Sequence[Path], folder: Path) -> None:
    """Writes a head with the temperature and threshold that validation asks for.

    Args:
      params: of the head.
      folders: validation's maps. The threshold is for the first of them, photographs; rendered hands are harder.
      folder: receives the file.
    """
    parts = [_validate(params, maps) for maps in folders]
    kinds, true_kinds, counts, true_counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    temperatures = [temperature(kinds, true_kinds), temperature(counts, true_counts)]
    photos, true_photos = parts[0][:2]
    normal = jax.nn.softmax(photos[true_photos == 0] / temperatures[0])
    threshold = float(np.quantile(1 - normal[:, 0], 1 - FALSE_ALARMS))
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
