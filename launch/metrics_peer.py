"""FID and KID of two folders by torch-fidelity and clean-fid: run by `launch.bench metrics` with a Python of theirs.

The arguments are an .npz file of Inception-v3's state dict and the two folders. Prints the version of each package as
JSON, then for every name of one on standard input a line of JSON: `seconds` from files to figures, `features_seconds`
of these until the features, `fid`, `kid`. KID is of the whole sets, as one subset of each; all else is as the packages
have it by default.

clean-fid's network is a TorchScript file that it downloads; torch-fidelity's modules stand in for it, by the argument
that clean-fid takes networks with.
"""

import importlib
import importlib.metadata
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch_fidelity import metric_fid, metric_kid, utils
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

torch = importlib.import_module("torch")
LAYER = "2048"
CLEAN_BATCH, CLEAN_WORKERS = 32, 12
"""Defaults of clean-fid's `compute_fid`; its `get_folder_features` has others."""
Features = Callable[[str], Any]
Figures = Callable[[Any, Any], tuple[float, float]]


def main() -> None:
    """Answers one line with one line until standard input ends."""
    warnings.simplefilter("ignore")
    weights, *folders = sys.argv[1:]
    network = load_network(Path(weights))
    peers = {"torch-fidelity": by_torch_fidelity(network)}
    try:
        peers["clean-fid"] = by_clean_fid(network)
    except ImportError as error:
        print(f"clean-fid is left out: {error}", file=sys.stderr)
    print(json.dumps({name: importlib.metadata.version(name) for name in peers}), flush=True)
    for line in sys.stdin:
        features, figures = peers[line.strip()]
        start = time.perf_counter()
        sets = [features(folder) for folder in folders]
        read = time.perf_counter() - start
        fid, kid = figures(*sets)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "features_seconds": read, "fid": fid, "kid": kid}), flush=True)


def load_network(weights: Path) -> FeatureExtractorInceptionV3:
    """torch-fidelity's network, from the file that it would have downloaded."""
    with np.load(weights) as state, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
        name = "inception-v3-compat"
        return FeatureExtractorInceptionV3(name, [LAYER], feature_extractor_weights_path=str(path))


def by_torch_fidelity(network: FeatureExtractorInceptionV3) -> tuple[Features, Figures]:
    """What its `calculate_metrics` does with a network that is made: features of a folder, FID and KID of two."""

    def features(folder: str) -> Any:
        options = {"input1": folder, "cuda": False, "verbose": False}
        return utils.extract_featuresdict_from_input_id_cached(1, network, **options)[LAYER]

    def figures(x: Any, y: Any) -> tuple[float, float]:
        statistics = [metric_fid.fid_features_to_statistics(each) for each in (x, y)]
        fid = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
        whole = {"kid_subsets": 1, "kid_subset_size": min(len(x), len(y))}
        kid = metric_kid.kid_features_to_metric(x, y, verbose=False, **whole)
        return fid[metric_fid.KEY_METRIC_FID], kid[metric_kid.KEY_METRIC_KID_MEAN]

    return features, figures


def by_clean_fid(network: FeatureExtractorInceptionV3) -> tuple[Features, Figures]:
    """The same of clean-fid, mode "clean".

    Raises:
      ImportError: it is not installed.
    """
    from cleanfid import fid

    layers = torch.nn.Sequential(*list(network.children())[:-1], torch.nn.Flatten())

    def extract(images: Any) -> Any:
        return layers((images - 128) / 128)

    def features(folder: str) -> np.ndarray:
        options = {"num_workers": CLEAN_WORKERS, "batch_size": CLEAN_BATCH, "device": torch.device("cpu")}
        return fid.get_folder_features(folder, extract, mode="clean", verbose=False, **options)

    def figures(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        whole = {"num_subsets": 1, "max_subset_size": min(len(x), len(y))}
        return float(fid.fid_from_feats(x, y)), fid.kernel_distance(x, y, **whole)

    return features, figures


if __name__ == "__main__":
    main()
