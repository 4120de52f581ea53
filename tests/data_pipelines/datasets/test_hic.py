"""HIC in the layout of github.com/facebookresearch/InterWild: data/HIC/download.py and HIC.py (archives, camera); the
pickles' keys as in github.com/adwardlee/RenderIH, utils/dataset_gen/tzionas_generation.py (get_frompkl, main).
"""

import pickle

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import write_image
from tests.data_pipelines.datasets.mano_truth import check_mano, mano_truth, mean_pose, write_mano
from tests.data_pipelines.datasets.truth import check_record, check_space, matrix, picture_of, prepare
from tests.hand.mano_files import write_python2

SIZE = (480, 640)
K = matrix(525.0, (320.0, 240.0))
FITS = "IJCV16___Results_MANO___parms_for___joints21"


def write_fit(folder, sequence, letter, frame, truth, arrays):
    bent = (truth.pose - mean_pose(arrays))[1:].ravel()
    content = {
        "pose": np.concatenate([truth.pose[0], np.linalg.solve(arrays["hands_components"].T, bent)]),
        "betas": truth.betas,
        "trans": truth.place,
        "v": truth.vertices,
        "J_transformed": truth.joints,
        "ncomps": 45,
        "model_name": "MANO",
    }
    name = f"IJCV16___fakeGT___IJCV___{sequence}___Model_Hand_{letter}___ncomps45"
    (folder / FITS / name).mkdir(parents=True, exist_ok=True)
    write_python2(folder / FITS / name / f"{frame}.pkl", content)


def write_hic(folder, files):
    """A frame of both hands and one of the left hand with an object."""
    right = mano_truth(1, "right", files["right"], "smplx", K, SIZE, (-0.15, 0.02, 0.8))
    left = mano_truth(2, "left", files["left"], "smplx", K, SIZE, (0.2, -0.02, 0.7))
    write_fit(folder, "01", "R", "004", right, files["right"])
    for sequence, frame in (("01", "004"), ("15", "120")):
        write_fit(folder, sequence, "L", frame, left, files["left"])
        write_image(folder / sequence / "1" / "rgb" / f"{frame}.png", picture_of([], SIZE))
    return {"01/004#0": right, "01/004#1": left, "15/120#0": left}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hic")
    return folder, write_hic(folder / "data", write_mano(folder))


def test_hands_come_with_joints_and_fingertips_of_their_mesh(written, tmp_path, monkeypatch):
    folder, truths = written
    records = prepare(monkeypatch, f"hic:{folder / 'data'}", tmp_path / "out", "--mano", folder)["eval"]
    assert set(records) == set(truths)
    for name, truth in truths.items():
        check_mano(records[name], truth, folder, "smplx", left_shape="keep")
        check_record(records[name], truth.hand, picture_of([], SIZE))


def test_without_mano_the_keypoints_are_there_and_the_open_hand_is_fitted(written, tmp_path, monkeypatch):
    folder, truths = written
    records = prepare(monkeypatch, f"hic:{folder / 'data'}", tmp_path / "out")["eval"]
    for name, record in records.items():
        assert record.hand_model == "open_hand"
        check_space(record, truths[name].hand)
    assert records


def test_parameters_that_do_not_give_the_vertices_are_an_error(tmp_path, monkeypatch):
    write_hic(tmp_path / "data", write_mano(tmp_path))
    for path in (tmp_path / "data").rglob("*.pkl"):
        content = pickle.loads(path.read_bytes(), encoding="latin1")
        write_python2(path, content | {"pose": content["pose"] * 1.2})
    with pytest.raises(InputError, match="none of 2 pictures gave a hand"):
        prepare(monkeypatch, f"hic:{tmp_path / 'data'}", tmp_path / "out", "--mano", tmp_path)


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "15/1/rgb/120.png").unlink(), "15/1/rgb/120.png: missing"),
        (lambda folder: (folder / FITS).rename(folder / "x"), f"{FITS}: no fits in it"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, damage, text):
    write_hic(tmp_path / "data", write_mano(tmp_path))
    damage(tmp_path / "data")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"hic:{tmp_path / 'data'}", tmp_path / "out")
    assert "dtzionas/Hand-Object-Capture" in str(caught.value) and "\n" not in str(caught.value)
