"""What the servers' own scripts would read from the files."""

import json
import zipfile

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.hand.topology import MANO_JOINT_NAMES, TIP_NAMES
from handjax.recovery import submission
from handjax.recovery.submission import RULES, write_submission


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    """Three pictures each; the real numbers are asserted beside."""
    real = {name: rules.pictures for name, rules in RULES.items()}
    assert real == {"freihand": 3960, "ho3d_v2": 11524, "ho3d_v3": 20137}
    small = {name: submission.dataclasses.replace(rules, pictures=3) for name, rules in RULES.items()}
    monkeypatch.setattr(submission, "RULES", small)


@pytest.fixture
def hands():
    rng = np.random.default_rng(0)
    place = [0.1, 0.2, 0.7]
    return [place + 0.1 * rng.uniform(-1, 1, (3, count, 3)) for count in (21, 778)]


def read(path):
    """As the evaluation scripts do."""
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["pred.json"]
        return [np.array(part) for part in json.loads(archive.read("pred.json"))]


def test_freihand_has_the_points_as_they_are(hands, tmp_path):
    write_submission(tmp_path / "pred.zip", "freihand", *hands)
    for written, given in zip(read(tmp_path / "pred.zip"), hands, strict=True):
        np.testing.assert_allclose(written, given, rtol=0, atol=6e-7)


@pytest.mark.parametrize("benchmark", ["ho3d_v2", "ho3d_v3"])
def test_ho3d_has_opengls_axes_and_manos_order(benchmark, hands, tmp_path):
    write_submission(tmp_path / "pred.zip", benchmark, *hands)
    keypoints, vertices = read(tmp_path / "pred.zip")
    assert (keypoints[..., 2] < 0).all() and (vertices[..., 2] < 0).all()
    middle, thumb_tip = MANO_JOINT_NAMES.index("middle_mcp"), len(MANO_JOINT_NAMES) + TIP_NAMES.index("thumb_tip")
    assert (middle, thumb_tip) == (4, 16)
    np.testing.assert_allclose(keypoints[:, [0, 4, 16]], hands[0][:, [0, 9, 4]] * [1, -1, -1], rtol=0, atol=6e-7)
    np.testing.assert_allclose(vertices, hands[1] * [1, -1, -1], rtol=0, atol=6e-7)


def test_the_same_predictions_are_the_same_file(hands, tmp_path):
    for name in ("a.zip", "b.zip"):
        write_submission(tmp_path / name, "freihand", *hands)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_a_server_would_refuse_is_refused_here(hands, tmp_path):
    keypoints, vertices = hands
    missing, behind = keypoints.copy(), vertices - [0, 0, 2]
    missing[1, 3] = np.nan
    for points, surface, said in (
        (keypoints[:2], vertices, r"wants \(3, 21, 3\): predict every picture"),
        (keypoints, vertices[:, :700], r"wants \(3, 778, 3\)"),
        (missing, vertices, "keypoints have values that are no numbers"),
        (keypoints, behind, "vertices of some hands lie behind the camera"),
    ):
        with pytest.raises(InputError, match=said):
            write_submission(tmp_path / "pred.zip", "freihand", points, surface)
    assert not (tmp_path / "pred.zip").exists()
