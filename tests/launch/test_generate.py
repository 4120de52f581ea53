"""What `launch.generate` says of a guide, and of what nobody checks, with pictures that no model made."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from handjax.errors import ConfigError
from handjax.images import write_image
from launch import generate
from launch.generator import read_control
from launch.guidance_plot import draw_log, plot_log

LOG = [
    {"t": 641.0, "mask_area": 0.0, "textual": None, "loss": None},
    {"t": 621.0, "mask_area": 0.125, "textual": 0.5, "loss": 1.25},
    {"t": 601.0, "mask_area": 0.125, "textual": None, "loss": None},
]
TOLD = {"status": "guided", "mask_area": 0.125, "mask_full": False, "steps": 2, "log": LOG}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command; returns what it printed on each stream."""

    def run(*words, told, guidance):
        def steered(wishes):
            return ((wish, np.zeros((8, 8, 3), np.uint8), told) for wish in wishes)

        made = SimpleNamespace(steered=steered), {"guidance": guidance}
        monkeypatch.setattr(generate, "load_generator", lambda _: made)
        monkeypatch.setattr(generate, "detect_with_margin", lambda *_: [])
        for network in ("HandDetector", "HandHead"):
            monkeypatch.setattr(generate, network, SimpleNamespace(load=lambda: None))
        monkeypatch.setattr(sys, "argv", ["generate", "a hand", "--out", str(tmp_path), *words])
        assert generate.main() == 0
        return capsys.readouterr()

    return run


def test_the_guides_status_is_in_the_line_and_its_log_in_the_picture(run, tmp_path):
    printed = run("--guidance", "mghand", "--plot", told=TOLD, guidance={"name": "mghand"})
    assert printed.out == f"{tmp_path / 'a-hand-0.png'}  guided, mask 12%\n" and not printed.err
    carried = json.loads(Image.open(tmp_path / "a-hand-0.png").text["handjax"])
    assert carried["guidance"] == {"name": "mghand"} | TOLD
    plot = (tmp_path / "a-hand-0.svg").read_text()
    assert all(f"<!-- {name} -->" in plot for name in ("mask_area", "textual", "loss"))


def test_the_picture_that_a_controlnet_follows_is_not_stretched(tmp_path):
    path = tmp_path / "pose.png"
    for wide, high in ((48, 32), (1000, 667), (15, 10)):  # 2:3, up to a pixel
        write_image(path, np.full((high, wide, 3), 51, np.uint8))
        read = read_control(path, (64, 96))
        assert read.shape == (64, 96, 3) and read.dtype == np.float32
        np.testing.assert_allclose(read, 0.2, atol=1e-3)
    for wide, high in ((96, 96), (32, 48), (1000, 640)):
        write_image(path, np.zeros((high, wide, 3), np.uint8))
        said = rf"pose\.png: {wide}x{high} pixels would be stretched to 96x64; crop it .* or give --size"
        with pytest.raises(ConfigError, match=said):
            read_control(path, (64, 96))


def test_a_picture_without_a_guide_or_with_one_that_has_no_status_is_a_path(run, tmp_path):
    for told, guidance in (({}, None), ({"pushed": 1}, {"name": "anatomy"})):
        assert run(told=told, guidance=guidance).out == f"{tmp_path / 'a-hand-0.png'}\n"
        carried = json.loads(Image.open(tmp_path / "a-hand-0.png").text["handjax"])
        assert carried["guidance"] == (guidance and guidance | told)
    assert not list(tmp_path.glob("*.svg"))


def test_that_nobody_checks_is_said_once_of_all_but_the_embedded_model(run, tmp_path):
    for words, warning in (
        (("--model", "models/sd15"), "warning: models/sd15: no safety checker is run, whichever the model names\n"),
        (("--model", "tiny_inpainting"), ""),
        ((), ""),
    ):
        assert run("--prompt", "a fist", *words, told={}, guidance=None).err == warning


@pytest.mark.parametrize("guides", [(), ("--guidance", "anatomy")])
def test_there_is_nothing_to_plot_without_mghand(run, guides):
    with pytest.raises(ConfigError, match="--plot is of no use without --guidance mghand; add it or leave it out"):
        run(*guides, "--plot", told={}, guidance=None)


def test_the_plot_has_every_value_from_the_first_step_on(tmp_path):
    top, bottom = Figure().subplots(2)
    draw_log((top, bottom), {name: [entry[name] for entry in LOG] for name in LOG[0]})
    lines = {line.get_label(): line.get_xydata().tolist() for panel in (top, bottom) for line in panel.lines}
    assert lines == {
        "mask_area": [[641, 0], [621, 0.125], [601, 0.125]],
        "textual": [[621, 0.5]],
        "loss": [[621, 1.25]],
    }
    assert all(left > right for left, right in (top.get_xlim(), bottom.get_xlim()))
    plot_log(tmp_path / "no-step.svg", [])
    assert (tmp_path / "no-step.svg").is_file()
