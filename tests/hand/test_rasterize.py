import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.hand.camera import PinholeCamera, default_camera, project
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rasterize import (
    Raster,
    depth_map,
    join_meshes,
    mesh_index,
    project_faces,
    rasterize,
    vertex_normals,
)
from handjax.hand.z_buffer import nearest_by_chunks, nearest_by_rows, set_up

trimesh = pytest.importorskip("trimesh")


def torus() -> tuple[np.ndarray, np.ndarray]:
    """A tilted torus of hand size: it hides parts of itself and has a hole."""
    mesh = trimesh.creation.torus(0.06, 0.02, major_sections=64, minor_sections=24)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(1.0, [1, 0.3, 0.1]))
    return (mesh.vertices + [0.01, -0.02, 0.5]).astype(np.float32), np.asarray(mesh.faces, np.int32)


def ray_cast(vertices, faces, camera: PinholeCamera, size: int) -> np.ndarray:
    """Depth by trimesh's ray casting, only inside the projected box of the mesh."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    pixels = np.asarray(project(camera, jnp.asarray(vertices)))
    low = np.clip(np.floor(pixels.min(0)) - 1, 0, size - 1).astype(int)
    high = np.clip(np.ceil(pixels.max(0)) + 1, 0, size - 1).astype(int)
    x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
    x, y = x.ravel(), y.ravel()
    centers = np.stack([x, y], -1) + 0.5
    rays = np.concatenate([(centers - camera.center) / camera.focal, np.ones((len(x), 1))], 1)
    # rays with z = 1 a unit: the depth is the z of the hit
    points, index, _ = mesh.ray.intersects_location(np.zeros_like(rays), rays, multiple_hits=True)
    depth = np.full((size, size), np.inf)
    np.minimum.at(depth, (y[index], x[index]), points[:, 2])
    return np.where(np.isfinite(depth), depth, 0.0)


def compare(raster: Raster, depth: np.ndarray) -> tuple[float, float]:
    """Mask IoU and the largest depth difference in mm on the pixels that both cover."""
    ours, theirs = np.asarray(raster.mask) > 0, depth > 0
    both = ours & theirs
    return both.sum() / (ours | theirs).sum(), 1000 * np.abs(np.asarray(raster.depth) - depth)[both].max()


def check_against_trimesh(vertices, faces, size: int) -> tuple[float, float]:
    camera = default_camera(size, size)
    ours = np.inf
    for _ in range(4):  # the first one compiles
        start = time.perf_counter()
        raster = rasterize(jnp.asarray(vertices), jnp.asarray(faces), camera, size, size)
        jax.block_until_ready(raster)
        ours = min(ours, time.perf_counter() - start)
    start = time.perf_counter()
    depth = ray_cast(vertices, faces, camera, size)
    theirs = time.perf_counter() - start
    iou, error = compare(raster, depth)
    print(f"{size}: IoU {iou:.5f}, depth error max {error:.5f} mm; {ours:.4f} s, trimesh {theirs:.2f} s")
    assert iou >= 0.995
    assert error <= 0.5
    return ours, theirs


def test_agrees_with_trimesh_at_128():
    check_against_trimesh(*torus(), 128)


@pytest.mark.slow
def test_agrees_with_trimesh_at_512_and_is_ten_times_faster():
    ours, theirs = check_against_trimesh(*torus(), 512)
    assert theirs > 10 * ours


def test_one_large_triangle_against_its_plane():
    size = 200
    camera = default_camera(size, size)
    corners = np.array([[-0.6, -0.5, 0.8], [0.7, -0.4, 1.6], [0.0, 0.9, 1.1]], np.float32)
    raster = rasterize(jnp.asarray(corners), jnp.array([[0, 1, 2]]), camera, size, size)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    y, x = np.mgrid[:size, :size] + 0.5
    rays = np.stack([(x - 100) / 400, (y - 100) / 400, np.ones_like(x)], -1)
    depth = (corners[0] @ normal) / (rays @ normal)
    solved = np.linalg.solve(corners.T.astype(float), (rays * depth[..., None]).reshape(-1, 3).T).T
    inside = (solved.min(1) > 1e-6).reshape(size, size)
    assert 0.3 < inside.mean() < 1
    np.testing.assert_array_equal(raster.mask, inside)
    np.testing.assert_allclose(np.asarray(raster.depth)[inside], depth[inside], rtol=1e-5)
    barycentric = np.asarray(raster.barycentric).reshape(-1, 3)[inside.ravel()]
    np.testing.assert_allclose(barycentric, solved[inside.ravel()], atol=1e-4)
    np.testing.assert_array_equal(np.asarray(raster.face_index), np.where(inside, 0, -1))


def sheet() -> tuple[np.ndarray, np.ndarray]:
    """A wavy grid of triangles that covers the picture; some of its edges run through pixel centres."""
    x, y = np.meshgrid(np.linspace(-0.3, 0.3, 49), np.linspace(-0.3, 0.3, 49))
    vertices = np.stack([x, y, 1 + 0.1 * np.sin(9 * x) * y], -1).reshape(-1, 3).astype(np.float32)
    index = np.arange(49 * 49).reshape(49, 49)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel()
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)]).astype(np.int32)


def test_neighbours_leave_no_crack():
    vertices, faces = sheet()
    raster = rasterize(jnp.asarray(vertices), jnp.asarray(faces), default_camera(64, 64), 64, 64)
    assert float(raster.mask.min()) == 1.0


def soup() -> tuple[np.ndarray, np.ndarray]:
    """Triangles of all sizes, from less than a pixel to more than the picture, many of them partly out of it."""
    generator = np.random.default_rng(1)
    center = generator.uniform([-0.35, -0.35, 0.8], [0.35, 0.35, 1.6], (300, 1, 3))
    size = 10 ** generator.uniform(-2.5, 0, (300, 1, 1))
    corners = center + size * generator.uniform(-0.5, 0.5, (300, 3, 3))
    return corners.reshape(-1, 3).astype(np.float32), np.arange(900, dtype=np.int32).reshape(-1, 3)


def brute_force(vertices, faces, camera: PinholeCamera, height: int, width: int) -> np.ndarray:
    """Depth by the barycentric weights of every face at every pixel, in float64."""
    y, x = np.mgrid[:height, :width] + 0.5
    points = np.stack([x, y, np.ones_like(x)], -1)
    inverse_depth = np.zeros((height, width))
    for corner in np.asarray(vertices, float)[np.asarray(faces)]:
        if (corner[:, 2] > 1e-3).all():
            screen = corner[:, :2] / corner[:, 2:] * np.asarray(camera.focal, float) + np.asarray(camera.center, float)
            weights = points @ np.linalg.inv(np.vstack([screen.T, np.ones(3)])).T
            here = np.where((weights >= 0).all(-1), weights @ (1 / corner[:, 2]), 0)
            inverse_depth = np.maximum(inverse_depth, here)
    return np.where(inverse_depth > 0, 1 / np.where(inverse_depth > 0, inverse_depth, 1), 0)


@pytest.mark.parametrize("nearest", [nearest_by_rows, nearest_by_chunks])
def test_both_ways_of_drawing_agree_with_brute_force(nearest, monkeypatch):
    """On CPUs and on accelerators: triangles of all sizes in a picture that is not square."""
    monkeypatch.setattr("handjax.hand.rasterize.nearest_faces", lambda *a: nearest(set_up(*a), *a[3:]))
    vertices, faces = soup()
    camera = default_camera(90, 137)
    raster = rasterize.__wrapped__(jnp.asarray(vertices), jnp.asarray(faces), camera, 90, 137)
    expected = brute_force(vertices, faces, camera, 90, 137)
    assert 0.5 < (expected > 0).mean() < 1
    assert ((expected > 0) != (np.asarray(raster.mask) > 0)).mean() < 1e-3
    wrong = np.abs(np.asarray(raster.depth) - expected)[(expected > 0) & (np.asarray(raster.mask) > 0)] > 1e-4
    assert wrong.mean() < 1e-3  # only on edges


@pytest.mark.parametrize("nearest", [nearest_by_rows, nearest_by_chunks])
def test_of_equal_faces_the_last_is_seen(nearest):
    vertices, faces = torus()
    twice = jnp.concatenate([jnp.asarray(faces)] * 2)
    camera = default_camera(128, 128)
    triangles = set_up(*project_faces(jnp.asarray(vertices), twice, camera), 128, 128)
    index = jax.jit(nearest, static_argnums=(1, 2))(triangles, 128, 128)
    assert int((index >= 0).sum()) > 1000
    assert not bool(((index >= 0) & (index < len(faces))).any())


def test_depth_map_is_the_raster_s_depth_in_less_memory():
    vertices, faces = (jnp.asarray(a) for a in torus())
    camera = default_camera(256, 256)
    raster = rasterize(vertices, faces, camera, 256, 256)
    np.testing.assert_allclose(depth_map(vertices, faces, camera, 256, 256), raster.depth, rtol=1e-6)
    gradient = jax.grad(lambda v: depth_map(v, faces, camera, 256, 256).sum())(vertices)
    expected = jax.grad(lambda v: rasterize(v, faces, camera, 256, 256).depth.sum())(vertices)
    assert float(jnp.abs(expected).max()) > 1
    np.testing.assert_allclose(gradient, expected, atol=1e-3 * float(jnp.abs(expected).max()))
    memory = depth_map.lower(vertices, faces, camera, 256, 256).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 256 * 256 * 16 + len(faces) * 512


def test_faces_left_out_leave_the_gradients_of_others_as_they_are():
    """The first face is what the background looks up."""
    camera = default_camera(32, 32)
    triangle = jnp.array([[-0.5, -0.5, 1.0], [0.5, -0.5, 1.1], [0.0, 0.6, 1.2]])

    def gradient(vertices, faces):
        return jax.grad(lambda v: depth_map(v, jnp.array(faces), camera, 32, 32).sum())(vertices)

    expected = gradient(triangle, [[0, 1, 2]])
    assert float(jnp.abs(expected).min()) > 0
    for bad in ([0.1, 0.1, -1.0], [jnp.nan, 0.1, 1.0], [0.1, jnp.inf, 1.0]):
        vertices = jnp.concatenate([triangle, jnp.array([bad])])
        np.testing.assert_allclose(gradient(vertices, [[0, 1, 3], [0, 1, 2]])[:3], expected, rtol=1e-5)


def test_faces_behind_the_camera_or_invalid_are_left_out():
    camera = default_camera(32, 32)
    triangle = jnp.array([[-0.5, -0.5, 1.0], [0.5, -0.5, 1.0], [0.0, 0.6, 1.0]])
    for vertices in (triangle * jnp.array([1, 1, -1]), triangle.at[0, 2].set(-0.1), triangle.at[0, 0].set(jnp.nan)):
        raster = rasterize(vertices, jnp.array([[0, 1, 2]]), camera, 32, 32)
        assert float(raster.mask.sum()) == 0.0
        assert bool(jnp.isfinite(raster.depth).all())
        assert bool((raster.face_index == -1).all())


def test_both_sides_are_seen_and_winding_gives_the_normal():
    camera = default_camera(32, 32)
    triangle = jnp.array([[-0.5, -0.5, 1.0], [0.5, -0.5, 1.0], [0.0, 0.6, 1.0]])
    away = rasterize(triangle, jnp.array([[0, 1, 2]]), camera, 32, 32)
    towards = rasterize(triangle, jnp.array([[0, 2, 1]]), camera, 32, 32)
    np.testing.assert_array_equal(away.mask, towards.mask)
    np.testing.assert_allclose(away.normals[16, 16], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(towards.normals[16, 16], [0, 0, -1], atol=1e-6)


def test_normals_of_a_sphere_point_outwards():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.05)
    vertices, faces = jnp.asarray(mesh.vertices, jnp.float32), jnp.asarray(mesh.faces, jnp.int32)
    cosine = np.sum(np.asarray(vertex_normals(vertices, faces)) * mesh.vertices / 0.05, -1)
    assert cosine.min() > 0.999


def test_batch_equals_loop():
    vertices, faces = torus()
    batch = jnp.asarray(vertices) + jnp.array([[0, 0, 0], [0.05, 0.0, 0.1], [0, 0, -0.9]])[:, None]
    camera, faces = default_camera(96, 96), jnp.asarray(faces)
    together = jax.vmap(lambda v: rasterize(v, faces, camera, 96, 96))(batch)
    for i in range(3):
        alone = rasterize(batch[i], faces, camera, 96, 96)
        np.testing.assert_array_equal(together.face_index[i], alone.face_index)
        np.testing.assert_allclose(together.depth[i], alone.depth, atol=1e-6)
    assert float(together.mask[2].sum()) == 0.0


def test_depth_gradient_agrees_with_a_difference():
    vertices, faces = (jnp.asarray(a) for a in sheet())
    camera = default_camera(48, 48)

    def mean_depth(stretch):
        stretched = vertices + stretch * vertices[:, :1] ** 2 * jnp.array([0, 0, 1.0])
        return rasterize(stretched, faces, camera, 48, 48).depth.mean()

    difference = (mean_depth(1e-2) - mean_depth(-1e-2)) / 2e-2
    np.testing.assert_allclose(jax.grad(mean_depth)(0.0), difference, rtol=1e-2)


@pytest.mark.parametrize("field", ["depth", "normals", "barycentric"])
def test_gradients_of_what_is_seen_agree_with_differences(field):
    """Of each picture weighted at random, where a small move leaves the same face in sight."""
    vertices, faces = (jnp.asarray(a) for a in torus())
    camera = default_camera(64, 64)
    generator = np.random.default_rng(0)
    toward = jnp.asarray(generator.normal(size=vertices.shape) * 2e-5, jnp.float32)
    ahead, here, behind = (rasterize(vertices + k * toward, faces, camera, 64, 64) for k in (1, 0, -1))
    same = (ahead.face_index == here.face_index) & (behind.face_index == here.face_index) & (here.mask > 0)
    assert float(same.sum()) > 0.9 * float(here.mask.sum()) > 100
    shape = getattr(here, field).shape
    picked = np.asarray(same).reshape(same.shape + (1,) * (len(shape) - 2))
    weights = jnp.asarray(generator.normal(size=shape) * picked, jnp.float32)

    def value(vertices):
        return (getattr(rasterize(vertices, faces, camera, 64, 64), field) * weights).sum()

    change = np.asarray(getattr(ahead, field), float) - np.asarray(getattr(behind, field), float)
    difference = float((change * np.asarray(weights, float)).sum()) / 2
    slope = float((jax.grad(value)(vertices) * toward).sum())
    print(f"{field}: slope {slope:.6g}, difference {difference:.6g}")
    np.testing.assert_allclose(slope, difference, rtol=0.02)


def three_hands() -> tuple[list, list]:
    """A right hand, a left one beside and before it, and a right one far behind."""
    models = [load_open_hand("right"), load_open_hand("left"), load_open_hand("right")]
    places = jnp.array([[0.0, 0.08, 0.7], [0.05, 0.08, 0.55], [-0.06, 0.1, 1.0]])
    pose, betas = jnp.zeros((16, 3)), jnp.zeros(10)
    hands = [pose_hand(m, pose, betas, place).vertices for m, place in zip(models, places, strict=True)]
    return hands, [m.faces for m in models]


def test_hands_hide_each_other_in_one_z_buffer():
    """Every pixel shows the hand that is nearest when each is rendered alone."""
    vertices, faces = three_hands()
    camera = default_camera(96, 96)
    joined = join_meshes(vertices, faces)
    raster = rasterize(joined.vertices, joined.faces, camera, 96, 96)
    alone = [rasterize(v, f, camera, 96, 96) for v, f in zip(vertices, faces, strict=True)]
    depth = jnp.stack([jnp.where(one.mask > 0, one.depth, jnp.inf) for one in alone])
    nearest, seen = depth.argmin(0), jnp.isfinite(depth.min(0))
    index = mesh_index(raster, joined)
    np.testing.assert_array_equal(index, jnp.where(seen, nearest, -1))
    np.testing.assert_allclose(raster.depth, jnp.where(seen, depth.min(0), 0.0), atol=1e-6)
    for k, one in enumerate(alone):
        hidden = float(((one.mask > 0) & (index != k)).sum() / one.mask.sum())
        assert (hidden == 0) == (k == 1)
        np.testing.assert_allclose(raster.normals[index == k], one.normals[index == k], atol=1e-5)
