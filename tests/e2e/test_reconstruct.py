"""From rendered hands to meshes by commands alone: tokenizer, transformer, resumption, export, reconstruction."""

import json
import subprocess
import sys

import pytest

from handjax.hand.mesh_files import read_mesh
from handjax.images import write_image
from tests.inference.drawn_hand import hand_of_shapes

TOKENIZER = ("network.width=16", "quantizer.codes=32", "quantizer.dim=8", "steps=20", "eval_batches=1")
ENCODER = ("encoder.width=24", "encoder.depth=1", "network.features=24", "network.layers=1", "network.head_layers=1")
OFTEN = ("batch_size=4", "log_every=1", "eval_every=10", "eval_batches=1", "preview_every=20", "checkpoint.every=10")


def command(name, *words):
    done = subprocess.run([sys.executable, "-m", f"launch.{name}", *map(str, words)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def succeed(name, *words):
    status, said, errors = command(name, *words)
    assert status == 0, errors[-2000:]
    return said


@pytest.mark.slow
def test_rendered_hands_become_a_model_that_reads_pictures(tmp_path):
    def fields(*settings):
        return [f"--config.{setting}" for setting in settings]

    succeed("precompute", "--input", "rendered:24", "--output", tmp_path / "records")
    succeed("train", "--config", "vq_mano.py:tiny", "--workdir", tmp_path / "vq", *fields(*TOKENIZER))
    succeed("export", "--run", tmp_path / "vq", "--to", "handjax", "--out", tmp_path / "tokenizer")
    recipe = ["--config", "mmhmr.py:tiny", *fields(*ENCODER, *OFTEN, "optim.lr=1e-3")]
    recipe += fields(f"data.path={tmp_path / 'records'}", f"tokenizer={tmp_path / 'tokenizer'}")
    succeed("train", *recipe, "--workdir", tmp_path / "run", "--config.steps=20")
    for steps in (10, 20):
        succeed("train", *recipe, "--workdir", tmp_path / "cut", f"--config.steps={steps}")
    reports = [[json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").open()] for folder in ("run", "cut")]
    losses = [{line["step"]: line["loss"] for line in lines if "loss" in line} for lines in reports]
    assert losses[0] == losses[1] and len(losses[0]) == 20
    held_out = [line["eval/pa_mpjpe_mm_alone"] for line in reports[0] if "eval/loss" in line]
    assert len(held_out) == 3 and all(0 < error < 100 for error in held_out)
    succeed("export", "--run", tmp_path / "run", "--to", "handjax", "--out", tmp_path / "weights")
    write_image(tmp_path / "hand.png", hand_of_shapes((224, 172, 140), (250, 250, 250)))
    found = []
    for folder in ("run", "weights"):
        words = ["--model", tmp_path / folder, "--out", tmp_path / f"out_{folder}", "--format", "glb", "--json"]
        (item,) = json.loads(succeed("reconstruct", tmp_path / "hand.png", "--box", 40, 20, 260, 295, *words))["items"]
        found += item["hands"]
    assert found[0]["keypoints"] == found[1]["keypoints"]
    assert len(read_mesh(tmp_path / "out_run" / "hand.png.0.glb").vertices) > 700
    status, _, errors = command("reconstruct", tmp_path / "hand.png", "--model", tmp_path, "--out", tmp_path / "out")
    assert status == 2 and errors.count("\n") == 1 and errors.startswith("error: ")
