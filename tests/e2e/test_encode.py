"""`launch.encode` and training on what it wrote, as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handjax
from data_pipelines.encoded import open_encoded
from data_pipelines.loader import make_loader
from handjax.diffusion.inpainting import hide
from handjax.diffusion.model import load_vae, save_part
from handjax.errors import UserError
from handjax.tasks import make_task
from handjax.training.config import load_config
from launch import encode, train
from launch.train import data_section

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"
RECIPE = ("--config", "tiny_inpainting.py")


def launch(command, *arguments):
    words = [sys.executable, "-m", f"launch.{command}", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records") / "photos"
    done = launch("precompute", "--input", PHOTOS, "--output", folder, "--eval-fraction", "0.34")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def encoded(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded") / "latents"
    sizes = ("--examples", "5", "--eval-examples", "1", "--json")
    done = launch("encode", *RECIPE, f"--config.data.path={records}", *sizes, "--output", folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == [{"output": str(folder), "examples": {"train": 5, "eval": 1}}]
    return folder


def test_latents_are_those_of_the_records_pictures(records, encoded):
    config = load_config("tiny_inpainting.py", [f"--config.data.path={records}"])
    task = make_task(config)
    batch = next(iter(make_loader(config.data, task.batch_spec(), 1, 0, "eval")))
    ahead = load_config("tiny_inpainting.py", ["--config.data.encoded=True"])
    stored = open_encoded(encoded, "eval", make_task(ahead).batch_spec())[0]
    np.testing.assert_array_equal(stored["mask"], batch["mask"][0])
    np.testing.assert_array_equal(stored["input_ids"], batch["input_ids"][0])
    to_latents, batch = jax.jit(task.frozen().encode), jax.tree.map(jnp.asarray, batch)
    np.testing.assert_allclose(stored["latents"], to_latents(batch["image"])[0], atol=4e-3)
    hidden = to_latents(hide(batch["image"], batch["mask"]))[0]
    np.testing.assert_allclose(stored["hidden_latents"], hidden, atol=4e-3)


@pytest.fixture
def refused(monkeypatch):
    """What a command says that ends before its work."""

    def call(command, *arguments):
        monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, arguments)])
        monkeypatch.setattr(train, "_log_to_stderr", lambda: None)
        with pytest.raises(UserError) as caught:
            command.main()
        return str(caught.value)

    return call


def test_latents_of_another_autoencoder_are_refused(encoded, refused, tmp_path):
    vae, params = load_vae("tiny_inpainting")
    save_part(tmp_path / "other", "vae", vae.config, jax.tree.map(lambda leaf: leaf * 1.01, params))
    latents = (f"--config.data.path={encoded}", "--config.data.encoded=True")
    said = refused(train, *RECIPE, f"--config.vae={tmp_path / 'other'}", *latents, "--workdir", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert said.startswith("data.path=") and "\n" not in said
    assert "not encoded by the autoencoder of this recipe" in said


def test_pixels_where_latents_are_expected_are_refused(records, refused, tmp_path):
    fields = (f"--config.data.path={records}", "--config.data.encoded=True")
    assert "(none, not " in refused(train, *RECIPE, *fields, "--workdir", tmp_path / "run")


@pytest.mark.slow
def test_a_task_that_follows_other_pictures_finds_them_encoded(records, tmp_path):
    recipe = ("--config", "sesahand.py:tiny")
    sizes = ("--examples", "3", "--eval-examples", "1")
    folder = tmp_path / "latents"
    done = launch("encode", *recipe, f"--config.data.path={records}", *sizes, "--output", folder)
    assert done.returncode == 0, done.stderr
    config = load_config("sesahand.py:tiny", [f"--config.data.path={records}"])
    task = make_task(config)
    batch = next(iter(make_loader(data_section(config, task), task.batch_spec(), 1, 0, "eval")))
    stored = open_encoded(
        folder, "eval", make_task(load_config(recipe[1], ["--config.data.encoded=True"])).batch_spec()
    )
    for name in ("mesh", "hand_tokens", "mask"):
        np.testing.assert_allclose(stored[0][name], batch[name][0], atol=0.5 / 255 + 1e-6, err_msg=name)
    assert stored[0]["hand_tokens"].any()
    short = ("--config.steps=2", "--config.batch_size=2", "--config.eval_every=0", "--config.preview_every=0")
    latents = (f"--config.data.path={folder}", "--config.data.encoded=True")
    done = launch("train", *recipe, *latents, *short, "--workdir", tmp_path / "run")
    assert done.returncode == 0, done.stderr


def test_an_earlier_result_is_not_replaced(encoded, records, refused):
    said = refused(encode, *RECIPE, f"--config.data.path={records}", "--examples", "5", "--output", encoded)
    assert "exists; choose another folder" in said


def test_a_recipe_that_trains_on_pictures_takes_no_latents(encoded, refused, tmp_path):
    fields = (f"--config.data.path={encoded}", "--config.data.encoded=True")
    said = refused(train, "--config", "tiny_vae.py", *fields, "--workdir", tmp_path / "run")
    assert "this recipe trains on pictures" in said
