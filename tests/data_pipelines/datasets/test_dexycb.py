"""DexYCB in the layout of github.com/NVlabs/dex-ycb-toolkit: dex_ycb_toolkit/dex_ycb.py (files, YAML keys, s0),
sequence_loader.py (`serials`, pixels), examples/create_dataset.py and README (what a sample holds), hpe_eval.py and
coco_eval.py (keys and shapes of labels), layers/mano_layer.py (MANO).
"""

import numpy as np
import pytest
import yaml

from data_pipelines.datasets.builder import DatasetConfig
from data_pipelines.datasets.dexycb import DexYcb
from handjax.errors import InputError
from handjax.images import decode_image, write_image
from tests.data_pipelines.datasets.mano_truth import check_mano, mano_truth, mean_pose, write_mano
from tests.data_pipelines.datasets.truth import check_record, check_space, matrix, picture_of, prepare, true_hand

SIZE = (480, 640)
SERIAL = "932122060861"
K = matrix(613.0, (313.5, 245.5))
"""Of pixels whose first is centred at (0.5, 0.5)."""
BETAS = {"left": np.linspace(-1, 1, 10), "right": np.linspace(0.5, -0.5, 10)}
SUBJECTS = ("20200709-subject-01", "20200813-subject-02")
FURTHER_SUBJECTS = (
    *("20200820-subject-03", "20200903-subject-04", "20200908-subject-05", "20200918-subject-06"),
    *("20200928-subject-07", "20201002-subject-08", "20201015-subject-09", "20201022-subject-10"),
)


def write_dexycb(folder, shown, betas=BETAS, subjects=SUBJECTS):
    """100 sequences a subject; `shown` maps subject and sequence to frames: side, picture and labels."""
    intrinsics = {"fx": 613.0, "fy": 613.0, "ppx": 313.0, "ppy": 245.0}
    write_yaml(folder / "calibration/intrinsics" / f"{SERIAL}_640x480.yml", {"color": intrinsics, "depth": intrinsics})
    for side, values in betas.items():
        write_yaml(folder / f"calibration/mano_20200514-subject-01_{side}/mano.yml", {"betas": values.tolist()})
    for subject in subjects:
        for number in range(100):
            sequence = folder / subject / f"20200709_{141841 + number}"
            frames = shown.get((subject, number), [])
            side = frames[0][0] if frames else "right"
            meta = {"serials": [SERIAL], "num_frames": len(frames), "extrinsics": "20200702_151821"}
            meta |= {"ycb_ids": [1, 11], "ycb_grasp_ind": 0, "mano_calib": [f"20200514-subject-01_{side}"]}
            write_yaml(sequence / "meta.yml", meta | {"mano_sides": [side]})
            for frame, (_, picture, labels) in enumerate(frames):
                write_image(sequence / SERIAL / f"color_{frame:06d}.jpg", picture)
                np.savez_compressed(sequence / SERIAL / f"labels_{frame:06d}.npz", **labels)


def write_yaml(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def labels_of(hand, theta=None):
    seg = np.full(SIZE, 2, np.uint8)
    seg[hand.mask] = 255
    return {
        "seg": seg,
        "pose_y": np.zeros((2, 3, 4), np.float32),
        "pose_m": np.zeros((1, 51), np.float32) if theta is None else theta[None].astype(np.float32),
        "joint_3d": hand.points[None].astype(np.float32),
        "joint_2d": (hand.pixels - 0.5)[None].astype(np.float32),
    }


def nothing():
    """Labels of a frame before the hand comes."""
    return {
        "seg": np.zeros(SIZE, np.uint8),
        "pose_y": np.zeros((2, 3, 4), np.float32),
        "pose_m": np.zeros((1, 51), np.float32),
        "joint_3d": np.full((1, 21, 3), -1, np.float32),
        "joint_2d": np.full((1, 21, 2), -1, np.float32),
    }


@pytest.fixture(scope="module")
def hands():
    return true_hand(1, "left", K, SIZE, (260, 210), depth=0.9), true_hand(2, "right", K, SIZE, (400, 260), depth=0.8)


def write_rendered(folder, hands):
    left, right = hands
    empty = ("left", picture_of([], SIZE), nothing())
    shown = {
        ("20200709-subject-01", 9): [empty, ("left", picture_of([left], SIZE), labels_of(left))],
        ("20200813-subject-02", 99): [("right", picture_of([right], SIZE), labels_of(right))],
        ("20200813-subject-02", 3): [("right", picture_of([right], SIZE), labels_of(right))],
    }
    write_dexycb(folder, shown)


@pytest.fixture(scope="module")
def made(tmp_path_factory, hands):
    folder = tmp_path_factory.mktemp("dexycb")
    write_rendered(folder / "data", hands)
    with pytest.MonkeyPatch.context() as patch:
        return prepare(patch, f"dexycb:{folder / 'data'}", folder / "out", "--splits", "val")["val"]


NAMES = (
    f"20200709-subject-01/20200709_141850/{SERIAL}/000001#0",
    f"20200813-subject-02/20200709_141940/{SERIAL}/000000#0",
)


def test_every_fifth_sequence_of_two_subjects_is_the_validation_set(made):
    assert set(made) == set(NAMES)


def test_the_split_s0_shares_out_all_sequences(tmp_path):
    subjects = SUBJECTS + FURTHER_SUBJECTS
    # dex_ycb.py, setup s0: `i % 5 != 4` of all subjects, `i % 5 == 4` of the first two, and of the others
    expected = {"s0_train": (subjects, False), "s0_val": (SUBJECTS, True), "s0_test": (FURTHER_SUBJECTS, True)}
    frame = [("right", picture_of([], (1, 1)), {})]
    write_dexycb(tmp_path, {(name, number): frame for name in subjects for number in (33, 34)}, subjects=subjects)
    builder = DexYcb(config=DatasetConfig(folder=str(tmp_path)), data_dir=str(tmp_path), file_format="array_record")
    for part, (names, is_fifth) in expected.items():
        sequence = f"20200709_{141841 + (34 if is_fifth else 33)}"
        found = [sample.name for sample in builder.samples(tmp_path, part)]
        assert found == [f"{name}/{sequence}/{SERIAL}/000000" for name in names]


def test_hands_come_in_our_pixels_metres_and_order(made, hands):
    for name, hand in zip(NAMES, hands, strict=True):
        record = made[name]
        x, y = check_record(record, hand, picture_of([hand], SIZE)).astype(int)
        check_space(record, hand)
        mask = decode_image(record.mask, "mask")[..., 0] > 0
        rows, columns = np.arange(y, y + len(mask)).clip(0, 479), np.arange(x, x + len(mask)).clip(0, 639)
        np.testing.assert_array_equal(mask, hand.mask[rows[:, None], columns])


def test_mano_parameters_are_coordinates_of_its_pose_space(tmp_path, monkeypatch):
    files, truths, shown = write_mano(tmp_path), {}, {}
    for number, side in ((4, "right"), (14, "left")):
        truth = mano_truth(number, side, files[side], "manopth", K, SIZE, (-0.1, 0.05, 0.8))
        # layers/mano_layer.py: use_pca, ncomps=45, flat_hand_mean=False
        bent = (truth.pose - mean_pose(files[side]))[1:].ravel()
        theta = np.concatenate([truth.pose[0], np.linalg.solve(files[side]["hands_components"].T, bent), truth.place])
        shown["20200709-subject-01", number] = [(side, picture_of([], SIZE), labels_of(truth.hand, theta))]
        truths[f"20200709-subject-01/20200709_{141841 + number}/{SERIAL}/000000#0"] = truth
    write_dexycb(tmp_path / "data", shown, {truth.hand.side: truth.betas for truth in truths.values()})
    source = f"dexycb:{tmp_path / 'data'}"
    records = prepare(monkeypatch, source, tmp_path / "out", "--splits", "val", "--mano", tmp_path)["val"]
    assert set(records) == set(truths)
    for name, truth in truths.items():
        check_mano(records[name], truth, tmp_path, "manopth", left_shape="keep")


LABELS = f"20200709-subject-01/20200709_141850/{SERIAL}/labels_000001.npz"


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / LABELS).unlink(), "labels_000001.npz: missing"),
        (lambda folder: (folder / LABELS).with_name("color_000000.jpg").unlink(), "color_000000.jpg: missing"),
        (lambda folder: (folder / "calibration").rename(folder / "gone"), "mano.yml: missing"),
        (lambda folder: (folder / LABELS).parents[1].rename(folder / "gone"), "subject-01: 99 sequences of 100"),
        (lambda folder: (folder / LABELS).parents[1].joinpath("meta.yml").write_text("a: [1"), "meta.yml: not YAML"),
        (lambda folder: (folder / LABELS).parents[1].joinpath("meta.yml").write_text("1"), "no mapping"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, hands, damage, text):
    write_rendered(tmp_path / "data", hands)
    damage(tmp_path / "data")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"dexycb:{tmp_path / 'data'}", tmp_path / "out", "--splits", "val")
    assert "https://dex-ycb.github.io" in str(caught.value) and "\n" not in str(caught.value)


def test_broken_labels_are_counted(tmp_path, monkeypatch, hands, capsys):
    write_rendered(tmp_path / "data", hands)
    (tmp_path / "data" / LABELS).write_bytes(b"PK\x03\x04")
    records = prepare(monkeypatch, f"dexycb:{tmp_path / 'data'}", tmp_path / "out", "--splits", "val")
    assert set(records["val"]) == {NAMES[1]} and "1 unreadable" in capsys.readouterr().out
