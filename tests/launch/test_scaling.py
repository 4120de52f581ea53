"""launch.scaling reads reports of launch.compile and draws what it has fitted to them."""

import json

import pytest
from PIL import Image

from handjax.errors import InputError
from handjax.training.cost_model import fit
from launch import scaling

SETTINGS = {"parallel.fsdp": 1, "parallel.model": 1, "parallel.remat": "none"}


def item(chips, batch, **changed):
    return {
        "topology": "v5e:4x4",
        "chips": chips,
        "device_kind": "TPU v5 lite",
        "batch_size": chips * batch,
        "settings": SETTINGS,
        "fits": True,
        "hbm_peak_gib": 2.0 + batch,
        "hbm_traffic_gib": 2.0 + 5 * batch,
        "tflop_per_chip": 1.5 * batch,
        "tflop_executed_per_chip": 1.5 * batch,
        "collective_gib": {"all-reduce": 0.2},
        **changed,
    }


def write(path, *items):
    path.write_text(json.dumps({"items": items}))
    return path


def test_only_steps_that_fit_with_whole_weights_are_fitted(tmp_path):
    others = (
        item(16, 4, fits=False),
        item(16, 4, settings=SETTINGS | {"parallel.fsdp": 16}),
        item(16, 4, settings=SETTINGS | {"parallel.remat": "blocks"}),
    )
    path = write(tmp_path / "a.json", item(16, 2), *others, item(16, 8))
    assert scaling.read_items([path]) == [item(16, 2), item(16, 8)]


def test_what_is_off_is_a_share_of_what_was_compiled():
    model = fit([item(16, 2), item(16, 8)])
    row = scaling.compare(model, item(16, 8, hbm_peak_gib=20.0))
    assert (row["hbm_peak_gib"], row["hbm_peak_gib_off"], row["hbm_traffic_gib_off"]) == (20.0, -0.5, 0.0)


def test_the_picture(tmp_path):
    scaling.draw(fit([item(16, 2), item(16, 8)]), [item(16, 2)], tmp_path / "new" / "scaling.png")
    assert Image.open(tmp_path / "new" / "scaling.png").size == (1650, 495)


@pytest.mark.parametrize("text", ["nothing", "[]", '{"item": []}'])
def test_what_is_no_report(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="no report of launch.compile --json"):
        scaling.read_items([tmp_path / "a.json"])


def test_one_batch_makes_no_line(tmp_path):
    with pytest.raises(InputError, match="two batches a chip"):
        scaling.read_items([write(tmp_path / "a.json", item(16, 4), item(256, 4))])
