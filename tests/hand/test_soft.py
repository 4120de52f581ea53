import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from handjax.hand.camera import PinholeCamera, default_camera, project
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rasterize import rasterize
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.hand.soft import soft_depth, soft_silhouette

SIZE = 96
MODEL = load_open_hand()


@pytest.fixture(scope="module")
def hand():
    """Vertices of a hand with bent fingers that fills half the picture."""
    pose = jnp.zeros((16, 3)).at[1:, 0].set(0.2)
    return pose_hand(MODEL, pose, jnp.zeros(10), jnp.array([0.0, 0.08, 0.6])).vertices


def two_triangles():
    """A triangle before another that it partly hides, tilted both."""
    vertices = [
        [-0.2, -0.2, 0.9],
        [0.2, -0.15, 1.1],
        [0.0, 0.2, 1.0],
        [-0.1, -0.2, 1.3],
        [0.35, 0.0, 1.2],
        [0, 0.3, 1.4],
    ]
    return jnp.array(vertices), jnp.array([[0, 1, 2], [3, 4, 5]])


def written_out(vertices, faces, camera, size, sigma, gamma):
    """SoftRas Eq. 1, 3 and 4 face by face in NumPy: silhouette, and mean depth without background."""
    vertices = np.asarray(vertices, float)
    y, x = np.mgrid[:size, :size] + 0.5
    points = np.stack([x, y], -1)
    uncovered, weights, depths = np.ones((size, size)), [], []
    for corner in vertices[np.asarray(faces)]:
        screen = corner[:, :2] / corner[:, 2:] * np.asarray(camera.focal) + np.asarray(camera.center)
        affine = np.linalg.inv(np.vstack([screen.T, np.ones(3)]))
        inner = np.concatenate([points, np.ones((size, size, 1))], -1) @ affine.T
        inside = inner.min(-1) > 0
        nearest, best = np.full((size, size), np.inf), inner
        for i in range(3):
            k = (i + 1) % 3
            edge = screen[k] - screen[i]
            share = np.clip((points - screen[i]) @ edge / (edge @ edge), 0, 1)
            distance = np.linalg.norm(points - screen[i] - share[..., None] * edge, axis=-1)
            on_edge = np.zeros((size, size, 3))
            on_edge[..., i], on_edge[..., k] = 1 - share, share
            best = np.where((~inside & (distance < nearest))[..., None], on_edge, best)
            nearest = np.minimum(nearest, distance)
        covered = 1 / (1 + np.exp(-np.where(inside, 1, -1) * nearest**2 / sigma**2))
        uncovered *= 1 - covered
        depths.append(1 / (best @ (1 / corner[:, 2])))
        weights.append(covered * np.exp(-depths[-1] / gamma))
    return 1 - uncovered, sum(w * d for w, d in zip(weights, depths, strict=True)) / sum(weights)


def test_silhouette_and_depth_equal_the_equations_written_out():
    vertices, faces = two_triangles()
    camera = default_camera(40, 40)
    silhouette, depth = written_out(vertices, faces, camera, 40, sigma=1.5, gamma=0.05)
    np.testing.assert_allclose(soft_silhouette(vertices, faces, camera, 40, 40, 1.5), silhouette, atol=1e-5)
    ours = soft_depth(vertices, faces, camera, 40, 40, 1.5, 0.05)
    near = silhouette > 1e-4
    assert 0.3 < near.mean() < 0.9
    np.testing.assert_allclose(np.asarray(ours)[near], depth[near], atol=2e-3)
    inside = silhouette > 0.5
    np.testing.assert_allclose(np.asarray(ours)[inside], depth[inside], atol=1e-5)


def test_silhouette_and_depth_tend_to_the_hard_ones(hand):
    camera = default_camera(SIZE, SIZE)
    hard = rasterize(hand, MODEL.faces, camera, SIZE, SIZE)
    covered = np.asarray(hard.mask) > 0
    mask_errors, depth_errors = [], []
    for sigma in (1.0, 0.3, 0.1, 0.03, 0.01):
        silhouette = soft_silhouette(hand, MODEL.faces, camera, SIZE, SIZE, sigma)
        depth = soft_depth(hand, MODEL.faces, camera, SIZE, SIZE, sigma, 2e-4)
        mask_errors.append(float(jnp.abs(silhouette - hard.mask).mean()))
        depth_errors.append(1000 * float(np.abs(depth - hard.depth)[covered].mean()))
    print("mean differences of the mask", mask_errors, "and of depth, mm", depth_errors)
    assert mask_errors == sorted(mask_errors, reverse=True)
    assert depth_errors == sorted(depth_errors, reverse=True)
    assert mask_errors[-1] < 1e-3
    assert depth_errors[-1] < 0.05


@pytest.mark.parametrize("soft", [soft_silhouette, soft_depth])
def test_gradients_agree_with_differences(soft, hand):
    """In float64, in a random direction of all vertices and of focal length and centre."""
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        weights = jnp.asarray(generator.normal(size=(SIZE, SIZE)))
        vertices, focal, center = jnp.asarray(hand, jnp.float64), jnp.full(2, 192.0), jnp.full(2, 48.0)
        toward = [
            jnp.asarray(generator.normal(size=a.shape)) * s for a, s in ((vertices, 1e-3), (focal, 1), (center, 1))
        ]

        def value(vertices, focal, center):
            picture = soft(vertices, MODEL.faces, PinholeCamera(focal, center), SIZE, SIZE, 1.0)
            return (picture * weights).sum()

        gradients = jax.grad(value, argnums=(0, 1, 2))(vertices, focal, center)
        for k, gradient in enumerate(gradients):
            step = [1e-6 * t if i == k else 0.0 for i, t in enumerate(toward)]
            ahead, behind = (
                value(*(a + sign * s for a, s in zip((vertices, focal, center), step, strict=True))) for sign in (1, -1)
            )
            difference = float(ahead - behind) / 2e-6
            assert abs(difference) > 1e-3
            np.testing.assert_allclose(float((gradient * toward[k]).sum()), difference, rtol=1e-3)


def test_faces_out_of_sight_give_nothing_and_no_nan():
    vertices, faces = two_triangles()
    camera = default_camera(32, 32)
    for away in (vertices * jnp.array([1, 1, -1]), vertices + jnp.array([9.0, 0, 0]), vertices.at[:, 2].set(0.0)):
        for soft in (soft_silhouette, soft_depth):
            value, gradient = jax.value_and_grad(lambda v, f=soft: f(v, faces, camera, 32, 32).sum())(away)
            assert float(value) == 0.0
            assert float(jnp.abs(gradient).max()) == 0.0


def test_a_batch_equals_its_members(hand):
    camera = default_camera(48, 48)
    batch = jnp.stack([hand, hand + jnp.array([0.05, 0.0, 0.2])])

    def value(vertices):
        return soft_silhouette(vertices, MODEL.faces, camera, 48, 48).mean()

    together = jax.vmap(jax.grad(value))(batch)
    for one, gradient in zip(batch, together, strict=True):
        np.testing.assert_allclose(gradient, jax.grad(value)(one), atol=1e-5)


def iou(a, b):
    return (a * b).sum() / (a + b - a * b).sum()


@pytest.mark.slow
def test_descent_on_the_silhouette_brings_a_moved_and_turned_hand_back(hand):
    """8 px aside and 10 degrees about the line of sight, from the hard mask alone."""
    camera = default_camera(SIZE, SIZE)
    middle = hand.mean(0)
    target = rasterize(hand, MODEL.faces, camera, SIZE, SIZE).mask

    def place(unknowns):
        turn = axis_angle_to_matrix(jnp.zeros(3).at[2].set(unknowns[0]))
        moved = jnp.concatenate([unknowns[1:] * middle[2] / camera.focal * 10.0, jnp.zeros(1)])
        return (hand - middle) @ turn.T + middle + moved

    def loss(unknowns, sigma):
        return 1.0 - iou(soft_silhouette(place(unknowns), MODEL.faces, camera, SIZE, SIZE, sigma), target)

    def hard_iou(unknowns):
        return float(iou(rasterize(place(unknowns), MODEL.faces, camera, SIZE, SIZE).mask, target))

    unknowns = jnp.array([jnp.radians(10.0), 0.8 * 0.8, 0.8 * 0.6])  # tens of pixels
    before = hard_iou(unknowns)
    optimizer = optax.adam(0.03)
    slope = jax.jit(jax.grad(loss))
    state = optimizer.init(unknowns)
    for sigma in np.geomspace(3.0, 0.3, 60):
        updates, state = optimizer.update(slope(unknowns, sigma), state)
        unknowns = optax.apply_updates(unknowns, updates)
    after, degrees = hard_iou(unknowns), abs(float(jnp.degrees(unknowns[0])))
    pixels = float(jnp.linalg.norm(project(camera, place(unknowns).mean(0)) - project(camera, middle)))
    print(f"IoU {before:.3f} to {after:.3f}; left over {pixels:.2f} px, {degrees:.2f} degrees")
    assert before < 0.6
    assert after > 0.95
    assert pixels < 0.5
    assert degrees < 1.0
