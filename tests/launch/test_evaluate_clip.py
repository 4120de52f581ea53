"""The suite with a scorer whose score of a picture is known."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from handjax.images import write_image
from launch import evaluate, evaluate_clip


class Scorer:
    """The red of a picture's first pixel, less the prompt's length."""

    def __call__(self, images, prompts):
        return np.array([float(image[0, 0, 0]) - len(prompt) for image, prompt in zip(images, prompts, strict=True)])

    def cut(self, prompts):
        return [len(prompt) > 10 for prompt in prompts]


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setattr(evaluate_clip, "ClipScorer", SimpleNamespace(load=lambda folder: Scorer()))

    def run(*arguments):
        words = ["launch.evaluate", "--suite", "clip", "--clip-model", "clip", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        return evaluate.main(), capsys.readouterr()

    return run


def picture(red):
    return np.full((4, 4, 3), red, np.uint8)


def test_prompts_come_from_the_pictures_and_from_beside_them(run, tmp_path):
    data = tmp_path / "made"
    write_image(data / "a.png", picture(50), text={"handjax": json.dumps({"prompt": "a fist"})})
    write_image(data / "below" / "b.png", picture(60))
    (data / "below" / "b.txt").write_text("an open left hand")
    write_image(data / "c.jpg", picture(70))
    (data / "d.png").write_bytes(b"no picture")
    status, output = run("--data", data, "--json", "--out", tmp_path / "out")
    document = json.loads(output.out)
    assert status == 2
    missing, broken = sorted(error["error"] for error in document["errors"])
    assert "has no prompt" in missing and "c.jpg" in missing and "d.png" in broken
    (item,) = document["items"]
    assert item["value"] == pytest.approx((50 - 6 + 60 - 17) / 2)
    assert (item["pictures"], item["unusable"], item["prompts_cut_off"]) == (2, 2, 1)
    low, high = item["interval_95"]
    assert 43 <= low < item["value"] < high <= 44
    assert json.loads((tmp_path / "out/figures.json").read_text())["figures"] == document["items"]


def test_captions_of_the_caption_command(run, tmp_path):
    data = tmp_path / "photos"
    for number in range(40):  # more than a batch
        write_image(data / f"{number}.png", picture(100 + number))
    lines = [json.dumps({"input": f"photos/{number}.png", "caption": "x" * number}) for number in range(1, 40)]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    status, output = run("--data", data, "--captions", tmp_path / "captions.jsonl")
    assert status == 2 and "0.png: has no prompt" in output.err
    assert output.out.startswith("CLIP score 100.00 [100.00, 100.00] of 39 pictures, 1 unusable; 29 prompts")


@pytest.mark.parametrize(
    "text",
    ["not JSON", "[1, 2]", '{"prompt": 3}', "[" * 100_000, ""],
    ids=["words", "list", "number", "deep", "empty"],
)
def test_a_text_of_another_program_is_no_prompt(run, tmp_path, text):
    write_image(tmp_path / "a.png", picture(50), text={"handjax": text})
    (tmp_path / "a.txt").write_text("a fist")
    status, output = run("--data", tmp_path)
    assert status == 0 and output.out.startswith("CLIP score 44.00")


def test_pictures_without_prompts_are_an_error(run, tmp_path):
    write_image(tmp_path / "a.png", picture(1))
    with pytest.raises(evaluate_clip.InputError, match="none of its 1 pictures can be scored"):
        run("--data", tmp_path)
