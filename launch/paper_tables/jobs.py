"""The jobs behind the rows: encode, train, export, paint, measure. What is whole is kept, so that a run goes on."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from data_pipelines.features import open_records
from handjax.captioning.picture import Picture
from handjax.captioning.refinement import REPAIRED, VALID
from handjax.captioning.rules import rule_refinement
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.files import write_json
from handjax.images import decode_image
from handjax.perception import HandDetector
from handjax.training.checkpoints import content_hash
from launch import command, stages
from launch.paper_tables.painting import held_out_examples, make_paint, photographs, write_painted, write_pictures
from launch.paper_tables.rows import Examples, Setting, Table, Training, settings_of

MODEL = "tiny_inpainting"
MOST_EXAMPLES = 24_000
ENCODED_BY = "sesahand.py:tiny"
"""Its examples have every picture that any of the recipes follows."""


@dataclasses.dataclass(frozen=True)
class Workshop:
    """A folder of runs and results, and the budget that they are of.

    Attributes:
      folder: of everything that is made.
      data: prepared records to train on, as a recipe's `data.path`.
      tests: prepared records whose held-out split is painted.
      steps: of each training.
      batch_size: of each training.
      pictures: painted of each test set.
    """

    folder: Path
    data: str
    tests: tuple[str, ...]
    steps: int
    batch_size: int
    pictures: int

    def claim(self) -> None:
        """Notes what the folder's results are made with; raises ConfigError where that was something else."""
        stages.claim(self.folder, self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the figures depend on, but for the seeds."""
        return dataclasses.asdict(self) | {"folder": None, "model": MODEL, "weights": content_hash(self.model)}

    def settings_of(self, tables: Sequence[Table]) -> list[Setting]:
        """The settings of all rows that the test sets allow."""
        return settings_of(tables, len(self.tests))

    def measured(self, setting: Setting, seed: int) -> dict[str, dict[str, Any]]:
        """Figures by name, each with `value` and `interval_95`, of a setting whose training has a seed."""
        name = f"{setting.name}-test{setting.test}-seed{seed}"
        path = self.folder / "results" / f"{name}.json"
        if not path.exists():
            painted, reference = self.painted(setting, seed, name), self.reference(setting)
            suites = [self._suite(suite, painted, reference, seed) for suite in ("distance", "hands")]
            figures = {item["name"]: item for items in suites for item in items}
            write_json(path, {"setting": dataclasses.asdict(setting), "seed": seed, "figures": figures})
        return json.loads(path.read_text())["figures"]

    def painted(self, setting: Setting, seed: int, name: str) -> Path:
        """Folder of a setting's pictures of its test set."""
        folder = self.folder / "painted" / name
        adapter = self.trained(setting.training, seed) if setting.training else None
        if not folder.exists():
            paint = make_paint(setting, self.model, adapter, HandDetector.load())
            write_painted(self._batches(setting), paint, folder, seed, self.pictures)
            jax.clear_caches()  # a program of each adapter would stay in memory
        return folder

    def reference(self, setting: Setting) -> Path:
        """Folder of the photographs of a setting's test set."""
        folder = self.folder / f"test{setting.test}"
        if not folder.exists():
            write_pictures(map(photographs, self._batches(setting)), folder, self.pictures)
        return folder

    def trained(self, training: Training, seed: int) -> Path:
        """Folder of what a training has exported."""
        fields = {
            "data.path": self.encoded(training.examples),
            "data.encoded": True,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "seed": seed,
            "eval_every": 0,
            "preview_every": 0,
        }
        run = self.folder / "runs" / f"{training.name}-seed{seed}"
        return stages.trained(run, training.recipe, training.layout, fields, *training.overrides)

    def encoded(self, examples: Examples) -> Path:
        """Folder of the examples that trainings share."""
        folder = self.folder / "encoded" / examples
        if not folder.exists():
            fields = {
                "data.path": self.data,
                "data.full_mask_prob": float(examples != "hands"),
                "data.captions": self.captions() if examples == "refined" else "",
            }
            words = [f"--config.{name}={value}" for name, value in fields.items()]
            count = min(self.steps * self.batch_size, MOST_EXAMPLES)
            sizes = ("--examples", count, "--eval-examples", 1)
            stages.run("encode", "--config", ENCODED_BY, *words, *sizes, "--output", folder)
        return folder

    def captions(self) -> Path:
        """File of the captions that the rules make of all records' pictures."""
        path = self.folder / "captions.json"
        if not path.exists():
            trained_on = [item.partition("@")[0].strip() for item in self.data.split(",")]
            write_json(path, refine_captions([*trained_on, *self.tests]))
        return path

    @functools.cached_property
    def model(self) -> StableDiffusion:
        """The frozen model, on the device."""
        return jax.device_put(load_stable_diffusion(MODEL))

    def _batches(self, setting: Setting) -> Iterable[Mapping[str, Any]]:
        captions = self.captions() if setting.examples == "refined" else Path()
        return held_out_examples(self.tests[setting.test], setting, self.model, self.pictures, captions)

    def _suite(self, suite: str, painted: Path, reference: Path, seed: int) -> list[dict[str, Any]]:
        """Items of a suite of `launch.evaluate`, which has status 2 where only some figures are missing."""
        out = self.folder / "suites" / painted.name / suite
        words = ("--data", painted, "--reference", reference, "--seed", seed, "--out", out)
        stages.run("evaluate", "--suite", suite, *words, tolerated=command.USER_ERROR_STATUS)
        if not (out / "figures.json").exists():
            raise stages.StageError(f"launch.evaluate --suite {suite} gave no figures; mend what it says above")
        return json.loads((out / "figures.json").read_text())["figures"]


def refine_captions(paths: Iterable[str]) -> dict[str, str]:
    """Captions of what records show, by their id; of those without a visible hand there is none.

    The rules are not told the records' own captions, which would take up what a text encoder reads.
    """
    refine, detector, captions = rule_refinement(), HandDetector.load(), dict[str, str]()
    for path in dict.fromkeys(paths):
        for records in filter(None, (open_records(path, split) for split in ("train", "eval"))):
            for number in tqdm(range(len(records)), f"caption {Path(path).name}", unit="record", disable=None):
                record = records[number]
                refined = refine(Picture(decode_image(record.image, record.id), "", detector.detect))
                if refined.status in (VALID, REPAIRED):
                    captions[record.id] = refined.caption
    return captions
