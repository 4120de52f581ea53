"""What the command line says of guides: MGHanD's files where none is named, the memory of the anatomy guide."""

import argparse
import re
from types import SimpleNamespace

import numpy as np
import pytest

from handjax.errors import ConfigError, WeightsError
from handjax.guidance.discriminator import DiscriminatorConfig
from handjax.tasks.slider import FILES
from handjax.weights.lora import LoRAFactors, write_lora
from launch import guidance

LAYER = "mid_block.attentions.0.proj_in"


def asked(*words, guide="mghand"):
    parser = argparse.ArgumentParser()
    guidance.add_guidance_arguments(parser)
    parser.add_argument("--allow-pickle", action="store_true")
    return guidance.read_guidance(parser.parse_args(["--guidance", guide, *map(str, words)]))


def model_of(width=4):
    """All that is asked of a model whose UNet is one layer."""
    kernel = {"kernel": np.zeros((width, width), np.float32)}
    text = SimpleNamespace(config=SimpleNamespace(hidden_size=6))
    unet = {"mid_block": {"attentions_0": {"proj_in": kernel}}}
    return SimpleNamespace(unet_params=unet, text_params={}, text_encoder=text)


def write_slider(path, width=4):
    ones = np.ones((1, width), np.float32)
    write_lora(path, {"unet": {LAYER: LoRAFactors(ones, ones.T, 1.0)}})
    return path


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
    assert asked("--mghand-remat", "blocks", guide="mghand").settings["mghand"].remat == "blocks"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--mghand-window", "nan", "nan"), "--mghand-window is nan nan; timesteps are from 0 to 999"),
        (("--mghand-window", 2000, 3000), "--mghand-window is 2000 3000; timesteps are from 0 to 999"),
        (("--mghand-window", 150, -1), "--mghand-window is 150 -1; timesteps are from 0 to 999"),
        (("--mghand-threshold", 5), "--mghand-threshold is 5.0; it must be from 0 to 1"),
        (("--mghand-cap", 7), "--mghand-cap is 7.0; it must be from 0 to 1"),
        (("--mghand-cap", "nan"), "--mghand-cap is nan; it must be from 0 to 1"),
        (("--mghand-dilation", "inf"), "--mghand-dilation is inf; it must be 0 or more"),
        (("--mghand-look-every", 0), "--mghand-look-every is 0; it must be at least 1"),
        (("--mghand-lora", "x", "--mghand-dino", "y"), "--mghand-dino is of no use without --mghand-discriminator"),
        (("--anatomy-hands", 2), "--anatomy-hands is of no use without --guidance anatomy; add it or leave it out"),
    ],
)
def test_numbers_out_of_range_and_options_of_no_use_are_refused(words, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        asked(*words)


@pytest.mark.parametrize("words", [("--mghand-textual", 3, "--mghand-cap", -4), ("--mghand-textual", 3)])
@pytest.mark.parametrize("guide", ["none", "anatomy"])
def test_mghands_options_need_mghand(words, guide):
    with pytest.raises(ConfigError, match="--mghand-textual is of no use without --guidance mghand"):
        asked(*words, guide=guide)


def test_the_ends_of_the_ranges_are_taken():
    read = asked("--mghand-window", 999, 0, "--mghand-threshold", 1, "--mghand-cap", 0).settings["mghand"]
    assert (read.window, read.mask.threshold, read.mask.cap) == ((0, 999), 1, 0)


def test_the_carried_pair_says_that_it_is_of_the_embedded_model():
    with pytest.raises(
        WeightsError, match="of the embedded model and do not fit this one; name its own with --mghand-l"
    ):
        guidance.load_pair(asked(), model_of())


def test_an_adapter_that_does_not_fit_is_named(tmp_path):
    path = write_slider(tmp_path / "slider.safetensors", 5)
    with pytest.raises(WeightsError, match=rf"{path}: LoRA: layer .*proj_in is \(5, 5\) and the"):
        guidance.load_pair(asked("--mghand-lora", path), model_of())
    lora, critic = guidance.load_pair(asked("--mghand-lora", write_slider(path)), model_of())
    (layer,) = lora.values()
    np.testing.assert_array_equal(layer.down @ layer.up, np.ones((4, 4)))
    assert critic is None


def test_dinos_file_is_for_a_discriminator_that_reads_dino(tmp_path, monkeypatch):
    given = asked("--mghand-discriminator", tmp_path, "--mghand-dino", "nowhere.pth")
    for backbone, size in (("efficientnet_lite0", 64), ("dino_vits16", 224)):
        critic = SimpleNamespace(config=DiscriminatorConfig(backbone, size, 6))
        monkeypatch.setattr(guidance, "load_discriminator", lambda *_, critic=critic: critic)
        if backbone == "dino_vits16":
            assert guidance.load_pair(given, model_of()) == (None, critic)
        else:
            with pytest.raises(ConfigError, match="--mghand-dino is of no use to .*, which reads efficientnet_lite0"):
                guidance.load_pair(given, model_of())
