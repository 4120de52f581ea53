"""How well the embedded discriminator tells hands apart that it has not learned from: `launch.bench discriminator`."""

import dataclasses
import io
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Float
from PIL import Image

from data_pipelines.features import open_records
from data_pipelines.splits import picture_of
from data_pipelines.transforms import Augmentation, draw_window
from handjax.diffusion.model import load_stable_diffusion
from handjax.errors import ConfigError, InputError
from handjax.guidance.discriminator import load_discriminator
from handjax.guidance.mghand import CROP_SCALE
from handjax.metrics.intervals import wilson_interval
from handjax.record import HandRecord
from launch.assets.mghand import GENERATED
from launch.guidance import EMBEDDED

MODEL = "tiny_inpainting"
WINDOW = Augmentation(crop_scale=(CROP_SCALE, CROP_SCALE))
BATCH = 32
NORMAL = "none"
FINISHED, HALF_DONE = "generated, finished", "generated, half done"


def bench_discriminator(runs: int, data: Path | None = None, samples: int = 400) -> Iterator[dict[str, Any]]:
    """Scores of held-out crops: photographs, rendered hands, generated ones, and malformed ones beside normal ones.

    Args:
      runs: of no account; nothing is timed.
      data: workdir of `launch.assets.mghand`. Its malformed hands have not been learned from, whatever their split.
      samples: crops of each kind at most.

    Raises:
      ConfigError: there is no folder.
      InputError: a part of it is missing.
    """
    if data is None:
        raise ConfigError("discriminator needs the workdir of launch.assets.mghand; name it with --data")
    kinds: dict[str, list[HandRecord]] = {}
    for name in ("photos", "rendered"):
        kinds[name] = read_records(data / name, "eval")
    kinds[FINISHED], kinds[HALF_DONE] = split_by_state(read_records(data / GENERATED, "eval"))
    hands = [without_verdict(record) for record in read_records(data / "malformed", "train")]
    kinds["normal"] = [record for record in hands if record.edit == NORMAL]
    kinds["malformed"] = [record for record in hands if record.edit != NORMAL]
    score = load_score()
    scores = {name: score(records[:: -(-len(records) // samples)]) for name, records in kinds.items()}
    for real, false in (*itertools.product(("photos", "rendered"), (FINISHED, HALF_DONE)), ("normal", "malformed")):
        yield from told_apart(real, scores[real], false, scores[false])


def split_by_state(records: Sequence[HandRecord]) -> tuple[list[HandRecord], list[HandRecord]]:
    """Hands of finished pictures, and of each unfinished picture the one that is in the middle of its estimates."""
    finished, by_picture = [], defaultdict(list)
    for record in records:
        name = record.id.rpartition("#")[0]
        if picture_of(name) == name:
            finished.append(record)
        else:
            by_picture[picture_of(name)].append(record)
    return finished, [estimates[len(estimates) // 2] for estimates in by_picture.values()]


def without_verdict(record: HandRecord) -> HandRecord:
    """A hand whose caption does not say whether it is malformed, for the discriminator reads that too."""
    return dataclasses.replace(record, caption=f"a rendered photo of a {record.side} hand")


def read_records(folder: Path, split: str) -> list[HandRecord]:
    """All records of a split.

    Raises:
      InputError: there are none.
    """
    records = open_records(folder, split)
    if records is None:
        raise InputError(f"{folder}: no records of split {split!r}; run launch.assets.mghand with this workdir")
    return [records[number] for number in range(len(records))]


def load_score() -> Callable[[Sequence[HandRecord]], Float[np.ndarray, " crops"]]:
    """The embedded discriminator as a function of records: the score of each one's hand, told its caption."""
    critic, model = load_discriminator(EMBEDDED), load_stable_diffusion(MODEL)
    read = jax.jit(lambda critic, model, crops, ids: critic(crops, model.embed_ids(ids)))

    def score(records: Sequence[HandRecord]) -> Float[np.ndarray, " crops"]:
        rng, scores = np.random.default_rng(0), []
        for start in range(0, len(records), BATCH):
            part = list(records[start : start + BATCH])
            filled = part + part[-1:] * (BATCH - len(part))
            crops = jnp.stack([see(record, critic.size, rng) for record in filled])
            ids = jnp.asarray(model.tokenizer([record.caption or "" for record in filled]))
            scores.append(np.asarray(read(critic, model, crops, ids))[: len(part)])
        return np.concatenate(scores)

    return score


def see(record: HandRecord, size: int, rng: np.random.Generator) -> Float[np.ndarray, "size size 3"]:
    """The crop of a record as the guide sees one."""
    side = Image.open(io.BytesIO(record.image)).width
    return draw_window(side, size, WINDOW, rng).photo(record.image)


def told_apart(
    real: str, real_scores: Float[np.ndarray, " r"], false: str, false_scores: Float[np.ndarray, " f"]
) -> Iterator[dict[str, Any]]:
    """The share of either kind that is told right, and how often one of the first scores above one of the other."""
    pair = f"{real} and {false}"
    for name, right in ((real, real_scores > 0), (false, false_scores < 0)):
        part, of = int(right.sum()), len(right)
        told = {"ours": part / of, "part": part, "of": of, "interval_95": wilson_interval(part, of)}
        yield {"name": f"discriminator, {pair}: {name} told right", "unit": "of crops", **told}
    above = scipy.stats.mannwhitneyu(real_scores, false_scores)
    area = float(above.statistic) / (len(real_scores) * len(false_scores))
    yield {"name": f"discriminator, {pair}: area under the curve", "ours": area, "unit": "", "p": float(above.pvalue)}
