"""Where results go is looked at before the work."""

import importlib
import os
import sys

import pytest

from handjax.errors import ConfigError
from launch import command

FILES = (
    ("score", "photo.jpg", "--report"),
    ("score", "photo.jpg", "--csv"),
    ("bench", "first_image", "--out"),
    ("caption", "photos", "--out"),
    ("parity", "--out"),
    ("scaling", "report.json", "--out"),
    ("tables", "--data", "data", "--workdir", "work", "--out"),
)
FOLDERS = (
    ("commitment", "a fist", "--out"),
    ("generate", "a fist", "--out"),
    ("refine", "photo.jpg", "--out"),
    ("reconstruct", "photo.jpg", "--out"),
    ("detect", "photo.jpg", "--out"),
    ("export", "--run", "run", "--to", "lora", "--out"),
    ("demo", "--out"),
    *(("evaluate", "--suite", suite, "--out") for suite in ("hands", "inpainting", "recovery", "vq_mano", "distance")),
)


def run(monkeypatch, name, *words):
    monkeypatch.setattr(sys, "argv", [name, *words])
    return importlib.import_module(f"launch.{name}").main()


@pytest.mark.parametrize("words", FILES, ids=" ".join)
def test_a_folder_is_no_file_to_write(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for text, said in ((".", "^.: is a folder"), ("file/out", r"^file/out: cannot be made, for \S+file is a file")):
        with pytest.raises(ConfigError, match=said):
            run(monkeypatch, *words, text)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("words", FOLDERS, ids=" ".join)
def test_a_file_is_no_folder_to_write_to(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for text in ("file", "file/out"):
        with pytest.raises(ConfigError, match=rf"^{text}: cannot be made, for \S+file is a file; choose"):
            run(monkeypatch, *words, text)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_is_made_in_the_place_of_a_clip(monkeypatch, tmp_path):
    """Frames of ffmpeg have the names that drawn ones get."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "000001.png").write_text("mine")
    (tmp_path / "wave.gif").write_text("mine")
    for clip, out in (("frames", "."), ("frames", "frames"), ("wave.gif", ".")):
        with pytest.raises(ConfigError, match=f"--out {out}: what is made of {clip} would get in its place"):
            run(monkeypatch, "detect", clip, "--video", "--out", out)
    assert [(tmp_path / name).read_text() for name in ("frames/000001.png", "wave.gif")] == ["mine", "mine"]
    clips = [tmp_path / "frames", tmp_path / "wave.gif"]
    assert command.clip_folders(clips, tmp_path / "out") == {clip: tmp_path / "out" / clip.name for clip in clips}


def test_places_that_can_be_written_are_taken_and_not_made_yet(tmp_path):
    (tmp_path / "file").write_text("")
    for text in ("file", "new", "new/deep"):
        assert command.output_file(str(tmp_path / text)) == tmp_path / text
    for text in (".", "new", "new/deep"):
        assert command.output_folder(str(tmp_path / text)) == tmp_path / text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_without_leave_to_write_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path or not mode & os.W_OK)
    with pytest.raises(ConfigError, match="cannot be written to; choose another place"):
        command.output_folder(str(tmp_path / "new"))
