import numpy as np

from handjax.errors import InputError
from handjax.images import write_image
from handjax.metrics.features import BATCH, FeatureExtractor, picture_features


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
