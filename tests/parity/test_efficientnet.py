"""EfficientNet-Lite0 against the PyTorch package that its weights are published for."""

import importlib

import jax
import numpy as np

from handjax.metrics.features import effnet_lite0
from handjax.perception.efficientnet import SIZE, EfficientNetLite0, params_of, params_path
from tests.parity.sd_models import redraw, torch

# after sd_models, which skips where PyTorch is not installed; where it is, the package is too
package = importlib.import_module("efficientnet_lite_pytorch")
IMAGES = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
NORMALISED = (IMAGES.astype(np.float32) - 127) / 128


def _peer(state=None):
    peer = package.EfficientNet.from_name("efficientnet-lite0").eval()
    if state is not None:
        peer.load_state_dict(state)
    return peer


def _features(peer):
    with torch.no_grad():
        return peer.extract_features(torch.from_numpy(NORMALISED.transpose(0, 3, 1, 2))).mean((2, 3))


def _assert_close(ours, peer):
    peer = peer.numpy()
    np.testing.assert_allclose(ours, peer, rtol=0, atol=1e-5 * np.abs(peer).max())


def test_features_with_the_published_weights():
    peer = _peer(torch.load(params_path(), weights_only=True))
    expected = _features(peer)
    assert 0 < expected.mean() < 6
    _assert_close(effnet_lite0().extract(IMAGES), expected)


def test_every_map_with_random_weights():
    peer = redraw(_peer())
    for name, buffer in peer.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
        elif name.endswith("running_mean"):
            buffer.copy_(torch.randn_like(buffer) / 10)
    expected = []
    for number in (0, 2, 4, 10, 15):
        peer._blocks[number].register_forward_hook(lambda block, inputs, output: expected.append(output))
    features = _features(peer)
    params = params_of({name: value.numpy() for name, value in peer.state_dict().items()})
    ours, maps = jax.jit(EfficientNetLite0().apply)(params, NORMALISED)
    _assert_close(ours, features)
    assert [m.shape[1:] for m in maps] == [(112, 112, 16), (56, 56, 24), (28, 28, 40), (14, 14, 112), (7, 7, 320)]
    for got, wanted in zip(maps, expected, strict=True):
        _assert_close(np.asarray(got).transpose(0, 3, 1, 2), wanted)
