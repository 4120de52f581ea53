"""What the command line says of guides: MGHanD's files where none is named, the memory of the anatomy guide."""

import argparse

import pytest

from handjax.errors import ConfigError
from handjax.tasks.slider import FILES
from launch import guidance


def asked(*words, guide="mghand"):
    parser = argparse.ArgumentParser()
    guidance.add_guidance_arguments(parser)
    parser.add_argument("--allow-pickle", action="store_true")
    return guidance.read_guidance(parser.parse_args(["--guidance", guide, *words]))


def test_the_embedded_pair_guides_once_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(guidance, "EMBEDDED", tmp_path)
    for name in ("config.json", FILES["peft"]):
        with pytest.raises(ConfigError, match=r"needs --mghand-lora FILE.*launch\.assets\.mghand makes a pair"):
            asked()
        (tmp_path / name).touch()
    assert (asked().lora, asked().discriminator) == (tmp_path / FILES["peft"], tmp_path)


def test_of_files_that_are_named_only_those_guide(tmp_path):
    lora = tmp_path / "slider.safetensors"
    assert (asked("--mghand-lora", str(lora)).lora, asked("--mghand-lora", str(lora)).discriminator) == (lora, None)


def test_what_the_anatomy_guide_keeps_for_its_gradient_is_asked_for():
    assert asked(guide="anatomy").settings["anatomy"].remat == "none"
    assert asked("--anatomy-remat", "blocks", guide="anatomy").settings["anatomy"].remat == "blocks"
