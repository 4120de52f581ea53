import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines.rendered import rendered_records
from handjax.hand.model import load_open_hand, pose_hand

SIZE = 64


@pytest.fixture(scope="module")
def records():
    return list(rendered_records(range(6), seed=3, size=SIZE))


def picture(encoded, mode="L"):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert(mode))


def test_the_same_seed_gives_the_same_bytes_in_any_company(records):
    again = next(rendered_records([4], seed=3, size=SIZE))
    assert again.id == records[4].id and again.image == records[4].image and again.depth == records[4].depth
    assert len({record.image for record in records}) == len(records)


def test_the_model_posed_as_the_record_says_projects_onto_its_keypoints(records):
    for record in records:
        model = load_open_hand(record.side)
        posed = pose_hand(model, record.pose, record.betas, record.translation).keypoints
        np.testing.assert_allclose(posed, record.keypoints_3d[:, :3], atol=1e-5)
        pixels = record.camera[:2] * posed[:, :2] / posed[:, 2:] + record.camera[2:]
        np.testing.assert_allclose(pixels, record.keypoints_2d[:, :2], atol=1e-2)
    assert {record.side for record in records} == {"left", "right"}


def test_the_tight_box_is_half_the_picture_and_in_its_middle(records):
    for record in records:
        low, high = record.keypoints_2d[:, :2].min(0), record.keypoints_2d[:, :2].max(0)
        assert (high - low).max() == pytest.approx(SIZE / 2, abs=0.01)
        np.testing.assert_allclose((low + high) / 2, SIZE / 2, atol=0.01)


def test_keypoints_lie_on_the_mask_and_depth_covers_the_same_pixels(records):
    for record in records:
        mask = picture(record.mask) > 0
        x, y = record.keypoints_2d[:, :2].astype(int).T
        # a tip at the very edge may fall beside the pixel centres that the mesh covers
        assert mask[y, x].mean() > 0.75
        depth = picture(record.depth)
        np.testing.assert_array_equal(depth > 0, mask)
        assert depth.max() == 255 and depth[mask].min() == 51


def test_a_hand_differs_from_its_background(records):
    contrast = []
    for record in records:
        image, mask = picture(record.image, "RGB").astype(float), picture(record.mask) > 0
        contrast.append(np.abs(image[mask].mean(0) - image[~mask].mean(0)).max())
    assert np.median(contrast) > 15


def test_captions_say_side_and_origin(records):
    for record in records:
        assert record.caption.startswith("a rendered photo of a") and f"{record.side} hand" in record.caption
