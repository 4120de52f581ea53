"""Which commands make the tiny model; they are written down instead of run."""

import sys

import pytest

from launch import stages
from launch.assets import tiny_inpainting


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Runs the script with arguments and gives the words of each command."""
    assets = tmp_path / "assets"
    (assets / "sgm").mkdir(parents=True)
    monkeypatch.setattr(tiny_inpainting, "ASSET", assets)
    monkeypatch.setattr(tiny_inpainting.shutil, "rmtree", lambda *_, **__: None)

    def run(*arguments):
        called = []

        def stage(name, *words, **_):
            called.append([name, *map(str, words)])
            (assets / "sgm" / tiny_inpainting.PYTORCH_MODULE.name).touch()

        monkeypatch.setattr(stages, "run", stage)
        paths = ("--photos", tmp_path / "digits", "--workdir", tmp_path / "work")
        monkeypatch.setattr(sys, "argv", ["tiny_inpainting", *map(str, (*paths, *arguments))])
        tiny_inpainting.main()
        return called

    return run


def test_malformed_hands_are_a_source_of_their_own(commands, tmp_path):
    work = tmp_path / "work"
    plain, mixed = commands("--keep-vae"), commands("--keep-vae", "--malformed", "800")
    assert [words for words in plain if "malformed" in " ".join(words[1:]).replace(str(tmp_path), "")] == []
    (added,) = (words for words in mixed if words not in plain and words[0] == "precompute")
    assert added == ["precompute", "malformed:800", "--splits", "train", "--output", str(work / "malformed")]
    path = f"--config.data.path={work / 'photos'}@3,{work / 'rendered'}"
    encodings = [next(words for words in called if words[0] == "encode") for called in (plain, mixed)]
    assert [words[3] for words in encodings] == [path, f"{path},{work / 'malformed'}@2"]
    assert [words[0] for words in mixed].index("encode") > mixed.index(added)


def test_going_on_starts_with_a_copy_of_what_is_carried(commands, tmp_path):
    (tmp_path / "assets" / "sgm" / "weights").write_text("carried")
    called = commands("--malformed", "800", "--go-on")
    start = tmp_path / "work" / "start"
    assert (start / "sgm" / "weights").read_text() == "carried"
    trained = {words[2]: words for words in called if words[0] == "train"}
    assert list(trained) == ["tiny_inpainting.py", "sgm.py:tiny"]
    assert f"--config.start={start}" in trained["tiny_inpainting.py"]
    assert f"--config.start={start / 'sgm'}" in trained["sgm.py:tiny"]
    assert [next(w for w in words if "steps" in w) for words in trained.values()] == [
        "--config.steps=1000",
        "--config.steps=600",
    ]
    (tmp_path / "assets" / "sgm" / "weights").write_text("of the first export")
    commands("--malformed", "800", "--go-on")
    assert (start / "sgm" / "weights").read_text() == "carried"
