"""Which commands a row takes, what is kept of them, and what each method paints."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from handjax.adapters.controlnet import ControlNet, ControlNetConfig, copy_encoder, initial_controlnet
from handjax.adapters.files import save_controlnet
from handjax.diffusion.model import find_model, load_stable_diffusion
from handjax.errors import ConfigError
from handjax.images import read_image
from handjax.perception import HandDetector
from launch import stages
from launch.paper_tables import jobs, painting
from launch.paper_tables.jobs import Workshop
from launch.paper_tables.rows import ALPHA_25, DEPTH, HANDREFINER, MODEL_ALONE, SE_SF_AE, SGM, SKELETON

SIDE = 96


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """One whose commands leave their folders and are written down, and whose pictures are grey."""
    called = []

    def stage(name, *words, tolerated=0):
        words = list(map(str, words))
        called.append((name, words))
        out = next((jobs.Path(words[words.index(flag) + 1]) for flag in ("--out", "--output") if flag in words), None)
        if out:
            out.mkdir(parents=True)
        if name == "evaluate":
            figure = {"name": words[words.index("--suite") + 1], "value": float(len(called)), "interval_95": [0, 1]}
            (out / "figures.json").write_text(json.dumps({"figures": [figure]}))

    grey = np.full((3, SIDE, SIDE, 3), 128, np.uint8)
    monkeypatch.setattr(stages, "run", stage)
    monkeypatch.setattr(jobs, "held_out_examples", lambda *_: [{"n": 3}])
    monkeypatch.setattr(jobs, "photographs", lambda batch: grey)
    monkeypatch.setattr(jobs, "make_paint", lambda *_: None)
    monkeypatch.setattr(jobs.HandDetector, "load", lambda: None)
    monkeypatch.setattr(jobs.jax, "clear_caches", lambda: None)
    monkeypatch.setattr(jobs, "refine_captions", lambda paths: dict.fromkeys(paths, "a hand"))
    monkeypatch.setattr(
        jobs, "write_painted", lambda batches, paint, folder, seed, limit: jobs.write_pictures([grey], folder, limit)
    )
    made = Workshop(tmp_path / "work", "photos@3,rendered", ("photos", "rendered"), 5, 4, 3)
    made.__dict__["model"] = None
    return made, called


def names(called):
    return [name for name, _ in called]


def test_rows_of_one_training_train_once_and_nothing_is_done_twice(workshop):
    made, called = workshop
    first = made.measured(DEPTH, 0)
    assert names(called) == ["encode", "train", "export", "evaluate", "evaluate"]
    assert set(first) == {"distance", "hands"}
    made.measured(HANDREFINER, 0)
    made.measured(dataclasses.replace(DEPTH, test=1), 0)
    assert names(called)[5:] == ["evaluate"] * 4
    before = len(called)
    assert made.measured(DEPTH, 0) == first and len(called) == before
    made.measured(DEPTH, 1)
    assert names(called)[before:] == ["train", "export", "evaluate", "evaluate"]
    assert "--config.seed=1" in called[before][1]


def test_an_interrupted_row_goes_on_behind_what_is_whole(workshop, monkeypatch):
    made, called = workshop
    working = stages.run

    def interrupted(name, *words, **options):
        if name == "export":
            raise KeyboardInterrupt
        working(name, *words, **options)

    monkeypatch.setattr(stages, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.measured(SGM, 0)
    assert names(called) == ["encode", "train"]
    monkeypatch.setattr(stages, "run", working)
    made.measured(SGM, 0)
    assert names(called)[2:] == ["train", "export", "evaluate", "evaluate"]  # the training goes on by itself


def test_what_the_commands_are_told(workshop):
    made, called = workshop
    made.measured(ALPHA_25, 0)
    made.measured(MODEL_ALONE, 0)
    (encode, train), export = (words for name, words in called if name in ("encode", "train")), called[2][1]
    assert {"--config.data.full_mask_prob=1.0", "--config.data.path=photos@3,rendered"} < set(encode)
    assert f"--config.data.captions={made.folder / 'captions.json'}" in encode and "20" in encode
    assert json.loads((made.folder / "captions.json").read_text()) == {"photos": "a hand", "rendered": "a hand"}
    assert {"--config.hand_alpha=2.5", "--config.steps=5", "--config.data.encoded=True"} < set(train)
    assert export[export.index("--to") + 1] == "diffusers"
    assert names(called).count("train") == 1


def test_other_settings_need_another_folder(workshop, monkeypatch):
    made, _ = workshop
    monkeypatch.setattr(jobs, "content_hash", lambda model: "abc")
    made.claim()
    made.claim()
    other = dataclasses.replace(made, steps=6)
    other.__dict__["model"] = None
    with pytest.raises(ConfigError, match="its results are of steps 5, not 6; name another --workdir"):
        other.claim()


@pytest.mark.slow
def test_every_method_paints_the_hidden_part_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(painting, "SAMPLING", dataclasses.replace(painting.SAMPLING, steps=2))
    model = load_stable_diffusion("tiny_inpainting")
    config = ControlNetConfig(dataclasses.replace(model.unet.config, in_channels=4), (8, 8, 8), hand_alpha=2.0)
    network = ControlNet(config)
    params = copy_encoder(model.unet_params, initial_controlnet(network, jax.random.key(0)))
    save_controlnet(network, params, tmp_path / "biased")
    plain = ControlNet(dataclasses.replace(config, hand_alpha=0.0))
    save_controlnet(plain, params, tmp_path / "plain")
    rng, mask = np.random.default_rng(0), np.zeros((2, SIDE, SIDE, 1), np.float32)
    mask[:, 24:72, 24:72] = 1
    batch = {
        "image": rng.uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32),
        "mask": mask,
        "depth": rng.uniform(size=(2, SIDE, SIDE, 1)).astype(np.float32),
        "mesh": rng.uniform(size=(2, SIDE, SIDE, 1)).astype(np.float32),
        "skeleton": rng.uniform(size=(2, SIDE, SIDE, 3)).astype(np.float32),
        "keypoints": rng.uniform(30, 60, (2, 21, 2)).astype(np.float32),
        "input_ids": model.tokenizer(["a left hand", "a tree"]),
        "hand_tokens": np.zeros((2, model.tokenizer.length), np.float32),
    }
    detector = HandDetector.load()
    adapters = {
        MODEL_ALONE: None,
        SGM: find_model("tiny_inpainting") / "sgm",
        SKELETON: tmp_path / "plain",
        HANDREFINER: tmp_path / "plain",
        SE_SF_AE: tmp_path / "biased",
    }
    made = {}
    for setting, adapter in adapters.items():
        paint = painting.make_paint(setting, model, adapter, detector)
        folder = tmp_path / setting.name
        painting.write_painted([batch], paint, folder, 0, 2)
        made[setting] = np.stack([read_image(folder / f"{number:05d}.png") for number in range(2)])
        differs = (made[setting] != painting.photographs(batch)).any(axis=-1)
        assert not differs[mask[..., 0] == 0].any() and differs[mask[..., 0] == 1].mean() > 0.8, setting.name
    # a ControlNet that was not trained adds nothing
    np.testing.assert_allclose(made[SKELETON].astype(int), made[MODEL_ALONE].astype(int), atol=1)
    assert (made[SGM] != made[MODEL_ALONE]).any()
    words = batch | {"hand_tokens": (np.arange(model.tokenizer.length) == 3) * np.ones((2, 1), np.float32)}
    biased = painting.make_paint(SE_SF_AE, model, tmp_path / "biased", detector)
    key = jax.random.key(0)
    assert (biased(words, key) != biased(batch, key)).mean() > 0.01
