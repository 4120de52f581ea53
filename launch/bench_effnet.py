"""How fast the network behind the distances of picture sets is, beside the PyTorch package with the same weights."""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from handjax.errors import BackendError
from handjax.metrics.features import BATCH, effnet_lite0
from handjax.perception.efficientnet import DEVIATION, MEAN, SIZE, params_path
from launch.peers import load_torch
from launch.timing import interleaved, summary


def bench_effnet(runs: int) -> Iterator[dict[str, Any]]:
    """Features of a batch of prepared pictures.

    Raises:
        BackendError: PyTorch or one of the two packages is not installed.
    """
    torch = load_torch()
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
    except ImportError as error:
        raise BackendError("effnet is timed beside efficientnet-lite-pytorch: pip install 'handjax[torch]'") from error
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    extract = effnet_lite0().extract
    peer = package.EfficientNet.from_name("efficientnet-lite0").eval()
    peer.load_state_dict(torch.load(params_path(), weights_only=True))

    def ours() -> Any:
        return extract(images)

    def theirs() -> Any:
        with torch.no_grad():
            pictures = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - MEAN) / DEVIATION
            return peer.extract_features(pictures).mean((2, 3)).numpy()

    ours(), theirs()
    item = summary("effnet", "efficientnet-lite-pytorch", interleaved(ours, theirs, runs))
    yield item | {"batch": BATCH, "per_second": BATCH / item["ours"], "what": "pictures"}
