"""A run is exported by the command, as a user types it."""

import json
import sys

import grain
import numpy as np
import pytest

from handjax.diffusion.model import load_vae
from handjax.errors import CheckpointError, ConfigError
from handjax.tasks import make_task
from handjax.training.config import load_config
from handjax.training.loop import train
from launch import export

SMALL = (
    ("data.image_size", 16),
    ("vae.block_out_channels", (4, 8)),
    ("vae.norm_num_groups", 4),
    ("batch_size", 2),
    ("steps", 2),
    ("eval_every", 0),
    ("preview_every", 0),
)


def loader(split):
    pictures = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
    return grain.MapDataset.source(pictures).map(lambda image: {"image": image}).repeat().batch(2).to_iter_dataset()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    config = load_config("tiny_vae.py", [f"--config.{name}={value}" for name, value in SMALL])
    state = train(config, make_task(config), loader, workdir)
    return workdir, state


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["launch.export", *map(str, words)])
    return export.main()


def test_the_moving_average_of_a_run_is_exported(run, monkeypatch, tmp_path, capsys):
    workdir, state = run
    call(monkeypatch, "--run", workdir, "--to", "diffusers", "--out", tmp_path)
    vae, params = load_vae(tmp_path)
    np.testing.assert_array_equal(params["encoder"]["conv_in"]["kernel"], state.ema["encoder"]["conv_in"]["kernel"])
    assert vae.config.block_out_channels == (4, 8)
    np.testing.assert_allclose(vae.config.scaling_factor, state.model_state["latent_power"] ** -0.5, rtol=1e-6)
    assert "step 2" in capsys.readouterr().out


def test_a_run_whose_frozen_weights_have_changed_is_refused(run, monkeypatch, tmp_path):
    monkeypatch.setattr(export, "content_hash", lambda frozen: "of other weights")
    with pytest.raises(CheckpointError, match="trained on other frozen weights"):
        call(monkeypatch, "--run", run[0], "--to", "diffusers", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_layout_that_a_task_does_not_have_is_refused(run, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="exports to diffusers only"):
        call(monkeypatch, "--run", run[0], "--to", "torch", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_checkpoint_is_refused(run, monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(json.loads((run[0] / "config.json").read_text())))
    with pytest.raises(CheckpointError, match="no checkpoint"):
        call(monkeypatch, "--run", tmp_path, "--to", "diffusers", "--out", tmp_path / "out")
