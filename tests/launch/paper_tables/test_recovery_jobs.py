"""What the rows of MMHMR's tables train and measure, by commands that only write down how they were called."""

import json
import sys
from pathlib import Path

import pytest

from handjax.errors import ConfigError
from launch import stages, tables
from launch.paper_tables.recovery_jobs import RecoveryWorkshop
from launch.paper_tables.recovery_rows import FULL, ONE_ITERATION, RECOVERY_TABLES, TOKENS, Recovery
from launch.paper_tables.rows import TABLES


@pytest.fixture
def called(monkeypatch):
    """Commands that were called; an evaluation finds errors that grow with the number of calls."""
    calls = []

    def stage(name, *words, rounded=True):
        words = list(map(str, words))
        calls.append((name, words))
        if name != "train":
            out = Path(words[words.index("--out") + 1])
            out.mkdir(parents=True)
            names = [column.ours for table in RECOVERY_TABLES for column in (*table.columns, *table.also)]
            value = float(len(calls))
            items = [{"name": n, "value": value, "interval_95": [value - 1, value + 1]} for n in names]
            (out / "figures.json").write_text(json.dumps({"figures": items}))

    monkeypatch.setattr(stages, "run", stage)
    return calls


@pytest.fixture
def workshop(tmp_path):
    return RecoveryWorkshop(tmp_path / "work", "photos,rendered@2", ("rendered",), 50, 30, 4, 6)


def names(called):
    return [name for name, _ in called]


def test_rows_of_one_training_and_of_one_tokenizer_share_it(workshop, called):
    first = workshop.measured(FULL, 0)
    assert names(called) == ["train", "export"] * 2 + ["evaluate"]
    workshop.measured(ONE_ITERATION, 0)
    workshop.measured(Recovery("alone", TOKENS[64], None), 0)
    assert names(called)[5:] == ["evaluate"] * 2
    assert workshop.measured(FULL, 0) == first and len(called) == 7
    workshop.measured(FULL, 1)
    assert names(called)[7:] == ["train", "export"] * 2 + ["evaluate"] and "--config.seed=1" in called[7][1]


def test_what_the_commands_are_told(workshop, called):
    workshop.measured(ONE_ITERATION, 0)
    workshop.measured(Recovery("alone", TOKENS[16], None), 0)
    (tokenizer, transformer, few), (recovery, alone) = (
        [words for name, words in called if name == command] for command in ("train", "evaluate")
    )
    assert "vq_mano.py:embedded" in tokenizer and "mmhmr.py:embedded" in transformer
    assert {"--config.steps=30", "--config.network.tokens=64", "--config.quantizer.codes=2048"} < set(tokenizer)
    assert "--config.network.tokens=16" in few
    exported = workshop.folder / "runs" / "tokens-64-2048x256-seed0" / "exported"
    told = {f"--config.tokenizer={exported}", "--config.steps=50", "--config.batch_size=4", "--config.network.layers=4"}
    assert told | {"--config.data.path=photos,rendered@2", "--config.optim.warmup_steps=5"} < set(transformer)
    assert recovery[recovery.index("--iterations") + 1] == "1" and recovery[recovery.index("--limit") + 1] == "6"
    assert alone[alone.index("--suite") + 1] == "vq_mano"


def test_all_rows_that_the_paper_trains_are_there():
    titles = [table.title for table in RECOVERY_TABLES]
    assert [int(title.split("Table ")[1].split(" ")[0]) for title in titles] == [5, 7, 8, 9, 11, 14, 15, 16]
    assert [len(table.rows) for table in RECOVERY_TABLES] == [6, 4, 4, 4, 5, 3, 5, 4]
    settings = RecoveryWorkshop(Path(), "", ("",), 1, 1, 1, 1).settings_of(RECOVERY_TABLES)
    rows = [row.setting for table in RECOVERY_TABLES for row in table.rows if row.setting]
    assert set(settings) == set(rows) and len({setting.name for setting in settings}) == len(settings) == 27


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    def run(*words):
        argv = ["launch.tables", "--data", "a/photos,b/rendered", "--tests", "b/rendered", "--workdir", tmp_path]
        monkeypatch.setattr(sys, "argv", list(map(str, [*argv, *words])))
        assert tables.main() == 0
        return capsys.readouterr().out

    return run


def test_the_page_of_some_tables(run, called, tmp_path):
    page, out = tmp_path / "page.md", tmp_path / "tables.json"
    printed = run("--set", "recovery", "--only", "Table 7", "Table 16", "--steps", 20, "--page", page, "--out", out)
    text, document = page.read_text(), json.loads(out.read_text())
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## MMHMR, Table 7 (masking while training; FreiHAND)",
        "## MMHMR, Table 16 (layers of the synthesiser; FreiHAND)",
    ]
    assert "20 steps of\nbatch 16 on photos,rendered with" in text and "1 of 7: most-0.3, seed 0" in printed
    assert names(called).count("train") == 8  # seven transformers on one tokenizer
    assert document["settings"]["data"] == "photos,rendered" and document["settings"]["folder"] is None
    (row,) = (row for row in document["tables"][0]["rows"] if row["name"] == "τ to 0.7")
    assert row["paper"] == {"PA-MPJPE": 5.7, "PA-MPVPE": 5.5}
    assert row["figures"]["with_keypoints/pa_mpjpe_mm"]["value"] > 0 and "alone/pa_mpjpe_mm" in row["figures"]


def test_bad_options_are_told(run):
    with pytest.raises(ConfigError, match=TABLES[0].title.replace("(", r"\(").replace(")", r"\)")):
        run("--only", "Table 99")
    with pytest.raises(ConfigError, match="--tokenizer-steps is 0; it must be at least 1"):
        run("--set", "recovery", "--tokenizer-steps", 0)
    with pytest.raises(ConfigError, match="the set recovery has at most 1"):
        run("--set", "recovery", "--tests", "a", "b")
