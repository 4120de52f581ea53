"""FreiHAND in the layout of its authors' toolbox, github.com/lmb-freiburg/freihand: utils/fh_utils.py
(load_db_annotation, read_img, read_msk, sample_version) and utils/model.py (split_theta, recover_root); the
evaluation's annotations as FreiHAND_pub_v2_eval.zip adds them.
"""

import json

import numpy as np
import pytest

from data_pipelines.datasets.freihand import FreiHand
from handjax.errors import InputError
from handjax.hand.mano import load_mano
from handjax.hand.model import pose_hand
from handjax.hand.topology import MANO_TIP_VERTICES, MANO_TO_OPENPOSE
from handjax.images import decode_image, write_image
from tests.data_pipelines.datasets.truth import (
    TrueHand,
    check_mesh,
    check_record,
    check_space,
    matrix,
    picture_of,
    pixels_of,
    prepare,
    true_hand,
)
from tests.hand.mano_files import mano_arrays, mirrored, write_python2
from tests.hand.test_mano import published

SIZE = (224, 224)
K = matrix(480.0, (112.0, 112.0))
ZIP = "FreiHAND_pub_v2"


def write_freihand(folder, hands, thetas):
    """As many training samples as hands, four pictures each; the first hand is also the evaluation's."""
    count = len(hands)
    for part, backgrounds, of_part in (("training", 4, hands), ("evaluation", 1, hands[:1])):
        for number in range(backgrounds * len(of_part)):
            picture = picture_of([of_part[number % count]], SIZE) // (1 + number // count)
            write_image(folder / part / "rgb" / f"{number:08d}.jpg", picture)
        lists = {
            "K": [K.tolist() for _ in of_part],
            "scale": [0.03 for _ in of_part],
            "xyz": [hand.points.tolist() for hand in of_part],
            "mano": [[theta.tolist()] for theta in thetas[: len(of_part)]],
            "verts": [np.zeros((778, 3)).tolist() for _ in of_part],
        }
        for name, entries in lists.items():
            (folder / f"{part}_{name}.json").write_text(json.dumps(entries))
    for number, hand in enumerate(hands):
        grey = np.where(hand.mask, 255, 0).astype(np.uint8)
        write_image(folder / "training" / "mask" / f"{number:08d}.jpg", np.repeat(grey[..., None], 3, axis=2))


def write_rendered(folder):
    """Two open hands, whose MANO parameters are not read."""
    hands = [true_hand(seed, "right", K, SIZE, (100 + 20 * seed, 110), depth=0.7) for seed in (4, 5)]
    write_freihand(folder, hands, np.zeros((2, 61)))
    return hands


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("freihand")
    hands = write_rendered(folder / ZIP)
    with pytest.MonkeyPatch.context() as patch:
        return prepare(patch, f"freihand:{folder / ZIP}", folder / "out"), hands


def test_every_sample_has_four_pictures_and_one_hand(made):
    records, hands = made
    assert set(records["train"]) == {f"training/{number:08d}#0" for number in range(8)}
    assert set(records["eval"]) == {"evaluation/00000000#0"}
    for number in range(8):
        record, hand = records["train"][f"training/{number:08d}#0"], hands[number % 2]
        corner = check_record(record, hand, picture_of([hand], SIZE) // (1 + number // 2))
        check_space(record, hand)
        check_mesh(record, hand, corner)
        assert record.hand_model == "open_hand" and record.side == "right"
    check_space(records["eval"]["evaluation/00000000#0"], hands[0])


def test_masks_are_the_filmed_ones_in_training_and_the_mesh_in_evaluation(made):
    records, hands = made
    for number in range(8):
        record, hand = records["train"][f"training/{number:08d}#0"], hands[number % 2]
        x, y = np.round((hand.pixels - record.keypoints_2d[:, :2])[0]).astype(int)
        mask = decode_image(record.mask, "mask")[..., 0] > 0
        rows, columns = (np.clip(np.arange(len(mask)) + first, 0, 223) for first in (y, x))
        assert (mask == hand.mask[rows[:, None], columns]).mean() > 0.999
    evaluation = records["eval"]["evaluation/00000000#0"]
    np.testing.assert_array_equal(
        decode_image(evaluation.mask, "mask") > 0, decode_image(evaluation.depth, "depth") > 0
    )


@pytest.fixture(scope="module")
def posed(tmp_path_factory):
    """A hand of a synthetic MANO, its parameters as FreiHAND writes them, and what is made of it."""
    folder = tmp_path_factory.mktemp("freihand_mano")
    arrays = mano_arrays()
    for name, content in (("RIGHT", arrays), ("LEFT", mirrored(arrays, fix_shape=True))):
        write_python2(folder / f"MANO_{name}.pkl", content)
    rng = np.random.default_rng(3)
    relative, betas = 0.3 * rng.standard_normal((16, 3)), rng.standard_normal(10)
    absolute = relative + np.concatenate([np.zeros(3), arrays["hands_mean"]]).reshape(16, 3)
    vertices, joints = published(arrays, absolute, betas, np.array([0.1, 0.02, 0.8]))
    points = np.concatenate([joints, vertices[list(MANO_TIP_VERTICES["freihand"])]])[MANO_TO_OPENPOSE]
    # utils/model.py: the root's depth is focal / scale, and it is keypoint 9
    theta = np.concatenate([relative.ravel(), betas, pixels_of(points, K)[9], [480.0 / points[9, 2]]])
    hand = TrueHand("right", points, pixels_of(points, K), np.zeros(SIZE, bool), np.zeros(SIZE))
    write_freihand(folder / ZIP, [hand], theta[None])
    with pytest.MonkeyPatch.context() as patch:
        records = prepare(patch, f"freihand:{folder / ZIP}", folder / "out", "--mano", folder)
    return records, hand, absolute, vertices, folder / "MANO_RIGHT.pkl"


def test_mano_parameters_are_relative_to_the_flat_hand_and_in_camera_space(posed):
    records, hand, absolute, vertices, path = posed
    assert len(records["train"]) == 4 and len(records["eval"]) == 1
    for record in (*records["train"].values(), *records["eval"].values()):
        assert record.hand_model == "mano"
        np.testing.assert_allclose(record.pose, absolute, atol=1e-6)
        again = pose_hand(load_mano(path, tips=FreiHand.FACTS.tips), record.pose, record.betas, record.translation)
        np.testing.assert_allclose(again.vertices, vertices, atol=2e-6)
        np.testing.assert_allclose(again.keypoints, record.keypoints_3d[:, :3], atol=2e-6)
        check_space(record, hand)


def test_the_papers_draw_their_evaluation_set_from_training(tmp_path, monkeypatch):
    write_rendered(tmp_path / ZIP)
    records = prepare(monkeypatch, f"freihand:{tmp_path / ZIP}", tmp_path / "out", "--paper-eval", 7, "--limit", 3)
    assert set(records) == {"eval"} and len(records["eval"]) == 3
    assert all(name.startswith("training/") for name in records["eval"])


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "training_xyz.json").unlink(), "training_xyz.json: missing"),
        (lambda folder: (folder / "evaluation_xyz.json").unlink(), "evaluation_xyz.json: missing"),
        (lambda folder: (folder / "training_K.json").write_text("[[[480"), "training_K.json: not JSON"),
        (lambda folder: (folder / "training_K.json").write_text("[]"), "2 entries, training_K.json has 0"),
        (lambda folder: (folder / "training" / "rgb" / "00000007.jpg").unlink(), "rgb/00000007.jpg: missing"),
        (lambda folder: (folder / "training" / "mask" / "00000001.jpg").unlink(), "mask/00000001.jpg and 3 more"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, damage, text):
    write_rendered(tmp_path / ZIP)
    damage(tmp_path / ZIP)
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"freihand:{tmp_path / ZIP}", tmp_path / "out")
    assert "FreiHAND_pub_v2_eval.zip" in str(caught.value) and "\n" not in str(caught.value)
