"""Do generated hands help mesh recovery? `python -m launch.evaluate --suite downstream`.

A trained model is trained on twice, by the same recipe, steps, batch and seeds: on the original records alone, and on
these and generated ones together. Both and the model before are measured on the same held-out hands by the suite
`recovery`, and compared hand by hand. Run again after an interruption it goes on where it was; run again with more
seeds it makes what they need besides.

Source: SesaHand's fine-tuning of InterWild and DIR.
"""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import FrozenConfigDict

from data_pipelines.loader import open_sources
from handjax.errors import ConfigError
from handjax.files import write_json
from handjax.metrics.comparison import paired_difference
from handjax.metrics.keypoints import mean_over_points
from handjax.recovery.decoding import ITERATIONS
from handjax.recovery.files import ASSET, RECOVERY_WEIGHTS, TOKENIZER
from handjax.training.checkpoints import content_hash
from handjax.training.config import load_config
from handjax.weights.files import read_weights
from launch import command, stages
from launch.evaluate_recovery import LIMIT, SCORES, held_out_records

RECIPE = "mmhmr.py:embedded"
STEPS, RATE = 500, 1e-4
ARMS = ("original", "with_generated")
Scores = dict[str, Float[np.ndarray, "hands _"]]


@dataclasses.dataclass(frozen=True)
class Downstream:
    """A folder of runs and their figures.

    Attributes:
      folder: of everything that is made.
      recipe: of mesh recovery, as `launch.train --config` takes it.
      model: its exported weights, to train on from.
      train: original records, as a recipe's `data.path`.
      generated: those that are added to them, likewise.
      data: records whose held-out hands are measured.
      steps: of each training.
      lr: learning rate of all its steps.
      limit: number of held-out hands.
      iterations: of decoding.
    """

    folder: Path
    recipe: str
    model: Path
    train: str
    generated: str
    data: str
    steps: int = STEPS
    lr: float = RATE
    limit: int = LIMIT
    iterations: int = ITERATIONS

    @functools.cached_property
    def config(self) -> FrozenConfigDict:
        """The recipe."""
        return load_config(self.recipe)

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """All that the figures depend on, but for the seeds; asked for before anything is trained.

        Raises:
          ConfigError: no such recipe, or not one of mesh recovery.
          InputError: records are missing.
          WeightsError: so is the model.
        """
        if self.config.task != "mesh_recovery":
            raise ConfigError(f"--config {self.recipe} trains {self.config.task}; name a recipe as mmhmr.py")
        held_out_records(self.data)
        _, shares = open_sources(self.paths["with_generated"], "train")
        added = len(open_sources(self.generated, "train")[0])
        # not `load_recovery`, which would take the memory of an accelerator that the trainings need
        weights = content_hash(dict(read_weights(self.model / RECOVERY_WEIGHTS)))
        about = {"batch_size": self.config.batch_size, "generated_share": sum(shares[-added:]), "weights": weights}
        return dataclasses.asdict(self) | {"folder": None, "model": self.model.name} | about

    def describe(self) -> dict[str, Any]:
        """The settings without the places of folders."""
        names = {name: _names(getattr(self, name)) for name in ("recipe", "train", "generated", "data")}
        return {name: value for name, value in self.settings.items() if name != "folder"} | names

    @property
    def paths(self) -> dict[str, str]:
        """Of the records that each arm is trained on."""
        return dict(zip(ARMS, (self.train, f"{self.train},{self.generated}"), strict=True))

    def start(self) -> Scores:
        """Hand by hand, how good the model is from which both arms begin."""
        return self._measured(self.model, "start")

    def measured(self, arm: str, seed: int) -> Scores:
        """Hand by hand, how good it is after the training of an arm."""
        return self._measured(self._trained(arm, seed), f"{arm}-seed{seed}")

    def _trained(self, arm: str, seed: int) -> Path:
        """Folder of the weights that a training has exported."""
        fields = {
            "init_weights": self.model,
            "tokenizer": self.model / TOKENIZER,
            "data.path": self.paths[arm],
            "steps": self.steps,
            "optim.lr": self.lr,
            "optim.schedule": "constant",
            "optim.warmup_steps": 0,
            "seed": seed,
            "ema_decay": 0.0,  # an average over so few steps would be in great part of the start
            "eval_every": 0,
            "preview_every": 0,
        }
        return stages.trained(self.folder / "runs" / f"{arm}-seed{seed}", self.recipe, "handjax", fields)

    def _measured(self, model: Path, name: str) -> Scores:
        out = self.folder / "measured" / name
        if not (out / "figures.json").exists():
            words = ("--data", self.data, "--model", model, "--hand-model", self.config.hand_model)
            numbers = ("--limit", self.limit, "--iterations", self.iterations)
            stages.run("evaluate", "--suite", "recovery", *words, *numbers, "--out", out, rounded=False)
        with np.load(out / SCORES) as scores:
            return dict(scores)


def add_downstream_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate_downstream` reads."""
    add = parser.add_argument
    add("--train", required=True, metavar="PATHS", help="original records to train on, as a recipe's data.path")
    add("--generated", required=True, metavar="PATHS", help="records added to them, such as painted ones; DIR@2 twice")
    add("--data", required=True, metavar="DIR", help="prepared records, of which the held-out split is measured")
    add("--workdir", type=Path, required=True, metavar="DIR", help="runs and their figures; goes on with them")
    add("--config", default=RECIPE, metavar="FILE[:VARIANT]", help=f"recipe of the model (default: {RECIPE})")
    add("--model", type=Path, default=ASSET, metavar="DIR", help="its exported weights, to train on from")
    add("--steps", type=int, default=STEPS, help=f"of each training (default: {STEPS})")
    add("--lr", type=float, default=RATE, help=f"learning rate, the same at all steps (default: {RATE:g})")
    add("--seeds", type=int, nargs="+", default=[0], help="a training of each arm each (default: 0)")
    add("--iterations", type=command.positive(int), default=ITERATIONS, help="of decoding")
    add("--limit", type=int, default=LIMIT, help="number of held-out hands")
    add("--out", type=command.output_folder, metavar="DIR", help="folder for figures.json")
    add("--json", action="store_true", help="print one JSON document instead of lines")


def evaluate_downstream(arguments: argparse.Namespace, report: command.Report) -> None:
    """Does what is not done yet, prints each figure of the three models and writes them to `arguments.out`."""
    if arguments.steps < 1 or arguments.lr <= 0:
        raise ConfigError(f"--steps {arguments.steps} --lr {arguments.lr:g}; both must be above 0")
    same = ("model", "train", "generated", "data", "steps", "lr", "limit", "iterations")
    fields = {name: getattr(arguments, name) for name in same}
    downstream = Downstream(folder=arguments.workdir, recipe=arguments.config, **fields)
    stages.claim(downstream.folder, downstream.settings)
    seeds, start = sorted(set(arguments.seeds)), downstream.start()
    items = compare(start, *([downstream.measured(arm, seed) for seed in seeds] for arm in ARMS))
    for item in items:
        report.item(item, describe(item))
    if arguments.out:
        settings = downstream.describe() | {"seeds": seeds}
        document = {"suite": "downstream", "figures": items, "settings": settings, **command.environment()}
        write_json(arguments.out / "figures.json", document)


def compare(start: Scores, original: list[Scores], generated: list[Scores]) -> list[dict[str, Any]]:
    """Figures by name: at the start, of either arm, and their difference.

    Scores are averaged over the seeds; the interval is over hands, `by_seed` tells how the trainings differ.

    Args:
      start: of the model before.
      original: after training on the original records, of each seed.
      generated: after training on generated ones besides, of the same seeds.
    """
    items = []
    for name, before in start.items():
        arms = [[scores[name] for scores in arm] for arm in (original, generated)]
        means = [np.mean(arm, axis=0) for arm in arms]
        difference, interval = paired_difference(*means)
        values = {key: _figure(scores) for key, scores in zip(("start", *ARMS), (before, *means), strict=True)}
        by_seed = [_figure(after) - _figure(alone) for alone, after in zip(*arms, strict=True)]
        measured = {"difference": difference, "interval_95": interval, "by_seed": by_seed}
        items.append({"name": name, **values, **measured, "hands": int(np.isfinite(before).any(axis=1).sum())})
    return items


def describe(item: dict[str, Any]) -> str:
    """One line of a figure."""
    low, high = item["interval_95"]
    values = "start {start:.4g}, original {original:.4g}, with generated {with_generated:.4g}".format(**item)
    return f"{item['name']:32} {values}: {item['difference']:+.3g} [{low:+.3g}, {high:+.3g}] of {item['hands']} hands"


def _figure(scores: Float[np.ndarray, "hands _"]) -> float:
    return mean_over_points(scores, np.isfinite(scores))


def _names(paths: str) -> str:
    return ",".join(Path(item).name for item in paths.split(","))
