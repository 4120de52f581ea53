import colorsys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from handjax.hand.draw import draw_skeleton
from handjax.hand.topology import KEYPOINT_BONES


def open_palm(size: float) -> np.ndarray:
    """A flat hand: wrist at the bottom, five rays of four joints."""
    wrist = np.array([[0.5, 0.9]])
    lengths = np.arange(1, 5)[:, None] / 4 * 0.65
    rays = [wrist + lengths * np.array([np.sin(a), -np.cos(a)]) for a in (-0.7, -0.35, 0, 0.3, 0.6)]
    return (np.concatenate([wrist, *rays]) * size).astype(np.float32)


def test_agrees_with_pillow_at_512():
    keypoints = open_palm(512)
    picture = Image.new("RGB", (512, 512))
    pen = ImageDraw.Draw(picture)
    for i, (a, b) in enumerate(np.asarray(KEYPOINT_BONES)):
        color = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(i / 20, 1, 1))
        pen.line([*keypoints[a], *keypoints[b]], fill=color, width=2)
    for x, y in keypoints:
        pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=(0, 0, 255))
    ours = np.asarray(draw_skeleton(jnp.asarray(keypoints), 512, 512)) * 255
    assert np.abs(ours - np.asarray(picture)).mean() < 0.6
    both = np.logical_and(ours.max(-1) > 127, np.asarray(picture).max(-1) > 127).sum()
    assert both / (ours.max(-1) > 127).sum() > 0.8


def test_bone_and_joint_colours():
    keypoints = open_palm(512)
    ours = np.asarray(draw_skeleton(jnp.asarray(keypoints), 512, 512))
    for i, (a, b) in enumerate(np.asarray(KEYPOINT_BONES)):
        x, y = ((keypoints[a] + keypoints[b]) / 2).astype(int)
        if i not in (0, 4, 8, 12, 16):  # the bones at the wrist may cross one another
            np.testing.assert_allclose(ours[y, x], colorsys.hsv_to_rgb(i / 20, 1, 1), atol=0.02)
    for x, y in keypoints.astype(int):
        np.testing.assert_allclose(ours[y, x], [0, 0, 1], atol=1e-6)


def test_still_readable_at_96():
    ours = np.asarray(draw_skeleton(jnp.asarray(open_palm(96)), 96, 96))
    for x, y in open_palm(96).astype(int):
        assert ours[y, x, 2] > 0.9
    # every hue is still there: each bone has a pixel near its own full colour
    for i in range(20):
        color = np.array(colorsys.hsv_to_rgb(i / 20, 1, 1))
        assert np.abs(ours - color).max(-1).min() < 0.35


def test_unseen_points_and_their_bones_are_left_out():
    keypoints = jnp.asarray(open_palm(128)).at[8].set(jnp.nan)
    confidence = jnp.ones(21).at[8].set(0.0)
    without = draw_skeleton(keypoints, 128, 128, confidence)
    full = draw_skeleton(jnp.asarray(open_palm(128)), 128, 128)
    x, y = open_palm(128)[8].astype(int)
    assert float(jnp.abs(without[y - 2 : y + 3, x - 2 : x + 3]).max()) == 0.0
    assert 0 < float(without.sum()) < float(full.sum())
    assert float(draw_skeleton(keypoints, 128, 128, jnp.zeros(21)).sum()) == 0.0


def test_batches_and_rectangles():
    keypoints = jnp.stack([jnp.asarray(open_palm(64)), jnp.asarray(open_palm(48))])
    batch = jax.vmap(lambda k: draw_skeleton(k, 48, 64))(keypoints)
    assert batch.shape == (2, 48, 64, 3)
    np.testing.assert_allclose(batch[1], draw_skeleton(keypoints[1], 48, 64), atol=1e-6)
