"""How far two folders of pictures are apart: `python -m launch.evaluate --suite distance --data A --reference B`.

Features are read in a stream: FD is of the moments of all; KID, Inception scores and intervals are of a random sample
of each folder, at most `KEPT` pictures, so that intervals of more are wider than they need be.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from handjax.errors import InputError
from handjax.files import write_json
from handjax.images import find_images
from handjax.metrics.features import EXTRACTORS, FeatureExtractor, make_extractor, picture_features
from handjax.metrics.frechet import frechet_distance, frechet_replicates
from handjax.metrics.inception_score import SPLITS, inception_score
from handjax.metrics.intervals import bootstrap_interval
from handjax.metrics.kernel import SUBSET_SIZE, SUBSETS, kernel_distance_of_subsets, kernel_replicates
from handjax.metrics.streaming import FeatureStream
from launch import command

# The least of which a resampled set still says something of its spread.
FEWEST = 20
# Of many pictures a replicate of FD decomposes matrices as wide as the features, so these are few.
RESAMPLES = 50


def add_distance_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate_distance` reads."""
    parser.add_argument("--data", required=True, help="folder of pictures")
    parser.add_argument("--reference", required=True, help="folder of pictures to compare with")
    parser.add_argument("--extractor", choices=EXTRACTORS, default=EXTRACTORS[0], help="whose features are compared")
    parser.add_argument("--inception-weights", type=Path, metavar="FILE", help="pt_inception-2015-12-05-6726825d.pth")
    parser.add_argument("--limit", type=int, help="number of pictures of each folder (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of resampling and of KID's subsets")
    parser.add_argument("--out", type=command.output_folder, help="folder for figures.json")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def evaluate_distance(arguments: argparse.Namespace, report: command.Report) -> None:
    """Prints distances with intervals, and Inception scores where there are any, and writes them to `arguments.out`.

    Unreadable pictures are counted.

    Raises:
        BackendError: the package with the network's weights is not installed.
        ConfigError, WeightsError: as `make_extractor`.
        InputError: a folder has no or too few pictures.
    """
    extractor = make_extractor(arguments.extractor, arguments.inception_weights)
    paths = [find_images([folder])[: arguments.limit] for folder in (arguments.data, arguments.reference)]
    sets = [read_features(folder, extractor, arguments.seed, report) for folder in paths]
    for (features, _), folder in zip(sets, (arguments.data, arguments.reference), strict=True):
        check_enough(features.count, folder)
    (features, unreadable), (reference, reference_unreadable) = sets
    counts = count(features, reference) | {"unreadable": unreadable, "reference_unreadable": reference_unreadable}
    items = [item | counts for item in distances(features, reference, extractor, arguments.seed)]
    items += [item | counts for item in inception_scores(features, reference, extractor)]
    for item in items:
        report.item(item, describe(item, unreadable + reference_unreadable))
    if arguments.out:
        names = {"data": Path(arguments.data).name, "reference": Path(arguments.reference).name}
        settings = names | {
            "extractor": arguments.extractor,
            "limit": arguments.limit,
            "seed": arguments.seed,
            "resamples": RESAMPLES,
        }
        kid = {"kid_subsets": SUBSETS, "kid_subset_size": SUBSET_SIZE}
        document = {"suite": "distance", "figures": items, "settings": settings | kid, **command.environment()}
        write_json(arguments.out / "figures.json", document)


def read_features(
    paths: list[Path], extractor: FeatureExtractor, seed: int, report: command.Report
) -> tuple[FeatureStream, int]:
    """Features of the pictures that can be read, and the number of the others, which are reported."""
    features, unreadable = FeatureStream(seed), 0
    for path, result in tqdm(picture_features(paths, extractor), "read", len(paths), unit="picture", disable=None):
        if isinstance(result, InputError):
            report.error(str(path), result)
            unreadable += 1
        else:
            features.add(result)
    return features, unreadable


def check_enough(count: int, folder: str) -> None:
    """Refuses sets that say nothing of a distribution.

    Raises:
        InputError: fewer than `FEWEST` pictures.
    """
    if count < FEWEST:
        raise InputError(
            f"{folder}: {count} readable pictures are too few for a distance between sets; give at least {FEWEST}, "
            "better a thousand or more"
        )


def count(features: FeatureStream, reference: FeatureStream) -> dict[str, int]:
    """Of pictures of a set and of the other, those that are sampled of each, and features of one."""
    return {
        "pictures": features.count,
        "reference_pictures": reference.count,
        "sampled": len(features.kept),
        "reference_sampled": len(reference.kept),
        "features": len(features.moments.mean),
    }


def distances(
    features: FeatureStream, reference: FeatureStream, extractor: FeatureExtractor, seed: int
) -> list[dict[str, Any]]:
    """The items of the JSON contract.

    Args:
        features: of a set.
        reference: of the other.
        extractor: what made them.
        seed: of resampling and of KID's subsets.
    """
    replicates = frechet_replicates(features.kept, reference.kept, seed, RESAMPLES)
    fd_replicates = np.array(list(tqdm(replicates, "interval", RESAMPLES, unit="resample", disable=None)))
    fd = frechet_distance(features.moments, reference.moments)
    kid = kernel_distance_of_subsets(features.kept, reference.kept, seed)
    kid_replicates = kernel_replicates(features.kept, reference.kept, seed, RESAMPLES)
    return [
        {"name": f"{short} ({extractor.name})", "value": value, "interval_95": bootstrap_interval(value, replicates)}
        for short, value, replicates in ((extractor.frechet, fd, fd_replicates), ("KID", kid, kid_replicates))
    ]


def inception_scores(
    features: FeatureStream, reference: FeatureStream, extractor: FeatureExtractor
) -> list[dict[str, Any]]:
    """Items of both sets' Inception scores, where the extractor has classes; arguments as `distances`."""
    if extractor.classes is None:
        return []
    scores = [inception_score(each.kept @ extractor.classes) for each in (features, reference)]
    return [
        {"name": f"IS{whose} ({extractor.name})", "value": mean, "deviation": deviation, "parts": SPLITS}
        for whose, (mean, deviation) in zip(("", " of reference"), scores, strict=True)
    ]


def describe(item: dict[str, Any], skipped: int) -> str:
    """One line of figures of sets from which so many pictures were skipped."""
    if "deviation" in item:
        return f"{item['name']:18} {item['value']:.6g}, deviation of {item['parts']} parts {item['deviation']:.6g}"
    low, high = item["interval_95"]
    counts = f"{item['pictures']} pictures, {item['reference_pictures']} of reference"
    line = f"{item['name']:18} {item['value']:.6g} [{low:.6g}, {high:.6g}] of {counts}, {skipped} unreadable"
    if item["name"].startswith("F") and min(item["pictures"], item["reference_pictures"]) <= item["features"]:
        line += (
            f"; with no more pictures than features ({item['features']}) FD is much too large: compare it only with FD "
            "of as many pictures"
        )
    return line
