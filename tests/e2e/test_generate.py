"""`launch.generate` as a user runs it, on the embedded model."""

import dataclasses
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import launch.generate
from data_pipelines.captions import Captions
from handjax.adapters.controlnet import ControlNet, ControlNetConfig
from handjax.adapters.files import controlnet_shapes, save_controlnet
from handjax.diffusion.configs import UNetConfig
from handjax.diffusion.model import find_model
from handjax.errors import UserError
from handjax.guidance.discriminator import DiscriminatorConfig, head_shapes, save_discriminator
from handjax.images import read_image, write_image
from handjax.weights.lora import LoRAFactors, write_lora

QUICK = ("--steps", "2", "--size", "48x32")
# two steps on noise show no hand that is one
ANY_PALM = ("--mghand-threshold", 0, "--mghand-window", 999, 0, "--mghand-every", 1)


def generate(*arguments):
    words = [sys.executable, "-m", "launch.generate", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_picture_says_how_it_was_made(tmp_path):
    (tmp_path / "prompts.txt").write_text("a (left:1.3) hand\n\n")
    out = tmp_path / "out"
    result = generate(
        "A fist!", "--prompts", tmp_path / "prompts.txt", "--seed", 7, "--batch", 3, "--out", out, "--json", *QUICK
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["command"] == "generate" and document["errors"] == []
    assert [(item["prompt"], item["seed"]) for item in document["items"]] == [("A fist!", 7), ("a (left:1.3) hand", 8)]
    assert sorted(path.name for path in out.iterdir()) == ["a-fist-7.png", "a-left-1-3-hand-8.png"]
    for item in document["items"]:
        assert read_image(item["output"]).shape == (32, 48, 3)
        assert isinstance(item["hands"], list) and item["guidance"] is item["best_of"] is None
        made = json.loads(Image.open(item["output"]).text["handjax"])
        assert made == {key: item[key] for key in ("prompt", "negative", "seed", "provenance", "guidance")}
    provenance = document["items"][0]["provenance"]
    assert provenance["size"] == [48, 32] and provenance["sampler"]["steps"] == 2
    assert len(provenance["weights"]) == 32 and provenance["versions"]["jax"]


@pytest.mark.slow
def test_anatomy_guides_and_the_best_of_three_is_kept(tmp_path):
    options = ("--guidance", "anatomy", "--anatomy-window", 300, 999, "--anatomy-hands", 2, "--best-of", 3)
    result = generate("a hand", "a fist", "--seed", 5, "--out", tmp_path, "--json", *options, *QUICK)
    assert result.returncode == 0, result.stderr
    items = json.loads(result.stdout)["items"]
    assert [item["best_of"]["seeds"] for item in items] == [[5, 6, 7], [8, 9, 10]]
    for item in items:
        scores = dict(zip(item["best_of"]["seeds"], item["best_of"]["scores"], strict=True))
        assert scores[item["seed"]] == max(scores.values())
        guidance = item["guidance"]
        assert (guidance["name"], guidance["window"], guidance["hands"]) == ("anatomy", [300.0, 999.0], 2)
        assert guidance["pushed"] + guidance["missed"] >= 1
        assert item["provenance"]["guidance"].items() <= guidance.items()
    assert len(list(tmp_path.iterdir())) == 2


def write_unet_lora(path, width=160):
    rng = np.random.default_rng(0)
    names = ("mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.attentions.0.proj_out")
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    factors = {
        names[0]: LoRAFactors(draw(2, width), draw(width, 2), 1.0),
        names[1]: LoRAFactors(draw(2, width, 1, 1), draw(width, 2, 1, 1), 1.0),
    }
    write_lora(path, {"unet": factors})
    return path


@pytest.mark.slow
def test_mghand_and_anatomy_guide_beside_a_controlnet_and_tell_their_steps(tmp_path):
    lora = write_unet_lora(tmp_path / "lora.safetensors")
    write_controlnet(tmp_path / "control", dataclasses.replace(tiny_unet(), in_channels=4))
    write_image(tmp_path / "pose.png", np.full((10, 15, 3), 200, np.uint8))
    control = ("--controlnet", tmp_path / "control", "--control-image", tmp_path / "pose.png")
    guides = ("--guidance", "mghand", "--guidance", "anatomy", "--mghand-lora", lora, *ANY_PALM)
    options = (*control, *guides, "--anatomy-window", 0, 999)
    result = generate("a hand", "--seed", 5, "--out", tmp_path / "out", "--json", *options, *QUICK)
    assert result.returncode == 0, result.stderr
    ((item,), errors) = (json.loads(result.stdout)[name] for name in ("items", "errors"))
    guidance = item["guidance"]
    assert errors == [] and guidance["name"] == "mghand+anatomy"
    assert guidance["mghand"]["mask"]["threshold"] == 0 and guidance["mghand"]["window"] == [0.0, 999.0]
    assert len(guidance["mghand"]["lora"]["hash"]) == 32 and guidance["anatomy"]["name"] == "anatomy"
    assert (guidance["status"], guidance["steps"], len(guidance["log"])) == ("guided", 2, 2)
    assert 0 < guidance["mask_area"] <= 0.35
    assert all(entry["textual"] > 0 and entry["loss"] is None for entry in guidance["log"])
    assert guidance["pushed"] + guidance["missed"] == 2


@pytest.mark.slow
def test_estimates_of_a_window_are_a_data_set_of_generated_pictures(tmp_path):
    options = ("--sampler", "ddim", "--steps", 4, "--size", "48x32", "--guidance-scale", 1)
    result = generate("a hand", "--out", tmp_path, "--estimates", 600, 200, "--json", *options)
    assert result.returncode == 0, result.stderr
    # DDIM's four steps: 751, 501, 251, 1
    names = ["a-hand-0.png", "a-hand-0-t501.png", "a-hand-0-t251.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "captions.json"])
    assert json.loads((tmp_path / "captions.json").read_text()) == dict.fromkeys(names, "a hand")
    last, middle, first = (np.int32(read_image(tmp_path / name)) for name in names)
    assert np.abs(first - last).mean() < np.abs(middle - last).mean()  # the later, the nearer
    assert Captions.load(tmp_path).given_to("a-hand-0-t501.png") == "a hand"


@pytest.mark.slow
def test_mghands_picture_is_the_same_again_and_another_than_without(tmp_path):
    """By the carried adapter and discriminator."""
    pytest.importorskip("efficientnet_lite_pytorch")
    options = ("--guidance", "mghand", *ANY_PALM, "--mghand-textual", 4, "--mghand-visual", 0.3)
    pictures = {}
    for name, more in (("first", options), ("again", options), ("plain", ())):
        result = generate("a hand", "--seed", 5, "--out", tmp_path / name, *more, *QUICK)
        assert result.returncode == 0, result.stderr
        pictures[name] = read_image(tmp_path / name / "a-hand-5.png")
    np.testing.assert_array_equal(pictures["first"], pictures["again"])
    assert np.abs(np.int32(pictures["first"]) - pictures["plain"]).max() > 5


@pytest.mark.slow
def test_a_discriminator_guides_by_its_loss(tmp_path):
    config = DiscriminatorConfig("efficientnet_lite0", 96, 128)
    rng = np.random.default_rng(0)
    heads = jax.tree.map(lambda leaf: 0.1 * rng.normal(size=leaf.shape).astype(np.float32), head_shapes(config))
    save_discriminator(tmp_path / "critic", config, heads)
    options = ("--guidance", "mghand", "--mghand-discriminator", tmp_path / "critic", *ANY_PALM, "--mghand-visual", 0.3)
    result = generate("a hand", "--seed", 5, "--out", tmp_path / "out", "--json", *options, *QUICK)
    assert result.returncode == 0, result.stderr
    (item,) = json.loads(result.stdout)["items"]
    guidance = item["guidance"]
    assert (guidance["status"], guidance["steps"], guidance["lora"]) == ("guided", 2, None)
    assert len(guidance["discriminator"]["hash"]) == 32
    assert all(entry["loss"] > 0 and entry["textual"] is None for entry in guidance["log"])

    (tmp_path / "critic" / "config.json").write_text(json.dumps(dataclasses.asdict(config) | {"image_size": 50}))
    result = generate("a hand", "--out", tmp_path / "none", *options, *QUICK)
    assert result.returncode == 2 and "image_size=50 does not fit efficientnet_lite0" in result.stderr


@pytest.mark.slow
def test_an_adapter_of_another_model_is_refused_before_any_picture(tmp_path):
    for lora, words in (
        (write_unet_lora(tmp_path / "wide.safetensors", 320), "use a LoRA of this model"),
        (tmp_path / "nowhere.safetensors", "nowhere.safetensors: "),
    ):
        result = generate("a hand", "--out", tmp_path / "out", "--guidance", "mghand", "--mghand-lora", lora, *QUICK)
        assert result.returncode == 2 and words in result.stderr and not (tmp_path / "out").exists()


def tiny_unet():
    return UNetConfig.from_diffusers(json.loads((find_model("tiny_inpainting") / "unet/config.json").read_text()))


def write_controlnet(folder, unet):
    rng = np.random.default_rng(0)
    network = ControlNet(ControlNetConfig(unet, (8, 8, 8)))
    params = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape), controlnet_shapes(network))
    save_controlnet(network, params, folder)


@pytest.mark.slow
def test_controlnets_and_loras_are_named_in_the_provenance(tmp_path):
    unet = tiny_unet()
    write_controlnet(tmp_path / "control", dataclasses.replace(unet, in_channels=4))
    write_image(tmp_path / "pose.png", np.full((10, 15, 3), 200, np.uint8))
    factors = LoRAFactors(np.ones((1, 160), np.float32), np.ones((160, 1), np.float32), 1.0)
    write_lora(
        tmp_path / "lora.safetensors", {"unet": {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": factors}}
    )
    adapters = ("--controlnet", tmp_path / "control", "--lora", f"{tmp_path / 'lora.safetensors'}:0.5", *QUICK)
    image = ("--control-image", tmp_path / "pose.png", "--control-scale", "0.5")
    result = generate("a hand", "--out", tmp_path, "--json", *adapters, *image)
    assert result.returncode == 0, result.stderr
    (item,) = json.loads(result.stdout)["items"]
    (lora,), (control,) = item["provenance"]["loras"], item["provenance"]["controlnets"]
    assert (lora["scale"], control["scale"], len(control["image_hash"])) == (0.5, 0.5, 32)

    result = generate("a hand", "--out", tmp_path, *adapters)
    assert result.returncode == 2 and "1 --controlnet, 0 --control-image and 1 --control-scale" in result.stderr
    write_controlnet(tmp_path / "control", dataclasses.replace(unet, in_channels=4, layers_per_block=2))
    result = generate("a hand", "--out", tmp_path, *adapters, *image)
    assert result.returncode == 2 and "control: a ControlNet of another model" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there is no prompt"),
        (("--prompts", "nowhere.txt"), "nowhere.txt: not a text file"),
        (("a hand", "--model", "nowhere"), "nowhere: no "),
        (("a hand", "--size", "50x32"), "--size is 50x32; give N or WIDTHxHEIGHT in pixels, multiples of 4"),
        (("a hand", "--eta", "1"), "--eta is of no use to --sampler dpm"),
        (("a hand", "--karras", "--sampler", "lcm"), "--karras is of no use to --sampler lcm; leave it out or use"),
        (("a hand", "--steps", "1000"), "--steps is 1000, more than --sampler dpm has; take fewer"),
        (("a hand", "--guidance", "anatomy", "--anatomy-every", "0"), "--anatomy-every is 0; it must be at least 1"),
        (("a hand", "--mghand-lora", "x.safetensors"), "--mghand-lora is of no use without --guidance mghand"),
        (("a hand", "--guidance", "mghand", "--mghand-discriminator", "nowhere"), "nowhere: no config.json; give the"),
        (("a hand", "--guidance", "mghand", "--mghand-lora", "x", "--mghand-cap", "-1"), "--mghand-cap is -1.0; it"),
        (("a hand", "--estimates", "900", "950", "--steps", "2"), "--estimates 900 950: the sampler has no step there"),
        (("a hand", "--best-of", "0"), "--best-of is 0; it must be at least 1"),
        (("a hand", "--lora", "nowhere.safetensors:0.5"), "nowhere.safetensors: cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_any_work(tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(sys, "argv", ["launch.generate", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match=re.escape(words)) as refused:
        launch.generate.main()
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()
