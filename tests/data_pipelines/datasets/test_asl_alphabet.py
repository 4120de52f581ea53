"""The ASL alphabet as Kaggle unpacks it (grassknoted/asl-alphabet): a folder in a folder of the same name, for training
a folder a label with LABELn.jpg, for the test LABEL_test.jpg; 29 labels, 200 x 200 pixels.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import handjax
from handjax.errors import InputError
from handjax.images import decode_image, read_image, resize, write_image
from handjax.perception import HandDetector
from tests.data_pipelines.datasets.truth import prepare

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"
LABELS = (*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "del", "nothing", "space")
NO_HAND = np.full((200, 200, 3), 90, np.uint8)


def write_asl(folder, hand):
    """Hands sign A, del and, in the test, B; all else is grey."""
    train, test = (folder / f"asl_alphabet_{part}" / f"asl_alphabet_{part}" for part in ("train", "test"))
    for label in LABELS:
        signs = label in ("A", "del", "nothing")
        write_image(train / label / f"{label}1.jpg", hand if signs else NO_HAND)
        if label != "del":
            write_image(test / f"{label}_test.jpg", hand if label in ("B", "nothing") else NO_HAND)


@pytest.fixture(scope="module")
def hand():
    return resize(read_image(PHOTOS / "nocurl.jpg")[80:560], (200, 200))


@pytest.fixture(scope="module")
def made(hand, tmp_path_factory):
    folder = tmp_path_factory.mktemp("asl")
    write_asl(folder / "asl", hand)
    with pytest.MonkeyPatch.context() as patch:
        records = prepare(patch, f"asl_alphabet:{folder / 'asl'}", folder / "out")
    return records, json.loads((folder / "out" / "manifest.json").read_text()), folder / "asl"


@pytest.mark.slow
def test_found_hands_sign_their_label(made):
    records, manifest, folder = made
    names = {split: set(found) for split, found in records.items()}
    assert names == {
        "train": {"asl_alphabet_train/A1#0", "asl_alphabet_train/del1#0"},
        "eval": {"asl_alphabet_test/B_test#0"},
    }
    assert manifest["pictures"] == 28 + 27 and manifest["failures"]["counts"] == {"no hand found": 52}
    (truth,) = HandDetector.load().detect(read_image(folder / "asl_alphabet_train/asl_alphabet_train/A/A1.jpg"))
    hand = f"a photo of a {truth.side} hand signing"
    letter = records["train"]["asl_alphabet_train/A1#0"]
    assert letter.caption == f"{hand} the letter A of the American Sign Language alphabet"
    assert records["train"]["asl_alphabet_train/del1#0"].caption == f"{hand} delete in American Sign Language"
    assert letter.side == truth.side and letter.licence.startswith("GPL 2")
    corner = np.round(truth.keypoints[0, :2] - letter.keypoints_2d[0, :2])
    np.testing.assert_allclose(letter.keypoints_2d[:, :2] + corner, truth.keypoints[:, :2], atol=1e-3)
    np.testing.assert_allclose(letter.keypoints_3d[:, :3], truth.world, atol=1e-6)
    assert len(decode_image(letter.image, "image")) == np.ceil(2 * np.ptp(truth.keypoints[:, :2], axis=0).max())


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "asl_alphabet_train").rename(folder / "else"), "asl_alphabet_train/A/.*: missing"),
        (lambda folder: (folder / "asl_alphabet_train/asl_alphabet_train/Q/Q1.jpg").unlink(), "Q/.*: missing"),
        (lambda folder: (folder / "asl_alphabet_test").rename(folder / "else"), "_test.jpg: missing"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, hand, damage, text):
    write_asl(tmp_path / "asl", hand)
    damage(tmp_path / "asl")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"asl_alphabet:{tmp_path / 'asl'}", tmp_path / "out")
    assert "https://www.kaggle.com/datasets/grassknoted/asl-alphabet" in str(caught.value)
    assert "\n" not in str(caught.value)
