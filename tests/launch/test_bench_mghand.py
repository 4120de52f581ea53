"""Figures of MGHanD from pictures and verdicts that are made up; the run itself is a slow test."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from handjax.diffusion.configs import VAEConfig
from handjax.errors import ConfigError, InputError
from handjax.guidance.mghand import MGHandSettings
from launch import bench_mghand, bench_mghand_cost, bench_mghand_cross
from launch.assets import mghand_picture
from launch.bench import describe
from launch.bench_discriminator import told_apart
from launch.bench_mghand import Made, compare, decibels
from launch.bench_mghand_cost import Way, gib_of, kinds_of, peaks, small_decoder, total_item
from launch.judge import Verdicts, verdicts_of

RNG = np.random.default_rng(0)
GOOD, BAD, MISSED = Verdicts("plausible", "plausible", 0.9), Verdicts("implausible", None, 0.6), Verdicts(None, None)


def picture():
    return RNG.integers(20, 230, (8, 8, 3)).astype(np.uint8)


def log(area, loss):
    return [{"t": t, "mask_area": area, "textual": None, "loss": loss} for t in (600.0, 400.0)]


def made_up():
    """A guided picture, one that shows no hand, and one in which the guide spoils a pixel outside its mask."""
    images = [picture() for _ in range(3)]
    seen = np.zeros((8, 8), np.int32)
    seen[2:4, 2:4] = 3
    changed, spoilt = images[0].copy(), images[2].copy()
    changed[2:4, 2:4] = 0
    changed[7, 7, 0] += 4
    spoilt[0, 0] += 20
    guided = {"status": "guided", "mask_full": True, "log": log(0.0625, 0.5)}
    idle = {"status": "no hand found", "mask_full": False, "log": log(0.0, None)}
    made = [Made(changed, guided, seen), Made(images[1], idle, 0 * seen), Made(spoilt, guided, seen)]
    return images, made


def test_what_a_variant_changes_is_compared_picture_by_picture():
    images, made = made_up()
    items = {i["name"]: i for i in compare("x", images, made, [BAD, MISSED, BAD], [GOOD, MISSED, BAD])}
    outside = items["mghand x, PSNR outside the mask"]
    worst, best = (20**2 / 60, 4**2 / 180)  # mean squares over the 180 and 60 values outside the mask
    assert outside["pictures"] == 2 and outside["at_least_wanted"] == pytest.approx(0.5)
    assert outside["least"] == pytest.approx(10 * np.log10(255**2 / (3 * 20**2 / 180)))
    assert outside["ours"] == pytest.approx((outside["least"] + 10 * np.log10(255**2 / best)) / 2) and worst > best
    change = items["mghand x, change of confidence"]
    assert change["ours"] == pytest.approx(0.1) and change["interval_95"][0] <= 0.1 <= change["interval_95"][1]
    assert items["mghand x, confidence, misses 0"]["ours"] == pytest.approx(0.5)
    assert items["mghand x, confidence of hands found"]["ours"] == pytest.approx(0.75)
    reduction = items["mghand x, reduction of implausible hands (whole)"]
    assert (reduction["ours"], reduction["pairs"], reduction["mended"]) == (0.5, 2, 1)
    keypoints = items["mghand x, reduction of implausible hands (keypoints)"]
    assert (keypoints["ours"], keypoints["pairs"]) == (None, 0)
    guided = items["mghand x, guided"]
    assert guided["statuses"] == {"guided": 2, "no hand found": 1} and guided["mask_full"] == pytest.approx(2 / 3)
    steps = items["mghand x, by step"]
    assert steps["t"] == [600.0, 400.0] and steps["loss"] == [0.5, 0.5] and steps["textual"] == [None, None]
    assert steps["mask_area"] == pytest.approx([2 * 0.0625 / 3] * 2)
    assert all(describe(item) for item in items.values())


def test_a_picture_that_is_the_same_has_no_finite_distance():
    image = picture()
    assert decibels(image, image, np.ones((8, 8), bool)) == 100.0
    assert decibels(image, image, np.zeros((8, 8), bool)) is None


def test_wishes_mix_both_hands_and_fingers_and_share_no_noise():
    wishes = bench_mghand.draw_wishes(140)
    prompts = {wish.prompt for wish in wishes}
    assert len(prompts) == 2 * 2 * 2**5 and len({wish.seed for wish in wishes}) == 140
    assert {
        "a photo of a closed left hand, a fist",
        "a photo of a right hand, thumb and index fingers extended, sign for 2",
    } < prompts
    assert bench_mghand.draw_wishes(7) == wishes[:7]
    rendered = bench_mghand.draw_wishes(140, bench_mghand_cross.SETS["rendered"])
    assert len({wish.prompt for wish in rendered}) == 64
    assert all(wish.prompt.startswith("a rendered photo of ") for wish in rendered)


def test_a_cross_run_needs_each_sets_discriminator(tmp_path):
    (tmp_path / "only_photos" / "discriminator").mkdir(parents=True)
    with pytest.raises(ConfigError, match="mghand_cross needs the workdir of launch.assets.mghand"):
        next(bench_mghand_cross.bench_mghand_cross(1))
    with pytest.raises(InputError, match=r"only_rendered/discriminator: no discriminator; run .* --only rendered"):
        bench_mghand_cross.load_guided(tmp_path, "rendered")


def test_pictures_pass_the_autoencoder_in_order():
    images = [RNG.integers(0, 256, (4, 4, 3)).astype(np.uint8) for _ in range(bench_mghand_cross.BATCH + 1)]
    model = SimpleNamespace(encode=lambda batch: batch / 2, decode=lambda latents: 2 * latents[:, ::-1])
    shown = bench_mghand_cross.through_autoencoder(model, images)
    np.testing.assert_array_equal(shown, [image[::-1] for image in images])


def test_costs_are_added_up_by_how_often_a_step_is_taken():
    """100 steps of DDIM have 50 in the window. The machine is half as fast in the second run."""
    settings = MGHandSettings(every=4, mask=dataclasses.replace(MGHandSettings().mask, every=10))
    way = Way(settings, "visual, one hand", 1.5, "small decoder, ")
    counts = {"small decoder, look": 5, "textual": 13, "small decoder, visual, one hand": 13}
    assert kinds_of(way) == counts
    names = ("step", "small decoder, decode", *counts)
    times = {name: [value, 2 * value, value] for name, value in zip(names, (1.0, 2.0, 3.0, 4.0, 5.0), strict=True)}
    item = total_item("x", way, times)
    guided = 102 + 5 * 3 + 13 * 4 + 13 * 5
    assert (item["peer"], item["ours"], item["runs"]) == (102, guided, 3)
    assert item["ratio"] == pytest.approx(guided / 102) and item["ratio_bound"] == 1.5
    assert kinds_of(bench_mghand_cost.WAYS["literal, one hand"])["visual as written, one hand"] == 50


def test_weights_that_a_step_does_not_use_stay_in_memory():
    way = bench_mghand_cost.WAYS["default, one hand"]
    makes = {"step": 1.0, "decode": 2.0, "look": 2.5, "textual": 1.5, "visual, one hand": 3.0, "visual, two hands": 9.0}
    memory = peaks(way, makes, 4.0, 0.25)
    assert (memory["peak_gib"], memory["peer_peak_gib"]) == (4 + 0.25 + 3, 4 + 2)
    assert gib_of({"a": np.zeros((2**14, 2**14), np.float32), "b": [np.zeros(2**28, np.int8)]}) == 1.25


def test_the_small_decoder_is_of_taesds_sizes():
    """The published encoder has 1,222,532 parameters, the decoder 1,222,531."""
    _, params = small_decoder(VAEConfig(block_out_channels=(128, 256, 512, 512)))
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in params.items()}
    assert counts == {"encoder": 1_222_532, "decoder": 1_222_531}


def test_crops_told_right_and_the_area_under_the_curve():
    real, false = np.array([0.5, 1.0, -0.2, 0.3]), np.array([-1.0, 0.4])
    rows = {row["name"].rpartition(", ")[2].partition(": ")[2]: row for row in told_apart("a", real, "b", false)}
    assert (rows["a told right"]["part"], rows["b told right"]["part"]) == (3, 1)
    assert rows["area under the curve"]["ours"] == pytest.approx((4 + 2) / 8)  # pairs in the right order


def test_the_mask_is_lightest_where_it_was_first():
    image, seen = np.full((4, 4, 3), 200, np.uint8), np.zeros((4, 4), np.int32)
    seen[0], seen[1] = 10, 2
    tile = mghand_picture.masked(image, seen)[mghand_picture.FRAME : -mghand_picture.FRAME]
    rows = tile[:, mghand_picture.FRAME].astype(int)
    apart = np.abs(rows - 200).sum(axis=1)
    assert 0 < apart[0] < apart[1] and not apart[2:].any()


def test_sweeps_are_drawn_from_the_figures(tmp_path):
    images, made = made_up()
    verdicts = [BAD, MISSED, GOOD]
    items = [*verdicts_of("mghand none", verdicts), *compare("both", images, made, verdicts, verdicts)]
    for setting, values in bench_mghand.SWEEPS.items():
        for value in values:
            items += compare(f"{setting}={value}", images, made, verdicts, verdicts)
    mghand_picture.draw_sweeps({item["name"]: item for item in items}, tmp_path / "sweeps.png")
    assert (tmp_path / "sweeps.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_short_run_has_every_row(monkeypatch):
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setattr(bench_mghand, "ASKED", ("--sampler", "ddim", "--steps", "4", "--batch", "2", "--guidance"))
    monkeypatch.setattr(bench_mghand, "SWEEPS", {"threshold": (0.0,)})
    monkeypatch.setattr(bench_mghand, "FEW_STEPS", ("--steps", "4", "--batch", "2", "--guidance"))
    rows = {item["name"]: item for item in bench_mghand.bench_mghand(1, 2)}
    wanted = {"mghand none, hands found", "mghand both, a batch", "mghand both in few steps, by step"}
    assert wanted <= set(rows)
    assert sum(rows["mghand both, guided"]["statuses"].values()) == 2
    rows = {item["name"]: item for item in bench_mghand.bench_mghand_sweeps(1, 2)}
    assert {"mghand none, hands found", "mghand both, by step", "mghand threshold=0.0, by step"} <= set(rows)


@pytest.mark.slow
def test_each_kind_of_step_is_taken_and_timed(monkeypatch):
    parts, make_parts = {}, bench_mghand_cost.make_parts
    monkeypatch.setattr(bench_mghand_cost, "make_parts", lambda *given: parts.update(make_parts(*given)) or parts)
    items = {item["name"]: item for item in bench_mghand_cost.bench_mghand_cost(2, "shapes:tiny_inpainting", 96)}
    ways = {name: items[f"mghand {name}, 100 steps of DDIM"] for name in bench_mghand_cost.WAYS}
    assert len(parts) == 12 and all(items[f"mghand, {name}"]["ours"] > 0 for name in parts)
    assert all(way["ratio"] > 1 and way["peer_peak_gib"] < way["peak_gib"] for way in ways.values())
    assert max(way["ratio"] for way in ways.values()) == ways["literal, one hand"]["ratio"]
    for name, hands in {"textual": 1, "one hand": 1, "two hands": 2, "a large hand": 1, "look": 0}.items():
        for log, _ in (part.take() for kind, part in parts.items() if kind.endswith(name)):
            # moved where a hand was given, and looked only in the step that is called a look
            assert (log.mask.seen.sum(), log.pushed[0]) == (hands, hands > 0)
            assert np.isfinite(log.textual).any() == (name == "textual")
            assert np.isfinite(log.loss).any() == (hands > 0 and name != "textual")
