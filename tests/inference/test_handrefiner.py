"""The adaptive control of HandRefiner, and its repair by the command."""

import argparse
import dataclasses
import json
import shutil
import sys
from functools import partial

import jax
import numpy as np
import pytest

import handjax
from handjax.adapters.controlnet import ControlNet, ControlNetConfig, copy_encoder, initial_controlnet
from handjax.adapters.files import save_controlnet
from handjax.diffusion.model import load_stable_diffusion
from handjax.errors import ConfigError, WeightsError
from handjax.images import read_image
from handjax.inference.controlled import Controlled, ControlNetRefiner
from handjax.inference.handrefiner import PAPER_SETTINGS, HandRefiner
from handjax.inference.refine import Attempt
from launch import refine
from launch.paper_tables import painting
from launch.paper_tables.painting import paint_biased

PHOTO = handjax.__path__[0] + "/assets/photos/nocurl.jpg"
PASTED = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), bool)


def load(*words):
    parser = argparse.ArgumentParser()
    refine.add_model_arguments(parser)
    arguments = parser.parse_args([*map(str, words)])
    return refine.load_refiner(arguments, refine.repair_settings(arguments))


def search(errors, scale=None):
    """The error of the attempt that is taken, and the scales that were tried, where the error of each is known."""
    tried = []

    def attempt(key, scale):
        tried.append(scale)
        error = errors[scale]
        return Attempt(PASTED, error, None if np.isinf(error) else 0.9, ())

    refiner = HandRefiner(None, None, None, None, PAPER_SETTINGS, scale=scale)
    return refiner.search(attempt, jax.random.key(0)).error, tried


def test_the_first_weaker_control_within_15_percent_is_taken():
    errors = {1.0: 0.10, 0.4: 0.30, 0.5: 0.1149, 0.6: 0.05}
    assert search(errors) == (0.1149, [1.0, 0.4, 0.5])
    assert search(errors | {0.5: 0.1151}) == (0.05, [1.0, 0.4, 0.5, 0.6])


def test_full_control_is_kept_where_no_weaker_one_is_as_good():
    weaker = dict.fromkeys((0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 0.2)
    assert search({1.0: 0.1} | weaker) == (0.1, [1.0, *weaker])
    assert search(dict.fromkeys((1.0, *weaker), np.inf)) == (np.inf, [1.0, *weaker])
    assert search({1.0: np.inf, 0.4: 0.1}) == (0.1, [1.0, 0.4])  # full control may also lose the hand


@pytest.mark.parametrize("error", [0.0, 0.3, np.inf])
def test_a_fixed_scale_is_tried_alone(error):
    assert search({0.55: error}, scale=0.55) == (error, [0.55])


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    """An untrained ControlNet of the embedded model, whose zero convolutions are not zero."""
    model = load_stable_diffusion("tiny_inpainting")
    unet = dataclasses.replace(model.unet.config, in_channels=4)
    network = ControlNet(ControlNetConfig(unet, (8, 8, 8)))
    drawn = jax.jit(lambda: initial_controlnet(network, jax.random.key(0)))()
    params = copy_encoder(model.unet_params, drawn)
    params["controlnet_mid_block"]["kernel"] += 0.05
    params["controlnet_cond_embedding"]["conv_out"]["kernel"] += 3
    folder = tmp_path_factory.mktemp("control")
    save_controlnet(network, params, folder, np.float32)
    return folder


@pytest.mark.slow
def test_the_scale_and_the_depth_reach_the_picture(control):
    refiner = load("--method", "handrefiner", "--adapter", control, "--steps", "2")
    assert isinstance(refiner, HandRefiner) and refiner.scale is None
    assert (refiner.settings.guidance_scale, refiner.settings.candidates) == (9.0, 1)
    images, mask = np.zeros((1, 96, 96, 3), np.float32), np.ones((1, 96, 96, 1), np.float32)
    depth = np.linspace(0, 1, 96 * 96, dtype=np.float32).reshape(1, 96, 96, 1)
    ids = refiner.model.tokenizer(["a photo of a left hand"])

    def paint(depth, scale):
        return refiner.paint(images, mask, depth, None, ids, jax.random.key(0), scale=scale).astype(int)

    full, none, without = paint(depth, 1.0), paint(depth, 0.0), paint(None, 1.0)
    assert np.abs(none - without).max() <= 1  # rounding
    assert np.abs(full - without).max() > 3


@pytest.mark.slow
def test_a_plain_controlnet_follows_its_condition_alone(control):
    words = ("--method", "controlnet", "--condition", "skeleton", "--adapter", control, "--steps", "2")
    assert load(*words).scale == 1.0
    refiner = load(*words, "--control-scale", "20")
    assert (type(refiner), refiner.condition, refiner.scale) == (ControlNetRefiner, "skeleton", 20.0)
    assert (refiner.settings.guidance_scale, refiner.settings.candidates, refiner.settings.strengths) == (
        4.0,
        1,
        (1.0,),
    )
    rng, mask = np.random.default_rng(0), np.ones((1, 96, 96, 1), np.float32)
    depth, skeleton = rng.random((1, 96, 96, 1), np.float32), rng.random((1, 96, 96, 3), np.float32)
    batch = {"image": np.zeros((1, 96, 96, 3), np.float32), "mask": mask}
    batch["input_ids"] = refiner.model.tokenizer(["a photo of a left hand"])

    def paint(refiner, depth, skeleton):
        inputs = (batch["image"], mask, depth, skeleton, batch["input_ids"], jax.random.key(0))
        return refiner.paint(*inputs).astype(int)

    followed = paint(refiner, depth, skeleton)
    np.testing.assert_array_equal(paint(refiner, 0 * depth, skeleton), followed)
    assert np.abs(paint(refiner, depth, 0 * skeleton) - followed).max() > 3
    by_depth = dataclasses.replace(refiner, condition="depth")
    np.testing.assert_array_equal(
        paint(by_depth, skeleton[..., :1], 0 * skeleton), paint(by_depth, skeleton[..., :1], depth)
    )
    # the baseline of launch.tables
    baseline = partial(
        paint_biased, refiner.model, Controlled(refiner.adapter, refiner.adapter_params, 20.0), "skeleton", 0.0
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painting, "SAMPLING", refiner.settings)
        np.testing.assert_array_equal(baseline(batch | {"skeleton": skeleton}, jax.random.key(0)), followed)


@pytest.mark.slow
def test_the_command_repairs_by_it(control, monkeypatch, tmp_path, capsys):
    words = ["refine", PHOTO, "--out", tmp_path, "--method", "handrefiner", "--adapter", control, "--json"]
    words += ["--steps", "2", "--control-scale", "0.55"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    assert refine.main() == 0
    ((item),) = json.loads(capsys.readouterr().out)["items"]
    (hand,) = item["hands"]
    assert hand["status"] in ("fixed", "failed") and hand["score_before"] > 0.5
    changed = read_image(item["mask"])[..., 0] > 0
    np.testing.assert_array_equal(read_image(item["output"])[~changed], read_image(PHOTO)[~changed])


@pytest.mark.slow
def test_what_is_no_depth_control_of_the_model_is_refused(control, tmp_path):
    with pytest.raises(ConfigError, match="needs --adapter"):
        load("--method", "handrefiner")
    model = load_stable_diffusion("tiny_inpainting")
    other = dataclasses.replace(model.unet.config, in_channels=4, block_out_channels=(32, 64, 96))
    network = ControlNet(ControlNetConfig(other, (8, 8, 8)))
    save_controlnet(network, jax.jit(lambda: initial_controlnet(network, jax.random.key(0)))(), tmp_path)
    with pytest.raises(WeightsError, match="a ControlNet of another model than this one"):
        load("--method", "handrefiner", "--adapter", tmp_path)
    settings = json.loads((control / "config.json").read_text())
    shutil.copytree(control, tmp_path / "biased")
    (tmp_path / "biased" / "config.json").write_text(json.dumps(settings | {"hand_alpha": 2.0}))
    with pytest.raises(WeightsError, match="trained with a bias on words on hands, which handrefiner lacks"):
        load("--method", "handrefiner", "--adapter", tmp_path / "biased")
    (tmp_path / "biased" / "config.json").write_text(json.dumps(settings | {"_condition": "mesh"}))
    for method, condition in ((("handrefiner",), "depth"), (("controlnet", "--condition", "skeleton"), "skeleton")):
        with pytest.raises(WeightsError, match=f"a ControlNet that follows mesh would be given {condition}; name"):
            load("--method", *method, "--adapter", tmp_path / "biased")
