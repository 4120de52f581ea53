"""The downstream loop: which commands it takes, what it keeps of them, and what it says of models of known scores."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from handjax.errors import ConfigError, InputError, WeightsError
from handjax.recovery.files import save_recovery
from launch import evaluate, evaluate_downstream, stages
from tests.recovery.tiny_models import random_model

HANDS = 50
START = 10 + np.random.default_rng(0).normal(0, 3, HANDS)
"""mm; each arm and seed takes its own constant from it, of which no interval of the hands themselves would be sure."""
GAINS = {"start": 0, "original-seed0": 1, "original-seed1": 1.2, "with_generated-seed0": 1.5, "with_generated-seed1": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_recovery(random_model(), folder)
    return folder


@pytest.fixture
def called(monkeypatch):
    """Commands, which leave their folders and are written down; records are there, three times as many generated."""
    called = []

    def stage(name, *words, rounded=True):
        words = list(map(str, words))
        called.append((name, words))
        if name == "train":
            return
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True)
        if name == "evaluate":
            known = np.where(np.arange(HANDS) < 45, START - GAINS[out.name], np.nan)[:, None]
            np.savez(out / "scores.npz", **{"alone/pa_mpjpe_mm": known})
            (out / "figures.json").write_text("{}")

    def sources(paths, split):
        assert split == "train"
        sizes = {"original": 100, "painted@0.5": 150}
        sizes = [sizes[path] for path in paths.split(",")]
        return sizes, [size / sum(sizes) for size in sizes]

    monkeypatch.setattr(stages, "run", stage)
    monkeypatch.setattr(evaluate_downstream, "open_sources", sources)
    monkeypatch.setattr(evaluate_downstream, "held_out_records", lambda path: range(HANDS))
    return called


@pytest.fixture
def run(monkeypatch, capsys, model, tmp_path):
    def run(*words, **changed):
        flags = {"train": "original", "generated": "painted@0.5", "data": "held/test", "model": model}
        flags = flags | {"workdir": tmp_path / "work", "steps": 30} | changed
        given = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        argv = ["launch.evaluate", "--suite", "downstream", *given, *map(str, words), "--json"]
        monkeypatch.setattr(sys, "argv", argv)
        status = evaluate.main()
        return status, json.loads(capsys.readouterr().out)["items"]

    return run


def test_arms_differ_by_the_records_alone(run, called, model, tmp_path):
    assert run()[0] == 0
    assert [name for name, _ in called] == ["evaluate", *["train", "export", "evaluate"] * 2]
    trainings = [words for name, words in called if name == "train"]
    assert f"--config.init_weights={model}" in trainings[0] and f"--config.tokenizer={model}/tokenizer" in trainings[0]
    assert {"--config.steps=30", "--config.seed=0", "--config.optim.lr=0.0001"} < set(trainings[0])
    alone, both = (set(words) for words in trainings)
    assert "--config.ema_decay=0.0" in alone & both  # no average with the start is measured
    runs = [str(tmp_path / "work" / "runs" / f"{arm}-seed0") for arm in ("original", "with_generated")]
    assert alone - both == {"--config.data.path=original", runs[0]}
    assert both - alone == {"--config.data.path=original,painted@0.5", runs[1]}
    measured = [words for name, words in called if name == "evaluate"]
    assert all(words[words.index("--data") + 1] == "held/test" for words in measured)
    assert [words[words.index("--model") + 1] for words in measured] == [str(model), *(f"{r}/exported" for r in runs)]


def test_the_difference_is_that_of_the_arms_hand_by_hand(run, called, tmp_path):
    _, (item,) = run("--seeds", 1, 0, 1, "--out", tmp_path / "out")
    start = START[:45].mean()
    assert item["hands"] == 45 and item["start"] == pytest.approx(start)
    assert item["original"] == pytest.approx(start - 1.1) and item["with_generated"] == pytest.approx(start - 1.75)
    assert item["difference"] == pytest.approx(-0.65) and item["by_seed"] == pytest.approx([-0.5, -0.8])
    assert item["interval_95"] == pytest.approx([-0.65, -0.65])  # hands differ by 3 mm, and all gain the same
    document = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert document["figures"] == [item] and document["suite"] == "downstream" and document["versions"]["jax"]
    settings = document["settings"]
    assert settings["generated_share"] == pytest.approx(0.6) and settings["seeds"] == [0, 1]
    assert (settings["train"], settings["generated"], settings["data"]) == ("original", "painted@0.5", "test")


def test_what_is_whole_is_kept(run, called, monkeypatch):
    working = stages.run

    def interrupted(name, *words, **options):
        if name == "export" and len(called) > 3:
            raise KeyboardInterrupt
        working(name, *words, **options)

    monkeypatch.setattr(stages, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [name for name, _ in called] == ["evaluate", "train", "export", "evaluate", "train"]
    monkeypatch.setattr(stages, "run", working)
    first = run()
    assert [name for name, _ in called[5:]] == ["train", "export", "evaluate"]  # the training goes on by itself
    assert run() == first and len(called) == 8
    run("--seeds", 0, 1)
    assert [name for name, _ in called[8:]] == ["train", "export", "evaluate"] * 2
    with pytest.raises(ConfigError, match="its results are of steps 30, not 31; name another --workdir"):
        run(steps=31)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"steps": 0}, ConfigError, "--steps 0 --lr 0.0001; both must be above 0"),
        ({"lr": -1}, ConfigError, "both must be above 0"),
        ({"config": "sgm.py:tiny"}, ConfigError, "trains sgm; name a recipe as mmhmr.py"),
        ({"model": "nowhere"}, WeightsError, "nowhere"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_trained(run, called, changed, error, message):
    with pytest.raises(error, match=message):
        run(**changed)
    assert not called


def test_records_that_are_missing_are_told_before_anything_is_trained(run, monkeypatch):
    monkeypatch.setattr(stages, "run", None)
    with pytest.raises(InputError, match="held/test: no prepared data set"):
        run()
