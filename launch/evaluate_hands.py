"""Are generated hands those that were asked for? `python -m launch.evaluate --suite hands --data A --reference B`.

Each picture of A is compared with the picture of the same name in B, such as the photograph that its conditions come
from. Crops of both sets are cut at the reference's hands, 1.6 times their tight box, whether or not A shows a hand.
Hands are looked for in pictures with a margin.

MPJPE is HandRefiner's: the network that the conditions are made with reads the hand in the same box of both pictures,
in pixels of the pictures, whatever is there. It judges itself, which its name says ("self"); with `--mesh-model`
another network, which is told no keypoints, judges too ("mesh").
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from handjax.conditions.crops import MODEL_CROP_SCALE, box_side, crop_image, hand_box
from handjax.errors import InputError
from handjax.files import write_json
from handjax.images import find_images, read_image
from handjax.inference.reconstruct import HandReconstructor
from handjax.metrics.features import BATCH, FeatureExtractor, image_features, make_extractor
from handjax.metrics.hands import FoundHand, HandMatch, hand_figures, keypoint_distance
from handjax.metrics.streaming import FeatureStream
from handjax.perception import DetectedHand, HandDetector
from handjax.perception.detector import MIN_SCORE
from handjax.perception.margin import SHARE, detect_with_margin
from launch import command
from launch.evaluate_distance import RESAMPLES, add_distance_arguments, check_enough, count, distances
from launch.evaluate_distance import describe as describe_distance
from launch.reconstruct import load_reconstructor

Image = UInt8[np.ndarray, "height width 3"]
Crops = tuple[list[np.ndarray], list[np.ndarray]]
Features = tuple[FeatureStream, FeatureStream]
"""Of the made pictures and of the reference's, as `Crops`."""
Reader = Callable[[Image, DetectedHand], Float[np.ndarray, "21 2"]]
"""Reads keypoints, pixels, at the place of a hand, which may be another picture's."""
CONFIDENCE = "MediaPipe's score of the side, 0.5 to 1"
"""DECISIONS H7."""
MASK = "_mask"
"""Ends the names of masks."""


def add_hands_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate_hands` reads."""
    add_distance_arguments(parser)
    parser.add_argument("--backend", choices=["flax", "mediapipe"], default="flax", help="hand detector")
    parser.add_argument("--max-hands", type=int, default=2, help="hands to find in a picture at most")
    second = "a run of mmhmr.py, or its exported weights: a second judge of keypoints"
    parser.add_argument("--mesh-model", type=Path, metavar="DIR", help=second)


def evaluate_hands(arguments: argparse.Namespace, report: command.Report) -> None:
    """Prints keypoint errors, confidence, presence and the distances of hand crops, and writes them to `arguments.out`.

    Raises:
        BackendError, ConfigError, WeightsError: as `make_extractor`, or as `load_reconstructor`.
        InputError: a folder has no pictures, or those of the reference no hands.
    """
    readers = make_readers(arguments.mesh_model)
    extractor = make_extractor(arguments.extractor, arguments.inception_weights)
    detector = HandDetector.load(arguments.backend, arguments.max_hands)
    matches: list[HandMatch] = []
    with_hand, pictures, unusable = 0, 0, 0
    crops: Crops = ([], [])
    features = FeatureStream(arguments.seed), FeatureStream(arguments.seed)
    for pair in read_pairs(arguments.data, arguments.reference, arguments.limit):
        if isinstance(pair, UnusablePair):
            report.error(pair.source, pair.error)
            unusable += 1
            continue
        found, wanted_hands = (detect_with_margin(detector, image) for image in pair)
        with_hand, pictures = with_hand + bool(found), pictures + 1
        for wanted, matched in zip(wanted_hands, match(wanted_hands, found), strict=True):
            matches.append(dataclasses.replace(matched, errors=read_errors(readers, pair, wanted)))
            for image, cut in zip(pair, crops, strict=True):
                cut.append(crop_image(image, hand_box(wanted.keypoints)))
        if len(crops[0]) >= BATCH:
            _make_features(crops, features, extractor)
    _make_features(crops, features, extractor)
    if not matches:
        raise InputError(f"{arguments.reference}: no hand is found in its pictures; name pictures that show hands")
    items = [item | {"unusable": unusable} for item in hand_figures(matches, with_hand, pictures)]
    items += crop_distances(features, unusable, extractor, arguments, report)
    for item in items:
        report.item(item, describe_distance(item, unusable) if "features" in item else describe(item))
    if arguments.out:
        write_json(arguments.out / "figures.json", _document(items, arguments))


def make_readers(mesh_model: Path | None = None) -> dict[str, Reader]:
    """The judges of keypoints: the network that conditions are made with, and one of meshes where it is named.

    Raises:
        CheckpointError, ConfigError, WeightsError: as `load_reconstructor`.
    """
    conditioner = HandDetector.load()
    readers: dict[str, Reader] = {"self": lambda image, hand: read_in_box(conditioner, image, hand.box)}
    if mesh_model:
        readers["mesh"] = partial(read_by_mesh, load_reconstructor(mesh_model))
    return readers


def read_in_box(detector: HandDetector, image: Image, box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "21 2"]:
    """The keypoints, pixels, that a detector's landmark network reads in the tight box of a hand."""
    (read,) = detector.read(image, boxes=box[None])
    return read.keypoints[:, :2]


def read_by_mesh(reconstructor: HandReconstructor, image: Image, hand: DetectedHand) -> Float[np.ndarray, "21 2"]:
    """The keypoints of the mesh that is seen in the square about a hand.

    Raises:
        InputError: the hand is too small.
    """
    return reconstructor.read(image, hand, with_cue=False).places


def read_errors(readers: Mapping[str, Reader], pair: tuple[Image, Image], hand: DetectedHand) -> dict[str, float]:
    """How far keypoints of a picture are from its reference's, pixels, as each reader has them at a hand's place.

    Source:
        HandRefiner's evaluation, by other networks; DECISIONS H6.
    """
    picture, reference = pair
    return {name: keypoint_distance(read(reference, hand), read(picture, hand)) for name, read in readers.items()}


def _make_features(crops: Crops, features: Features, extractor: FeatureExtractor) -> None:
    """Moves crops of both sets on to their features."""
    for made, cut in zip(features, crops, strict=True):
        if cut:
            for row in image_features(cut, extractor):
                made.add(row)
            cut.clear()


def crop_distances(
    features: Features,
    unusable: int,
    extractor: FeatureExtractor,
    arguments: argparse.Namespace,
    report: command.Report,
) -> list[dict[str, Any]]:
    """Items of the distances of hand crops; none, and an error that says so, where crops are too few.

    Args:
        features: of both sets' crops.
        unusable: pairs of pictures that were left out.
        extractor: what made them.
        arguments: of the command.
        report: receives the error.
    """
    of_data, of_reference = features
    try:
        check_enough(of_data.count, arguments.reference)
    except InputError as error:
        report.error(arguments.reference, error)
        return []
    counts = count(of_data, of_reference) | {"unusable": unusable}
    items = []
    for item in distances(of_data, of_reference, extractor, arguments.seed):
        short, rest = item["name"].split(" ", 1)
        items.append(item | counts | {"name": f"{short}-H {rest}"})
    return items


def _document(items: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("extractor", "limit", "seed", "backend", "max_hands")
    settings = {name: getattr(arguments, name) for name in names}
    settings |= {name: Path(getattr(arguments, name)).name for name in ("data", "reference")}
    settings["mesh_model"] = arguments.mesh_model and arguments.mesh_model.name
    settings |= {"crop_scale": MODEL_CROP_SCALE, "margin": 1 / SHARE, "resamples": RESAMPLES}
    settings |= {"detection_threshold": MIN_SCORE, "hand_confidence": CONFIDENCE}
    return {"suite": "hands", "figures": items, "settings": settings, **command.environment()}


@dataclasses.dataclass(frozen=True)
class UnusablePair:
    """A picture that is not compared, and why."""

    source: str
    error: InputError


def read_pairs(data: str, reference: str, limit: int | None) -> Iterator[tuple[Image, Image] | UnusablePair]:
    """Yields pictures of one name and size, and those that have no partner or cannot be read.

    Names are paths below the folders without their endings; what `launch.refine` writes beside its pictures, NAME_mask,
    is left out.
    """
    partners = {_name(path, reference): path for path in find_images([reference])}
    made = [path for path in find_images([data]) if not path.stem.endswith(MASK)]
    for path in tqdm(made[:limit], "read", unit="picture", disable=None):
        try:
            if _name(path, data) not in partners:
                raise InputError(f"{path}: {reference} has no picture of this name; name both alike")
            picture, wanted = read_image(path), read_image(partners[_name(path, data)])
            if picture.shape != wanted.shape:
                sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (picture, wanted))
                raise InputError(f"{path}: of another size than its reference ({sizes}); bring both to one")
        except InputError as error:
            yield UnusablePair(str(path), error)
        else:
            yield picture, wanted


def _name(path: Path, folder: str) -> Path:
    return (path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)).with_suffix("")


def match(wanted: Sequence[DetectedHand], found: Sequence[DetectedHand]) -> list[HandMatch]:
    """Pairs each wanted hand with one that was found, so that keypoints are closest in all; some may be missed."""
    matches = [HandMatch(hand.keypoints[:, :2], hand.world, box_side(hand.keypoints[:, :2])) for hand in wanted]
    candidates = [FoundHand(hand.keypoints[:, :2], hand.world, hand.score) for hand in found]
    if matches and candidates:
        distances = [[keypoint_distance(a.keypoints, b.keypoints) for b in candidates] for a in matches]
        for row, column in zip(*linear_sum_assignment(distances), strict=True):
            matches[row] = dataclasses.replace(matches[row], found=candidates[column])
    return matches


def describe(item: dict[str, Any]) -> str:
    """One line of a figure of hands."""
    unit = "hands" if "hands" in item else "pictures"
    if item["value"] is None:
        return f"{item['name']:26} none of the hands was found"
    low, high = item["interval_95"]
    return f"{item['name']:26} {item['value']:.4g} [{low:.4g}, {high:.4g}] of {item[unit]} {unit}"
