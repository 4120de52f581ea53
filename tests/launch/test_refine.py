"""Which models `launch.refine` and `launch.evaluate` take."""

import argparse

import numpy as np
import pytest

from handjax.diffusion.model import save_stable_diffusion
from handjax.diffusion.tokenizer import Tokenizer
from handjax.errors import WeightsError
from handjax.inference.refine import RepairSettings
from launch.refine import add_model_arguments, load_refiner, warn_of_length
from tests.diffusion.sd_tiny import TOKENIZER, second_generation, tiny_model


def load(*words):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    return load_refiner(parser.parse_args([*map(str, words)]), RepairSettings())


def test_a_model_without_input_for_a_mask_is_one_line(tmp_path):
    save_stable_diffusion(second_generation(), tmp_path)
    with pytest.raises(WeightsError, match="its UNet takes 4 channels; give an inpainting model") as error:
        load("--model", tmp_path)
    assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)


def test_how_much_of_a_prompt_is_lost_is_said(capsys):
    tokenizer = Tokenizer(TOKENIZER, 32)
    warn_of_length("a " * 30, tokenizer)
    assert capsys.readouterr().err == ""
    warn_of_length("a " * 34, tokenizer)
    assert capsys.readouterr().err == "warning: --prompt: its last 4 tokens are lost, 30 are read; shorten it\n"


def test_another_autoencoder_and_pickled_weights(tmp_path):
    """The options reach the reader: it names the file that is pickled, and that the other autoencoder is missing."""
    save_stable_diffusion(tiny_model(), tmp_path, np.float16)
    with pytest.raises(WeightsError, match=r"nowhere/vae/config\.json: no such file"):
        load("--model", tmp_path, "--vae", tmp_path / "nowhere")
    unet = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_suffix(".bin"))
    with pytest.raises(WeightsError, match=r"model\.bin: pickled .* --allow-pickle"):
        load("--model", tmp_path)
    pytest.importorskip("torch")
    with pytest.raises(WeightsError, match=r"model\.bin: not a state dict of PyTorch"):
        load("--model", tmp_path, "--allow-pickle")
