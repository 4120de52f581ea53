import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.perception.detector import TASK_FILE
from handjax.perception.networks import LANDMARK_SIZE, PALM_SIZE, DepthwiseConv, LandmarkNetwork, PalmDetector
from handjax.perception.tflite import load_parameters


def _depthwise_by_loops(x, kernel, stride):
    size, height, width = len(kernel), -(-x.shape[0] // stride), -(-x.shape[1] // stride)
    before = [
        max((n - 1) * stride + size - extent, 0) // 2 for n, extent in zip((height, width), x.shape, strict=False)
    ]
    padded = np.pad(x, ((before[0], size), (before[1], size), (0, 0)))
    result = np.zeros((height, width, x.shape[2]))
    for i in range(height):
        for j in range(width):
            window = padded[i * stride : i * stride + size, j * stride : j * stride + size]
            result[i, j] = (window * kernel[:, :, 0]).sum(axis=(0, 1))
    return result


@pytest.mark.parametrize(("extent", "size", "stride"), [((7, 6), 5, 1), ((8, 8), 5, 2), ((8, 7), 3, 2), ((6, 9), 3, 1)])
def test_depthwise_convolution_against_loops(extent, size, stride):
    x = np.random.default_rng(0).normal(size=(1, *extent, 4)).astype(np.float32)
    layer = DepthwiseConv(size, stride)
    variables = layer.init(jax.random.key(0), x)
    expected = _depthwise_by_loops(x[0], np.asarray(variables["params"]["kernel"]), stride)
    np.testing.assert_allclose(layer.apply(variables, x)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("member", "module", "size"),
    [
        ("hand_detector.tflite", PalmDetector(), PALM_SIZE),
        ("hand_landmarks_detector.tflite", LandmarkNetwork(), LANDMARK_SIZE),
    ],
)
def test_every_weight_of_the_file_is_used(member, module, size):
    variables = load_parameters(TASK_FILE, member, module, size)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    half_precision_bytes = 2 * sum(x.size for x in jax.tree.leaves(variables))
    file_bytes = zipfile.ZipFile(TASK_FILE).getinfo(member).file_size
    assert 0.97 < half_precision_bytes / file_bytes < 1.0


def test_weights_of_another_network_are_refused():
    with pytest.raises(WeightsError, match="another architecture"):
        load_parameters(TASK_FILE, "hand_detector.tflite", LandmarkNetwork(), LANDMARK_SIZE)


def test_missing_and_damaged_files_are_one_line(tmp_path):
    damaged = tmp_path / "damaged.task"
    damaged.write_bytes(b"not a zip archive")
    for path in (tmp_path / "absent.task", damaged):
        with pytest.raises(WeightsError, match=path.name) as error:
            load_parameters(path, "hand_detector.tflite", PalmDetector(), PALM_SIZE)
        assert "\n" not in str(error.value)
