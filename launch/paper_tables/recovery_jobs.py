"""The jobs behind the rows of MMHMR's tables: train tokenizers and transformers, measure them."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch import stages
from launch.paper_tables.recovery_rows import Recovery
from launch.paper_tables.rows import Table, Training

WARMUP_SHARE = 10
"""One in so many steps; the recipe's own number is of a longer training."""


@dataclasses.dataclass(frozen=True)
class RecoveryWorkshop:
    """A folder of runs and results, and the budget that they are of.

    Attributes:
      folder: of everything that is made.
      data: prepared records with meshes to train on, as a recipe's `data.path`.
      tests: one folder of prepared records, whose held-out split is read.
      steps: of each transformer.
      tokenizer_steps: of each tokenizer.
      batch_size: of each transformer.
      pictures: read of the test set.
    """

    folder: Path
    data: str
    tests: tuple[str, ...]
    steps: int
    tokenizer_steps: int
    batch_size: int
    pictures: int

    def claim(self) -> None:
        """Notes what the folder's results are made with; raises ConfigError where that was something else."""
        stages.claim(self.folder, self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the figures depend on, but for the seeds."""
        return dataclasses.asdict(self) | {"folder": None}

    def settings_of(self, tables: Sequence[Table]) -> list[Recovery]:
        """The settings of all rows, each once."""
        settings = (row.setting for table in tables for row in table.rows)
        return list(dict.fromkeys(setting for setting in settings if isinstance(setting, Recovery)))

    def measured(self, setting: Recovery, seed: int) -> dict[str, dict[str, Any]]:
        """Figures by name, each with `value` and, of means, `interval_95`, of a setting whose trainings have a seed."""
        out = self.folder / "measured" / f"{setting.name}-seed{seed}"
        if not (out / "figures.json").exists():
            tokenizer = self.tokenizer(setting.tokenizer, seed)
            if setting.training is None:
                words: tuple[object, ...] = ("--suite", "vq_mano", "--model", tokenizer)
            else:
                model = self.transformer(setting.training, tokenizer, seed)
                words = ("--suite", "recovery", "--model", model, "--data", self.tests[0], "--limit", self.pictures)
                words += ("--iterations", setting.iterations)
            stages.run("evaluate", *words, "--out", out, rounded=False)
        return {item["name"]: item for item in json.loads((out / "figures.json").read_text())["figures"]}

    def tokenizer(self, training: Training, seed: int) -> Path:
        """Folder of a tokenizer."""
        fields = {"steps": self.tokenizer_steps, "seed": seed, "eval_every": self.tokenizer_steps // 10 or 1}
        return stages.trained(self._run(training, seed), training.recipe, "handjax", fields, *training.overrides)

    def transformer(self, training: Training, tokenizer: Path, seed: int) -> Path:
        """Folder of a transformer on top of a tokenizer."""
        fields = {
            "tokenizer": tokenizer,
            "data.path": self.data,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "seed": seed,
            "optim.warmup_steps": self.steps // WARMUP_SHARE,
            "ema_decay": 0.0,  # an average over so few steps would be of the random start
            "eval_every": 0,
            "preview_every": 0,
        }
        return stages.trained(self._run(training, seed), training.recipe, "handjax", fields, *training.overrides)

    def _run(self, training: Training, seed: int) -> Path:
        return self.folder / "runs" / f"{training.name}-seed{seed}"
