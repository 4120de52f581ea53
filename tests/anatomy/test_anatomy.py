"""Angles, ratios, scores and penalty on hands whose pose is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.anatomy.features import ANGLE_NAMES, BONE_NAMES, hand_frame_is_defined, measure, projection_misfit
from handjax.anatomy.limits import ANGLE_LIMITS, DIGIT_RATIOS, LANDMARK_TOLERANCE
from handjax.anatomy.penalty import anatomy_penalty
from handjax.anatomy.scores import THRESHOLD, UNKNOWN, judge, ratio_similarity, violated_part
from handjax.hand.angles import pose_from_angles
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.topology import KEYPOINT_NAMES, MANO_JOINT_NAMES

MEASURE = jax.jit(measure)


@pytest.fixture(scope="module")
def hand():
    """Keypoints of the open hand whose joints, by name, bend by degrees of (flexion, abduction)."""
    model = load_open_hand()

    @jax.jit
    def keypoints(angles):
        betas, place = jnp.zeros(model.shapedirs.shape[-1]), jnp.zeros(3)
        return pose_hand(model, pose_from_angles(model, angles), betas, place).keypoints

    def make(**bends):
        angles = np.zeros((16, 3), np.float32)
        for name, bend in bends.items():
            angles[MANO_JOINT_NAMES.index(name), :2] = np.radians(bend)
        return np.array(keypoints(angles))

    return make


def ideal(scale=1.0):
    """Features of a hand in the middle of all limits, with the reference's proportions."""
    features = MEASURE(np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32), True)
    return features.replace(
        flexion=ANGLE_LIMITS.mean(axis=1).astype(np.float32), digit_ratios=(scale * DIGIT_RATIOS).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("joint", "bend"),
    [
        ("index_mcp", 70),
        ("index_pip", -40),
        ("middle_pip", 90),
        ("little_dip", 60),
        ("ring_mcp", -25),
        ("thumb_ip", 50),
    ],
)
@pytest.mark.parametrize("turn", [0.0, 2.0])
def test_a_joint_that_bends_changes_its_own_angle(hand, joint, bend, turn):
    straight, bent = hand(wrist=(turn, turn)), hand(**{"wrist": (turn, turn), joint: (bend, 0)})
    change = np.degrees(MEASURE(bent, True).flexion - MEASURE(straight, True).flexion)
    wanted = np.where([name == joint.replace("_", " ") for name in ANGLE_NAMES], bend, 0)
    np.testing.assert_allclose(change, wanted, atol=2.5)  # bones do not lie exactly along the joints' axes


def test_abduction_is_told_from_flexion(hand):
    spread, straight = MEASURE(hand(index_mcp=(0, 15)), True), MEASURE(hand(), True)
    joint = ANGLE_NAMES.index("index mcp")
    assert np.degrees(spread.abduction - straight.abduction)[joint] == pytest.approx(15, abs=1.5)
    assert np.abs(np.degrees(spread.flexion - straight.flexion)).max() < 2


def test_a_left_hand_is_a_mirrored_right_one(hand):
    right = hand(index_pip=(50, 0), thumb_mcp=(30, 0))
    ours, mirrored = MEASURE(right, True), MEASURE(right * np.array([-1, 1, 1], np.float32), False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, mirrored)
    wrong = MEASURE(right, False).flexion[ANGLE_NAMES.index("index pip")]
    assert np.degrees(wrong) < -45  # taken for the other hand, it bends backwards


def test_ratios_are_lengths_over_the_palm(hand):
    points = hand().astype(np.float64)
    palm = np.linalg.norm(points[9] - points[0])
    lengths = {(a, b): np.linalg.norm(points[a] - points[b]) / palm for a in range(21) for b in range(21)}
    features = MEASURE(points.astype(np.float32), True)
    index = sum(lengths[k, k + 1] for k in (5, 6, 7))
    assert features.digit_ratios[1] == pytest.approx(index, rel=1e-4)
    assert features.bone_ratios[BONE_NAMES.index("little bone 1")] == pytest.approx(lengths[0, 17], rel=1e-4)
    assert KEYPOINT_NAMES[9] == "middle_mcp"


def test_the_printed_score(hand):
    """0.3·1[n=5] + 0.4·1[angles] + 0.3·sim, so six fingers pass with 0.7 as printed and not in strict."""
    whole = judge(ideal(), fingers=5)
    assert (whole.s_anat, whole.verdict, whole.violations) == (pytest.approx(1.0), "plausible", ())
    six = judge(ideal(), fingers=6)
    assert six.s_anat == pytest.approx(0.7) and six.s_anat > THRESHOLD
    assert (six.verdict, six.violations) == ("implausible", ("6 fingers",))
    assert (six.paper_verdict, UNKNOWN.paper_verdict) == ("plausible", "unknown")
    unknown = judge(ideal(1.1))
    similarity = np.exp(-np.log(1.1) / 0.25)
    assert unknown.similarity == pytest.approx(similarity, rel=1e-5)
    assert unknown.s_anat == pytest.approx((0.4 + 0.3 * similarity) / 0.7, rel=1e-5)
    assert unknown.fingers is None and unknown.verdict == "plausible"


FINGER = {"mcp": (-45, 90), "pip": (0, 110), "dip": (0, 90)}
NORMS = {("thumb", "cmc"): (-10, 43), ("thumb", "mcp"): (-10, 55), ("thumb", "ip"): (-20, 80)} | {
    (finger, joint): limits for finger in ("index", "middle", "ring", "little") for joint, limits in FINGER.items()
}
"""Degrees, as the sources that limits.py names have them."""


@pytest.mark.parametrize("tolerance", [0, 25])
def test_every_joint_has_its_limits(tolerance):
    assert [" ".join(joint) for joint in NORMS] == list(ANGLE_NAMES)
    features = ideal()
    for number, (joint, limits) in enumerate(NORMS.items()):
        for limit, outwards in zip(limits, (-1, 1), strict=True):
            for beyond in (-1, 1):
                flexion = features.flexion.copy()
                flexion[number] = np.radians(limit + outwards * (tolerance + beyond))
                found = judge(features.replace(flexion=flexion), 5, np.radians(tolerance)).violations
                bent = f"{limit + outwards * (tolerance + beyond)}°, limit {limits[0]}…{limits[1]}°".replace("-", "−")
                assert found == ((f"{' '.join(joint)} bent {bent}",) if beyond > 0 else ())


def test_violations_are_named_in_words_the_worst_first():
    features = ideal()
    flexion = features.flexion.copy()
    flexion[ANGLE_NAMES.index("index pip")] = np.radians(-31)
    flexion[ANGLE_NAMES.index("little dip")] = np.radians(140)
    score = judge(features.replace(flexion=flexion), fingers=5)
    assert score.violations == ("little dip bent 140°, limit 0…90°", "index pip bent −31°, limit 0…110°")
    assert score.s_anat == pytest.approx(0.6) and score.verdict == "implausible"
    assert [violated_part(violation) for violation in score.violations] == ["little dip", "index pip"]
    both = judge(features.replace(flexion=flexion), fingers=6)
    assert both.s_anat == pytest.approx(0.3) and both.paper_verdict == "implausible"
    assert violated_part(both.violations[0]) == "finger count"
    assert judge(features.replace(flexion=flexion), 5, tolerance=np.radians(61)).violations == ()


def test_proportions():
    ratios = DIGIT_RATIOS.copy()
    ratios[2] *= 4
    score = judge(ideal().replace(digit_ratios=ratios.astype(np.float32)), fingers=5)
    assert score.similarity == pytest.approx(np.exp(-np.log(4) / 5 / 0.25), rel=1e-5) and score.similarity < THRESHOLD
    assert score.violations == ("middle 3.78 palms long, usually 0.94",)
    assert violated_part(score.violations[0]) == "middle length"
    assert ratio_similarity(DIGIT_RATIOS) == 1.0
    for times, passes in ((2.3, True), (2.45, False), (1 / 2.3, True), (1 / 2.45, False)):  # exp(5·0.25·ln 2) = 2.378
        one = DIGIT_RATIOS * np.where(np.arange(5) == 1, times, 1)
        assert (judge(ideal().replace(digit_ratios=one.astype(np.float32)), 5).violations == ()) == passes


def test_what_is_not_finite_is_unknown():
    features = ideal()
    assert judge(features.replace(flexion=features.flexion * np.nan)) == UNKNOWN
    points = np.random.default_rng(1).normal(size=(21, 3))
    assert hand_frame_is_defined(points) and not hand_frame_is_defined(points * np.nan)
    assert not hand_frame_is_defined(np.linspace(0, 1, 21)[:, None] * np.ones(3))


def test_keypoints_in_space_are_compared_with_those_in_the_picture(hand):
    world = hand(index_mcp=(60, 0)).astype(np.float64)
    pixels = 900 * world[:, :2] + (40, 70)
    assert projection_misfit(world, pixels) < 1e-6
    pixels[8] += 0.3 * np.ptp(pixels, axis=0).max()
    # scale and place by general least squares, unknowns (scale, x, y)
    places = np.concatenate([np.column_stack([world[:, axis], *np.eye(2)[[axis] * 21].T]) for axis in range(2)])
    residual = np.linalg.lstsq(places, pixels.T.ravel(), rcond=None)[1][0]
    wanted = np.sqrt(residual / 21) / np.ptp(pixels, axis=0).max()
    assert 0.05 < wanted < 0.3 * np.sqrt(2 / 21)  # less than by the scale and place of before
    assert projection_misfit(world, pixels) == pytest.approx(wanted, rel=1e-6)
    assert projection_misfit(world, pixels[::-1]) > 0.2


def test_the_penalty_grows_with_the_violation_and_has_its_gradient():
    def of(degrees):
        features = ideal()
        flexion = jnp.asarray(features.flexion).at[4].set(jnp.radians(degrees))
        return anatomy_penalty(features.replace(flexion=flexion))

    inside, at, beyond, far = (float(of(degrees)) for degrees in (55.0, 110.0, 140.0, 200.0))
    assert inside < 1e-3 < at < beyond < far
    assert far - beyond == pytest.approx(np.radians(60) / 15, rel=1e-3)  # linear far outside
    step = 0.5
    slope = float(of(140.0 + step) - of(140.0 - step)) / (2 * step)
    assert float(jax.grad(of)(140.0)) == pytest.approx(slope, rel=1e-2)


def test_penalty_of_keypoints_is_differentiable_also_at_straight_joints(hand):
    def penalty(points):
        return anatomy_penalty(measure(points, jnp.array(True)))

    straight = hand()
    straight[6] = (straight[5] + straight[7]) / 2
    for points in (straight, hand(index_pip=(-60, 0))):
        assert np.isfinite(jax.jit(jax.grad(penalty))(points)).all()
    points = hand(index_pip=(-60, 0))
    moved = points - 1e-4 * jax.grad(penalty)(points)
    assert penalty(moved) < penalty(points)
    assert np.degrees(LANDMARK_TOLERANCE) == pytest.approx(25)
