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
