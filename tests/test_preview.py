import jax.numpy as jnp
import numpy as np

from handjax.preview import from_model_range, heat_map, sheet


def test_sheet_has_a_row_an_example_and_a_column_an_argument():
    grey = jnp.stack([jnp.zeros((2, 3, 1)), jnp.ones((2, 3, 1))])
    red = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), (2, 2, 3, 3))
    picture = sheet(grey, red)
    assert picture.shape == (4, 6, 3) and picture.dtype == jnp.uint8
    np.testing.assert_array_equal(picture[0, 0], [0, 0, 0])
    np.testing.assert_array_equal(picture[3, 2], [255, 255, 255])
    np.testing.assert_array_equal(picture[0, 3], [255, 0, 0])


def test_heat_map_grows_brighter_and_is_enlarged_in_blocks():
    values = jnp.array([[[0.0, 0.4], [0.7, 1.0]]])
    colored = heat_map(values, (4, 4))
    brightness = colored[0].sum(-1)
    np.testing.assert_array_equal(brightness[:2, :2], 0)
    np.testing.assert_allclose(brightness[2:, 2:], 3)
    assert 0 < brightness[0, 2] < brightness[2, 0] < 3


def test_from_model_range():
    np.testing.assert_array_equal(from_model_range(jnp.array([[[-1.0, 0.0, 3.0]]])), [[[0, 0.5, 1]]])
