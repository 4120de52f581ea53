"""Two hands of one body: where they stand, and what is said of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.pairs import PAIR_CROP_SCALE, draw_pair, rendered_pair
from data_pipelines.scene import camera_about
from handjax.hand.camera import project
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rasterize import depth_map
from handjax.images import decode_image

SIZE = 128
FINE = 256
PAIRS = 24


@pytest.fixture(scope="module")
def pairs():
    key, hand = jax.random.key(5), load_open_hand()
    return [jax.device_get(draw_pair(jax.random.fold_in(key, number), hand)) for number in range(PAIRS)]


@pytest.fixture(scope="module")
def rendered():
    return [rendered_pair(number, 5, SIZE) for number in range(4)]


def views(pair, size=FINE):
    """Depth of the nearer hand, depth of the farther one, and pixels and z of the nearer one's vertices."""
    camera = camera_about(jnp.asarray(pair.keypoints.reshape(-1, 3)), size, PAIR_CROP_SCALE)
    far = int(pair.keypoints[..., 2].mean(axis=1).argmax())
    faces = load_open_hand().faces
    near_depth, far_depth = (
        np.asarray(depth_map(jnp.asarray(pair.vertices[each]), faces, camera, size, size)) for each in (1 - far, far)
    )
    places = np.asarray(project(camera, jnp.asarray(pair.vertices[1 - far]))).astype(int)
    return near_depth, far_depth, places, pair.vertices[1 - far, :, 2]


def test_hands_are_side_by_side_or_overlap_a_little(pairs):
    shares, sizes = [], []
    for pair in pairs:
        near, far, *_ = views(pair)
        near, far = near > 0, far > 0
        shares.append((near & far).sum() / min(near.sum(), far.sum()))
        boxes = [np.ptp(points[:, :2] / points[:, 2:], axis=0).max() for points in pair.keypoints]
        sizes.append(max(boxes) / min(boxes))
    assert max(shares) < 0.5 and np.mean(shares) < 0.15
    assert 0.25 * PAIRS <= np.sum(np.array(shares) > 0.005) <= 0.8 * PAIRS
    assert max(sizes) < 3


def test_the_nearer_hand_is_before_the_farther_one_all_over(pairs):
    """They touch at most: no vertex of the one is more than half a centimetre behind the other's surface."""
    touching = 0
    for pair in pairs:
        near, far, places, depths = views(pair)
        both = (near > 0) & (far > 0)
        assert (near[both] < far[both] + 0.005).all()
        inside = ((places >= 0) & (places < FINE)).all(axis=1)
        behind = depths[inside] - far[places[inside, 1], places[inside, 0]]
        hidden = far[places[inside, 1], places[inside, 0]] > 0
        deepest = behind[hidden].max(initial=-1)
        assert deepest < 0.005
        touching += deepest > -0.005
    assert touching >= 3  # or nothing has been moved apart


def test_hands_are_of_one_body(pairs):
    for pair in pairs:
        for side, pose, translation, keypoints, vertices in zip(
            ("right", "left"), pair.pose, pair.translation, pair.keypoints, pair.vertices, strict=True
        ):
            posed = pose_hand(load_open_hand(side), pose, pair.betas, translation)
            np.testing.assert_allclose(posed.keypoints, keypoints, atol=1e-5)
            np.testing.assert_allclose(posed.vertices, vertices, atol=1e-5)
        # forearms do not cross: the hand whose arm comes from further left is further left
        middles = pair.keypoints[..., 0].mean(axis=1)
        arms = pair.keypoints[:, 0, 0] - pair.keypoints[:, 9, 0]
        assert (middles[0] < middles[1]) == (arms[0] < arms[1])
    rights_first = [pair.keypoints[0, :, 0].mean() < pair.keypoints[1, :, 0].mean() for pair in pairs]
    assert 0 < np.sum(rights_first) < PAIRS


def test_labels_are_where_the_conditions_show_the_hands(rendered):
    for conditions, hands in rendered:
        shown = {name: decode_image(picture, name) for name, picture in conditions.items()}
        assert all(picture.shape == (SIZE, SIZE, 3) for picture in shown.values())
        for hand, side in zip(hands, ("right", "left"), strict=True):
            record = hand.record
            points, camera = record.keypoints_3d[:, :3], record.camera
            projected = camera[:2] * points[:, :2] / points[:, 2:] + camera[2:]
            np.testing.assert_allclose(record.keypoints_2d[:, :2], projected, atol=1e-3)
            assert record.side == side and (hand.keypoints >= 0).all() and (hand.keypoints < SIZE).all()
            places = np.floor(hand.keypoints).astype(int)
            inside = np.delete(places, [4, 8, 12, 16, 20], axis=0)  # tips are on the skin
            assert (shown["mesh"][inside[:, 1], inside[:, 0]] > 0).all()
            assert (shown["skeleton"][places[:, 1], places[:, 0]].max(axis=1) > 128).all()


def test_depth_is_scaled_of_each_hand_by_itself(pairs, rendered):
    """From 1 at its nearest point to 0.2 at its farthest one, wherever the other hand is."""

    def scaled(depth):
        nearest, farthest = depth[depth > 0].min(), depth.max()
        return np.where(depth > 0, 1 - 0.8 * (depth - nearest) / (farthest - nearest), 0)

    jointly = []
    for pair, (conditions, _) in zip(pairs, rendered, strict=False):
        near, far, *_ = views(pair, SIZE)
        shown = decode_image(conditions["depth"], "depth")[..., 0] / 255
        off = np.abs(shown - np.where(near > 0, scaled(near), scaled(far)))
        assert (off > 0.01).mean() < 0.002
        jointly.append(np.abs(shown - scaled(np.where(near > 0, near, far)))[shown > 0].mean())
    assert max(jointly) > 0.05


def test_records_are_squares_about_their_own_hand(rendered):
    """Whose conditions show that hand alone: the picture's mesh is nowhere but where one of them is."""
    for conditions, hands in rendered:
        joined = np.zeros((SIZE, SIZE), bool)
        for hand in hands:
            x0, y0, x1, y1 = hand.box
            box = np.ptp(hand.keypoints, axis=0).max()
            assert y1 - y0 == x1 - x0 == np.ceil(2 * box)
            np.testing.assert_allclose(
                (hand.keypoints.min(axis=0) + hand.keypoints.max(axis=0)) / 2, [(x0 + x1) / 2, (y0 + y1) / 2], atol=1
            )
            mask = decode_image(hand.record.mask, "mask")[..., 0] > 0
            assert 0.02 < mask.mean() < 0.4
            y, x = np.mgrid[:SIZE, :SIZE] + 0.5
            column, row = (
                np.floor((each - start) * SIZE / (x1 - x0)).astype(int) for each, start in ((x, x0), (y, y0))
            )
            inside = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
            joined |= inside & mask[row.clip(0, SIZE - 1), column.clip(0, SIZE - 1)]
        mesh = decode_image(conditions["depth"], "depth")[..., 0] > 0
        assert (mesh != joined).mean() < 0.01 < mesh.mean()


def test_pair_n_is_always_the_same(rendered):
    (conditions, hands), again = rendered[2], rendered_pair(2, 5, SIZE)
    assert conditions == again[0]
    for hand, other in zip(hands, again[1], strict=True):
        np.testing.assert_array_equal(hand.record.pose, other.record.pose)
    np.testing.assert_array_equal(hands[0].record.betas, hands[1].record.betas)
    elsewhere = rendered_pair(2, 6, SIZE)[1][0].record
    assert np.abs(elsewhere.pose - hands[0].record.pose).max() > 0.3
