"""Words to meshes and their measure by commands, on a random model whose own hands are the set's."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from handjax.errors import ConfigError, InputError
from handjax.hand.mano import load_hand
from handjax.hand.mesh_files import read_mesh
from handjax.hand.words import swap_sides
from handjax.images import read_image
from handjax.inference.text_to_mesh import HandWriter
from handjax.record import HandRecord
from handjax.recovery.text_files import save_text_to_mesh
from launch import evaluate, evaluate_text_to_mesh, text_to_mesh
from tests.recovery.tiny_texts import PROMPTS, random_text_model

CODES = 20  # of which the likeliest twentieth is one: nothing is left to chance
SIDE = 48  # of pictures, pixels


@pytest.fixture(scope="module")
def model():
    return random_text_model(CODES)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_text_to_mesh(model, folder)
    return folder


def call(module, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["launch", *map(str, words)])
    return module.main()


def test_one_failing_prompt_leaves_the_others_meshes_and_pictures(model, weights, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(text_to_mesh, "PICTURE", SIDE)
    words = ["An open left hand!", " ", "--model", weights, "--out", tmp_path, "--count", 2, "--format", "glb"]
    assert call(text_to_mesh, monkeypatch, *words, "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "text_to_mesh"
    (error,) = document["errors"]
    assert error["input"] == " " and "a prompt is empty" in error["error"]
    hands = HandWriter(model, load_hand(""))("An open left hand!", 2)
    for number, (item, hand) in enumerate(zip(document["items"], hands, strict=True)):
        assert item["mesh"] == str(tmp_path / f"an-open-left-hand-0.{number}.glb") and item["number"] == number
        mesh, picture = read_mesh(tmp_path / f"an-open-left-hand-0.{number}.glb"), read_image(item["picture"])
        np.testing.assert_allclose(mesh.vertices, hand.vertices, atol=1e-6)
        np.testing.assert_allclose(item["world"], hand.keypoints, atol=1e-5)
        assert picture.shape == (SIDE, SIDE, 3) and (picture != 255).any()
        assert item["side"] == "left" and 0 < item["confidence"] <= 1 and item["log_likelihood"] < 0
        assert (np.shape(item["pose"]), np.shape(item["joint_confidence"])) == ((16, 3), (16,))
    assert len(document["items"]) == 2


def test_prompts_that_begin_alike_overwrite_nothing(model, weights, monkeypatch, tmp_path, capsys):
    """File names hold the beginning of the prompt and the seed."""
    monkeypatch.setattr(text_to_mesh, "PICTURE", SIDE)
    long = "a photo of an open right hand, seen from the back, index "
    prompts = [f"{long} up", f"{long} down", f"{long} up"]
    words = [*prompts, "--model", weights, "--out", tmp_path, "--count", 1, "--seed", 7, "--json"]
    assert call(text_to_mesh, monkeypatch, *words) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert [(item["prompt"], item["seed"]) for item in items] == list(zip(prompts, (7, 8, 9), strict=True))
    for name in ("mesh", "picture"):
        assert len({item[name] for item in items}) == 3
    writer = HandWriter(model, load_hand(""))
    for item in items:
        hand = writer(item["prompt"], 1, item["seed"])[0]
        np.testing.assert_allclose(read_mesh(Path(item["mesh"])).vertices, hand.vertices, atol=1e-5)


def test_numbers_out_of_range_and_runs_of_other_tasks_are_refused(weights, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="--count is 0; it must be at least 1"):
        call(text_to_mesh, monkeypatch, "a hand", "--model", weights, "--out", tmp_path, "--count", 0)
    with pytest.raises(ConfigError, match="--seed is -1; it must be from 0 to 4294967295"):
        call(text_to_mesh, monkeypatch, "a hand", "--model", weights, "--out", tmp_path, "--seed", -1)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="--hand-model MANO.pkl: .* names its own"):
        words = ("a hand", "--model", tmp_path / "run", "--out", tmp_path, "--hand-model", "MANO.pkl")
        call(text_to_mesh, monkeypatch, *words)


def _records(model):
    """What the model itself writes for two prompts: as a right and a left hand; a third prompt's, nearly, twice."""
    writer, records = HandWriter(model, load_hand("")), []
    betas = np.zeros(10, np.float32)
    for prompt in (PROMPTS[0], swap_sides(PROMPTS[1])):
        hand = writer(prompt, 2)[0]
        records.append(HandRecord(prompt, b"", None, None, hand.side, "open_hand", hand.pose, betas, caption=prompt))
    hand = writer(PROMPTS[2], 2)[0]
    for bend in (0.0, 0.2):
        pose = hand.pose + np.float32(bend)
        records.append(HandRecord("c", b"", None, None, "right", "open_hand", pose, betas, caption=PROMPTS[2]))
    others = HandRecord("d", b"", side="right", hand_model="mano", pose=pose, betas=betas, caption="of another model")
    return [*records, others, HandRecord("e", b"", caption="no mesh")]


def test_the_suite_compares_with_meshes_of_the_same_caption(model, weights, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(evaluate_text_to_mesh, "held_out_records", lambda path: _records(model))
    words = ["--suite", "text_to_mesh", "--data", "records", "--model", weights, "--count", 2]
    assert call(evaluate, monkeypatch, *words, "--out", tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    figures = {item["name"]: item for item in document["items"]}
    assert list(figures) == ["hausdorff_m", "chamfer_m2", "pa_mpvpe_mm"]
    error = figures["pa_mpvpe_mm"]
    by_prompt = {item["prompt"]: item for item in error["by_prompt"]}
    assert set(by_prompt) == set(PROMPTS)
    assert [by_prompt[prompt]["records"] for prompt in PROMPTS] == [1, 1, 2]
    assert by_prompt[PROMPTS[0]]["value"] < 0.01 > by_prompt[PROMPTS[1]]["value"]
    assert by_prompt[PROMPTS[2]]["value"] == pytest.approx(error["among_records"] / 2, rel=0.05)
    assert error["among_records"] > 2  # millimetres
    assert error["other_prompts"] > 3 * error["value"] and error["deviation"] == pytest.approx(0, abs=1e-4)
    assert error["paper"] == [12.2, 3.1] and figures["hausdorff_m"]["paper"] == [0.0221, 0.0073]
    assert (error["prompts"], error["meshes"]) == (3, 6)
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["figures"] == document["items"] and written["settings"]["share"] == 0.05
    monkeypatch.setattr(evaluate_text_to_mesh, "held_out_records", lambda path: _records(model)[:1])
    with pytest.raises(InputError, match="1 captions of held-out records with a mesh of open_hand; it takes 2"):
        call(evaluate, monkeypatch, *words)
    with pytest.raises(ConfigError, match="--share is 2.0; it must be above 0 and at most 1"):
        call(evaluate, monkeypatch, *words, "--share", 2)
