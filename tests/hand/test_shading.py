import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.hand.camera import default_camera, project
from handjax.hand.rasterize import rasterize
from handjax.hand.shading import Lighting, even_environment, interpolate, irradiance, shade

TILTED = jnp.array([[-0.5, -0.5, 1.0], [0.6, -0.4, 1.6], [0.0, 0.6, 1.2]])
FACES = jnp.array([[0, 1, 2]])
LAMP_ONLY = Lighting(jnp.array([0.0, 0.0, -1.0]), jnp.array([1.0, 0.5, 0.25]), even_environment(0.0))


def test_interpolate_is_perspective_correct():
    """Positions interpolated as attributes project back to their own pixels."""
    camera = default_camera(40, 40)
    raster = rasterize(TILTED, FACES, camera, 40, 40)
    points = interpolate(raster, TILTED[FACES])
    covered = np.asarray(raster.mask) > 0
    centers = np.stack(np.meshgrid(np.arange(40), np.arange(40)), -1) + 0.5
    np.testing.assert_allclose(np.asarray(project(camera, points))[covered], centers[covered], atol=1e-2)
    assert float(jnp.abs(points[~covered]).max()) == 0.0


@pytest.mark.parametrize("degrees", [0, 30, 60, 100])
def test_lambert_is_the_cosine(degrees):
    angle = np.radians(degrees)
    direction = jnp.array([np.sin(angle), 0.0, -np.cos(angle)])
    triangle = jnp.array([[-0.5, -0.5, 1.0], [0.0, 0.6, 1.0], [0.5, -0.5, 1.0]])  # faces the camera
    raster = rasterize(triangle, FACES, default_camera(16, 16), 16, 16)
    picture = shade(raster, jnp.full((16, 16, 3), 0.8), LAMP_ONLY.replace(direction=direction))
    expected = 0.8 * max(np.cos(angle), 0) * np.array([1.0, 0.5, 0.25])
    np.testing.assert_allclose(picture[8, 8], expected, atol=1e-6)
    assert float(picture[15, 0].max()) == 0.0


def test_irradiance_equals_the_integral_over_the_hemisphere():
    """Against a Monte Carlo integral with harmonics written from their definition."""
    environment = jax.random.normal(jax.random.key(0), (9, 3)) * 0.1
    environment = environment.at[0].set(3.0)
    directions = jax.random.normal(jax.random.key(1), (400_000, 3))
    directions /= jnp.linalg.norm(directions, axis=-1, keepdims=True)
    x, y, z = np.asarray(directions, float).T
    k1, k2 = np.sqrt(3 / (4 * np.pi)), np.sqrt(15 / (4 * np.pi))
    harmonics = [
        *(np.full_like(x, np.sqrt(1 / (4 * np.pi))), k1 * y, k1 * z, k1 * x, k2 * x * y, k2 * y * z),
        *(np.sqrt(5 / (16 * np.pi)) * (3 * z**2 - 1), k2 * x * z, k2 / 2 * (x**2 - y**2)),
    ]
    radiance = np.stack(harmonics, -1) @ np.asarray(environment)
    for normal in np.eye(3):
        cosine = np.maximum(np.asarray(directions) @ normal, 0)
        expected = 4 * np.pi * (cosine[:, None] * radiance).mean(0)
        np.testing.assert_allclose(irradiance(jnp.asarray(normal), environment), expected, rtol=0.01)


def test_even_environment_shows_the_albedo_times_brightness():
    raster = rasterize(TILTED, FACES, default_camera(16, 16), 16, 16)
    dark = Lighting(jnp.array([0.0, 0.0, -1.0]), jnp.zeros(3), even_environment(0.5))
    picture = shade(raster, jnp.full((16, 16, 3), 0.6), dark)
    np.testing.assert_allclose(picture[np.asarray(raster.mask) > 0], 0.3, rtol=1e-4)


def test_irradiance_equals_the_quadratic_form():
    """Eq. 12's matrix in NumPy, its constants from the cosine's harmonics π, 2π/3, π/4 rather than Eq. 12's digits."""
    light = np.random.default_rng(0).normal(size=(9, 3)) * 0.1 + np.eye(9, 3) * 3
    a0, a1, a2 = np.pi, 2 * np.pi / 3, np.pi / 4
    y0, y1, y2 = np.sqrt(1 / (4 * np.pi)), np.sqrt(3 / (4 * np.pi)), np.sqrt(15 / (4 * np.pi))
    y20 = np.sqrt(5 / (16 * np.pi))
    normals = np.random.default_rng(1).normal(size=(200, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    expected = np.zeros((200, 3))
    for channel, (l00, l1m1, l10, l11, l2m2, l2m1, l20, l21, l22) in enumerate(light.T):
        form = np.zeros((4, 4))
        form[0, 0], form[1, 1], form[2, 2] = a2 * y2 / 2 * l22, -a2 * y2 / 2 * l22, 3 * a2 * y20 * l20
        form[0, 1], form[0, 2], form[1, 2] = a2 * y2 / 2 * l2m2, a2 * y2 / 2 * l21, a2 * y2 / 2 * l2m1
        form[0, 3], form[1, 3], form[2, 3] = a1 * y1 / 2 * l11, a1 * y1 / 2 * l1m1, a1 * y1 / 2 * l10
        form[3, 3] = a0 * y0 * l00 - a2 * y20 * l20
        form = np.triu(form) + np.triu(form, 1).T
        homogeneous = np.concatenate([normals, np.ones((200, 1))], 1)
        expected[:, channel] = np.maximum(np.einsum("ni,ij,nj->n", homogeneous, form, homogeneous), 0)
    np.testing.assert_allclose(irradiance(jnp.asarray(normals), jnp.asarray(light)), expected, atol=1e-4)


def test_vertex_colours_mix_over_a_face():
    """Solved for each pixel's ray in NumPy: what share of each corner it meets."""
    camera = default_camera(32, 32)
    raster = rasterize(TILTED, FACES, camera, 32, 32)
    colors = jnp.eye(3)
    picture = np.asarray(interpolate(raster, colors[FACES]))
    y, x = np.mgrid[:32, :32] + 0.5
    rays = np.stack([(x - 16) / 64, (y - 16) / 64, np.ones_like(x)], -1)
    shares = rays @ np.linalg.inv(np.asarray(TILTED, float))
    shares /= shares.sum(-1, keepdims=True)
    covered = np.asarray(raster.mask) > 0
    np.testing.assert_allclose(picture[covered], shares[covered], atol=1e-4)
    assert np.abs(picture[~covered]).max() == 0
