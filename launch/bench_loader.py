"""How fast training examples are made: at the tiny model's size and at 512², plain and augmented, by read threads."""

import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.loader import make_loader
from data_pipelines.rendered import RenderedJob
from data_pipelines.shards import finish, make_shard, plan_shards
from handjax.tasks import make_task
from handjax.training.config import load_config
from launch.train import data_section

RECIPE = "sgm.py:tiny"
# Side of the examples: side of the records, and how many examples a run times.
SIZES = {96: (192, 512), 512: (640, 64)}
THREADS = (1, 2, 4)
RECORDS = 24
BATCH = 8
DRAINED = 8
"""Batches taken before the clock starts: more than the loader makes ahead."""
EVERY_CHANGE = {
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.05,
    "occlusion_prob": 0.5,
    "keypoint_noise": 0.02,
}
PLAIN = {"augment": False}


def bench_loader(runs: int) -> Iterator[dict[str, Any]]:
    """Seconds an example of `sgm.py:tiny`'s batches, beside the plain loader with one thread in the same turn."""
    for size, (side, examples) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            write_records(Path(folder), side)
            yield from bench_size(Path(folder), size, examples, runs)


def bench_size(records: Path, size: int, examples: int, runs: int) -> Iterator[dict[str, Any]]:
    """Times every number of threads, plain and augmented, one after the other `runs` times.

    Args:
      records: folder of prepared records.
      size: side of the examples in pixels.
      examples: timed a run.
      runs: of each.
    """
    ways = list(itertools.product((False, True), THREADS))
    loaders = [read_batches(records, size, threads, EVERY_CHANGE if changed else PLAIN) for changed, threads in ways]
    times = [[loader_rate(batches, examples) for batches in loaders] for _ in range(runs)]
    base = [turn[0][0] for turn in times]
    for (changed, threads), measured in zip(ways, zip(*times, strict=True), strict=True):
        ours, cpu = (statistics.median(values) for values in zip(*measured, strict=True))
        ratio = statistics.median(wall / first for (wall, _), first in zip(measured, base, strict=True))
        yield {
            "name": f"loader_{size}_{'augmented' if changed else 'plain'}_threads{threads}",
            "ours": ours,
            "peer": statistics.median(base),
            "peer_name": "plain with 1 thread",
            "ratio": ratio,
            "unit": "s",
            "runs": runs,
            "examples_per_s": 1 / ours,
            "examples_per_cpu_s": 1 / cpu,
        }


def read_batches(records: Path, size: int, threads: int, options: dict[str, Any]) -> Iterator[Any]:
    """Opens the loader that `launch.train` would, with examples of another size.

    Args:
      records: folder of prepared records.
      size: side of the examples in pixels.
      threads: that make batches ahead.
      options: further fields of the recipe's `data`.
    """
    config = load_config(RECIPE)
    task = make_task(config)
    data = data_section(config, task)
    data.update({"path": str(records), "image_size": size, "read_threads": threads, **options})
    spec = dataclasses.replace(task, image_size=size).batch_spec()
    return iter(make_loader(data, spec, BATCH, seed=0, split="train"))


def loader_rate(batches: Iterator[Any], examples: int) -> tuple[float, float]:
    """Wall and CPU seconds of an example, once all batches that were made ahead are taken.

    Args:
      batches: of `BATCH` examples.
      examples: how many to time.
    """
    for _ in range(DRAINED):
        next(batches)
    count = max(examples // BATCH, 1)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(batches)
    return (time.perf_counter() - wall) / (count * BATCH), (time.process_time() - cpu) / (count * BATCH)


def write_records(folder: Path, side: int) -> None:
    """Renders records to read.

    Args:
      folder: where they go.
      side: of their pictures in pixels.
    """
    job = RenderedJob(RECORDS, size=side, eval_fraction=0.0)
    shards = plan_shards(job)
    for shard in shards:
        make_shard(shard, job.open(), folder)
    finish(job, shards, folder)
