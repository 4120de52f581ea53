import os
import subprocess
import sys

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import write_image
from handjax.metrics.features import (
    BATCH,
    IN_CACHE,
    FeatureExtractor,
    effnet_lite0,
    image_features,
    picture_features,
)


def test_every_picture_has_its_features_in_order_and_the_others_their_error(tmp_path):
    sizes = []

    def extract(images):
        sizes.append(len(images))
        return images.reshape(len(images), -1).mean(axis=1, keepdims=True)

    count = 2 * BATCH + 5
    paths = [tmp_path / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        write_image(path, np.full((4, 6, 3), number, np.uint8))
    broken = [3, BATCH, *range(2 * BATCH, count)]
    for number in broken:
        paths[number].write_bytes(b"no picture")
    results = list(picture_features(paths, FeatureExtractor("mean", lambda image: image[:2, :2], extract)))
    assert [path for path, _ in results] == paths
    assert [n for n, (_, result) in enumerate(results) if isinstance(result, InputError)] == broken
    assert all(float(r[0]) == n for n, (_, r) in enumerate(results) if n not in broken)
    assert sizes == [BATCH, BATCH]


def test_no_pictures_have_no_features():
    assert list(picture_features([], FeatureExtractor("none", lambda image: image, lambda images: images))) == []


def test_pictures_that_are_read_together_have_their_own_features():
    """Of a batch in groups, each picture's are those that it has where the whole batch is that picture."""
    images = list(np.random.default_rng(0).integers(0, 256, (2 * IN_CACHE, 30, 20, 3), np.uint8))
    extractor = effnet_lite0()
    together = image_features(images, extractor)
    for place in (1, IN_CACHE + 2):
        alone = image_features(images[place : place + 1], extractor)[0]
        assert np.abs(np.delete(together, place, axis=0) - alone).max(axis=1).min() > 0.1
        np.testing.assert_allclose(together[place], alone, atol=1e-5)


SHARED = """
import sys
import jax
import os
import subprocess
import sys

import numpy as np
from handjax.metrics.features import effnet_lite0, image_features

images = np.random.default_rng(0).integers(0, 256, (40, 30, 20, 3), np.uint8)
features = image_features(list(images), effnet_lite0())
assert len(jax.devices()) == int(sys.argv[2])
np.save(sys.argv[1], features)
"""


@pytest.mark.slow
def test_devices_share_a_batch(tmp_path):
    """Three devices do not divide a batch of 32."""
    features = []
    for devices in (1, 3):
        path = tmp_path / f"{devices}.npy"
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
        subprocess.run([sys.executable, "-c", SHARED, path, str(devices)], env=environment, check=True)
        features.append(np.load(path))
    assert features[0].shape == (40, 1280) and features[0].std() > 0.1
    np.testing.assert_allclose(*features, atol=1e-5)
