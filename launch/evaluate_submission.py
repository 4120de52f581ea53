"""What the servers of FreiHAND and HO-3D want: `python -m launch.evaluate --suite submission --data freihand:FOLDER`.

Every picture of the evaluation set is read in the order of the set's own list and from the picture alone: annotated
keypoints say where the square around the hand lies, and nothing else. Camera and fingertips are the data set's. Where
a hand cannot be placed no file is written, for a server takes all hands or none.
"""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from data_pipelines.datasets.annotation import Sample
from data_pipelines.datasets.builder import DatasetConfig, HandDataset
from data_pipelines.datasets.registry import DATASETS
from handjax.errors import ConfigError, InputError
from handjax.hand.camera import PinholeCamera
from handjax.hand.mano import load_mano
from handjax.inference.reconstruct import HandReconstructor
from handjax.inference.scene import ReconstructedHand
from handjax.perception.hands import DetectedHand
from handjax.recovery.decoding import ITERATIONS
from handjax.recovery.files import load_recovery
from handjax.recovery.submission import RULES, Benchmark, write_submission
from launch import command

ARCHIVE = "pred.zip"


def add_submission_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate_submission` reads."""
    add, names = parser.add_argument, ", ".join(RULES)
    add("--data", required=True, metavar="NAME:FOLDER", help=f"the unpacked data set; NAME is one of {names}")
    add("--model", type=Path, required=True, metavar="DIR", help="exported weights of mmhmr.py that know MANO")
    add("--hand-model", required=True, metavar="FILE", help="MANO_RIGHT.pkl")
    add("--iterations", type=command.positive(int), default=ITERATIONS, help="of decoding")
    add("--out", type=command.output_folder, required=True, help=f"folder for {ARCHIVE}")
    add("--json", action="store_true", help="print one JSON document instead of lines")
    parser.set_defaults(limit=None)


def evaluate_submission(arguments: argparse.Namespace, report: command.Report) -> None:
    """Writes pred.zip to `arguments.out`, or names the hands that could not be placed.

    Raises:
      ConfigError: there is no server for the data, or the weights know another hand model.
      InputError: the download is not whole.
    """
    benchmark, folder = benchmark_of(arguments.data)
    model = load_recovery(arguments.model)
    if model.tokenizer.hand != "mano":
        raise ConfigError(
            f"{arguments.model}: knows the open hand; servers take MANO's 778 vertices, so train vq_mano.py with "
            "--config.data.hand_model=MANO_RIGHT.pkl and mmhmr.py with --config.hand_model=MANO_RIGHT.pkl"
        )
    hand = load_mano(arguments.hand_model, tips=DATASETS[benchmark].FACTS.tips)
    reconstructor = HandReconstructor(model, hand, arguments.iterations)
    dataset = open_dataset(benchmark, folder)
    samples = evaluation_set(dataset, benchmark, folder)
    keypoints, vertices = read_all(reconstructor, dataset, samples, report)
    missing = len(samples) - len(keypoints)
    path = arguments.out / ARCHIVE
    if missing:
        reason = f"{missing} of {len(samples)} hands could not be placed, and the server takes all or none"
        report.error(str(path), InputError(f"{path}: not written, for {reason}; mend what the other errors name"))
        return
    write_submission(path, benchmark, np.stack(keypoints), np.stack(vertices))
    report.item({"output": str(path), "pictures": len(samples)}, f"{path}  {len(samples)} pictures")


def benchmark_of(text: str) -> tuple[Benchmark, Path]:
    """Server and folder of NAME:FOLDER, as launch.precompute takes it.

    Raises:
      ConfigError: there is no server for it.
    """
    given, _, folder = text.partition(":")
    for name in RULES:
        if name == given and folder:
            return name, Path(folder)
    choices = " or ".join(f"{name}:FOLDER" for name in RULES)
    raise ConfigError(f"--data {text}: not a data set with a server; give {choices}")


def open_dataset(benchmark: Benchmark, folder: Path) -> HandDataset:
    """The reader of a data set's evaluation part, which writes nothing."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # or TFDS tells that the configuration is none of its own
    config = DatasetConfig(folder=str(folder), splits=("eval",))
    with tempfile.TemporaryDirectory() as unused:
        return DATASETS[benchmark](config=config, data_dir=unused, file_format="array_record")


def evaluation_set(dataset: HandDataset, benchmark: Benchmark, folder: Path) -> list[Sample]:
    """The pictures that the server asks for, in the order of the set's list.

    Raises:
      InputError: a file is missing or broken, or the list is another one than the server's.
    """
    samples, wanted = dataset.chosen(folder)["eval"], RULES[benchmark].pictures
    if len(samples) != wanted:
        raise InputError(
            f"{folder}: {len(samples)} pictures to evaluate, {benchmark}'s server takes {wanted}; "
            f"{dataset.FACTS.download}"
        )
    return samples


def read_all(
    reconstructor: HandReconstructor, dataset: HandDataset, samples: Sequence[Sample], report: command.Report
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Keypoints [21, 3] and vertices [778, 3] of the hands in camera space, metres; those without go to the report."""
    keypoints, vertices = [], []
    for sample in tqdm(samples, "read", unit="picture", disable=None):
        try:
            hand = read_alone(reconstructor, dataset, sample)
        except InputError as error:
            report.error(sample.name, InputError(f"{sample.name}: {error}"))
            continue
        keypoints.append(hand.keypoints)
        vertices.append(hand.vertices)
    return keypoints, vertices


def read_alone(reconstructor: HandReconstructor, dataset: HandDataset, sample: Sample) -> ReconstructedHand:
    """Reads the one hand of a picture, in the camera of the data set, without its keypoints.

    Raises:
      InputError: files of the picture are missing or broken, or the hand has no place in it.
    """
    image = dataset.picture(sample)
    (annotated,) = dataset.hands(sample, (image.shape[0], image.shape[1]))
    points = np.column_stack([annotated.keypoints_2d[:, :2], np.zeros(21)]).astype(np.float32)
    where = DetectedHand.from_landmarks("right", 1.0, points, np.zeros((21, 3), np.float32))
    focal, center = jnp.asarray(annotated.camera, jnp.float32).reshape(2, 2)
    return reconstructor.read(image, where, with_cue=False, camera=PinholeCamera(focal, center))
