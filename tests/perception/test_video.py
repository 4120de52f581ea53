import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from handjax.errors import ConfigError, InputError
from handjax.perception import HandDetector, one_euro
from handjax.perception.detector import TASK_FILE
from handjax.perception.one_euro import OneEuro
from handjax.perception.regions import pad_picture
from handjax.perception.tracking import HandTracker, Tracker

FRAMES, SIZE, GREY = 20, (360, 480), (127, 127, 127)
HAND, HAND_SIZE = (295.0, 333.0), 452  # of the photograph, pixels


@pytest.fixture(scope="module")
def photo():
    return Image.open(TASK_FILE.parent / "photos" / "nocurl.jpg").convert("RGB")


@pytest.fixture(scope="module")
def tracker():
    return HandTracker.load()


def _place(photo, x, y, degrees, scale):
    """The photograph moved, so that its hand is at (x, y), with the map from there back to the photograph."""
    turn = np.radians(degrees)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / scale
    inverse = np.column_stack([matrix, HAND - matrix @ (x, y)])
    moved = photo.transform(SIZE, Image.Transform.AFFINE, inverse.ravel(), Image.Resampling.BICUBIC, fillcolor=GREY)
    return np.asarray(moved), inverse


@pytest.fixture(scope="module")
def clip(photo):
    """A hand and its mirror image that circle, turn and grow, each in its half; and the left one's maps back."""
    frames, inverses = [], []
    for time in np.linspace(0, 1, FRAMES):
        x, y = 180 + 30 * np.cos(2 * np.pi * time), 240 + 25 * np.sin(2 * np.pi * time)
        left, inverse = _place(photo, x, y, 40 * time - 20, 0.5 + 0.15 * time)
        right, _ = _place(photo, x, 480 - y, 15 - 30 * time, 0.65 - 0.15 * time)
        frames.append(np.concatenate([left, right[:, ::-1]], axis=1))
        inverses.append(inverse)
    return frames, inverses


def _steps(tracker, frames):
    step, state, results = jax.jit(Tracker.step), tracker.start(), []
    for frame in frames:
        state, tracked = step(tracker, state, pad_picture(frame))
        results.append(jax.device_get(tracked))
    return jax.tree.map(lambda *x: np.stack(x), *results)


@pytest.fixture(scope="module")
def tracked(tracker, clip):
    return _steps(tracker.tracker, clip[0])


def test_identities_stay_and_palms_are_looked_for_once(tracked):
    assert tracked.hands.valid.all()
    assert (tracked.identities == tracked.identities[0]).all() and set(tracked.identities[0].tolist()) == {0, 1}
    assert tracked.detected.tolist() == [True] + [False] * (FRAMES - 1)
    assert sorted((tracked.hands.right.mean(axis=0) >= 0.5).tolist()) == [False, True]


def test_landmarks_stay_near_those_of_detection_in_every_frame(tracked, clip):
    frames, inverses = clip
    detector, errors = HandDetector.load(), []
    first = int(np.argmin(tracked.hands.keypoints[0, :, 0, 0]))
    for frame, points, inverse in zip(frames, tracked.hands.keypoints[:, first, :, :2], inverses, strict=True):
        hand = min(detector.detect(frame), key=lambda hand: hand.box[0])
        scale = np.linalg.norm(inverse[:, 0])
        errors.append(np.linalg.norm(points - hand.keypoints[:, :2], axis=1) * scale / HAND_SIZE)
    assert np.median(errors) < 0.05 and np.max(errors) < 0.15


def test_unsmoothed_landmarks_are_those_of_mediapipes_video_mode(tracker, clip):
    mediapipe = pytest.importorskip("mediapipe")
    vision = pytest.importorskip("mediapipe.tasks.python.vision")
    base = mediapipe.tasks.BaseOptions(model_asset_path=str(TASK_FILE))
    options = vision.HandLandmarkerOptions(base_options=base, num_hands=2, running_mode=vision.RunningMode.VIDEO)
    try:
        landmarker = vision.HandLandmarker.create_from_options(options)
    except OSError as error:
        pytest.skip(str(error))
    ours, distances = _steps(tracker.tracker.replace(smoothing=None), clip[0]).hands.keypoints[..., :2], []
    with landmarker:
        for number, frame in enumerate(clip[0]):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame)
            hands = landmarker.detect_for_video(image, 33 * number).hand_landmarks
            theirs = np.array([[(point.x, point.y) for point in hand] for hand in hands]) * frame.shape[1::-1]
            distances.append(np.linalg.norm(ours[number][:, None] - theirs[None], axis=-1).max(axis=-1).min(axis=1))
    assert np.max(distances[:2]) < 1  # pixels; small differences then grow from frame to frame
    assert np.median(distances) < 4 and np.max(distances) < 15


@pytest.mark.slow
def test_a_scan_over_the_clip_gives_the_same(tracker, tracked, clip):
    pictures = jax.tree.map(lambda *x: jnp.stack(x), *map(pad_picture, clip[0][:4]))
    scan = jax.jit(lambda tracker, frames: jax.lax.scan(tracker.step, tracker.start(), frames)[1])
    scanned = scan(tracker.tracker, pictures)
    np.testing.assert_array_equal(scanned.detected, tracked.detected[:4])
    np.testing.assert_allclose(scanned.hands.keypoints, tracked.hands.keypoints[:4], atol=1.0)


@pytest.mark.slow
def test_the_filter_takes_jitter_away(tracker, photo):
    still, _ = _place(photo, 180, 240, 0, 0.6)
    random = np.random.default_rng(0)
    frames = [np.clip(still + random.normal(0, 6, still.shape), 0, 255).astype(np.uint8) for _ in range(FRAMES)]
    raw, smooth = (_steps(t, frames) for t in (tracker.tracker.replace(smoothing=None), tracker.tracker))
    jitter = [np.diff(x.hands.keypoints[:, 0], n=2, axis=0)[5:].std() for x in (raw, smooth)]
    assert jitter[1] < 0.35 * jitter[0]


def test_a_hand_that_leaves_is_dropped_and_comes_back_as_another(tracker, photo):
    places = [180, 180, 250, 330, 420, 520, 520, 420, 330, 250, 180, 180]
    hands = [hands for _, hands in tracker.track(_place(photo, x, 240, 0, 0.6)[0] for x in places)]
    assert list(hands[0]) == list(hands[1]) == [0]
    assert hands[5] == hands[6] == {}
    (back,) = hands[-1]
    assert back > 0


def test_a_frame_of_another_size_is_refused(tracker):
    frames = [np.zeros((48, 64, 3), np.uint8), np.zeros((64, 48, 3), np.uint8)]
    with pytest.raises(InputError, match="48x64 in a clip of 64x48"):
        list(tracker.track(frames))


@pytest.mark.parametrize("settings", [{"rate": 0}, {"max_hands": 0}, {"min_score": 2}])
def test_bad_tracker_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        HandTracker.load(**settings)


def _one_euro(values, rate, min_cutoff, beta, speed_cutoff):
    """The paper's algorithm for one number, in Python's own floats."""

    def alpha(cutoff):
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau * rate)

    smoothed, speed = [values[0]], 0.0
    for value in values[1:]:
        a = alpha(speed_cutoff)
        speed = a * (value - smoothed[-1]) * rate + (1 - a) * speed
        a = alpha(min_cutoff + beta * abs(speed))
        smoothed.append(a * value + (1 - a) * smoothed[-1])
    return smoothed


def test_the_one_euro_filter_is_the_papers():
    values = np.random.default_rng(1).normal(0, 0.1, (50, 2, 3)).cumsum(axis=0)
    unit = np.array([[[2.0]], [[0.5]]])[:, 0]
    state, results = one_euro.start((2, 3)), []
    for value in values:
        state = one_euro.smooth(OneEuro(0.7, 3.0, 1.3), state, jnp.asarray(value), 25.0, jnp.asarray(unit))
        results.append(state.value)
    for i, j in np.ndindex(2, 3):
        expected = _one_euro(values[:, i, j].tolist(), 25.0, 0.7, 3.0 / unit[i, 0], 1.3)
        np.testing.assert_allclose(np.array(results)[:, i, j], expected, atol=2e-6)
