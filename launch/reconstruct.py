"""Turns the hands of pictures into meshes.

python -m launch.reconstruct photo.jpg --out meshes/
python -m launch.reconstruct photos/ --model DIR --out meshes/ --format glb --json

`--model` is the --workdir of a run of mmhmr.py, or the folder that `launch.export --to handjax` made of it; without it
the small model of the package is taken. Each picture becomes one mesh a hand and a picture with the meshes drawn in.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from handjax.errors import ConfigError, InputError
from handjax.hand.mano import load_hand
from handjax.hand.mesh_files import FORMATS, Mesh, write_mesh
from handjax.images import find_images, read_image, write_image
from handjax.inference.reconstruct import (
    HandReconstructor,
    ReconstructedHand,
    draw_meshes,
    keypoints_2d,
    picture_camera,
)
from handjax.perception import HandDetector
from handjax.recovery.files import ASSET, RecoveryModel, load_recovery
from handjax.tasks import make_task
from handjax.tasks.mesh_recovery import MeshRecoveryTask
from handjax.training.checkpoints import check_frozen, content_hash, restore_params
from handjax.training.config import read_config
from launch import command


def main() -> int:
    arguments = _parse_arguments()
    report = command.Report("reconstruct", arguments.json)
    reconstructor = load_reconstructor(arguments.model, arguments.hand_model)
    detector = HandDetector.load("flax", max_hands=arguments.max_hands)
    paths: list[Path] = []
    for source in arguments.images:
        try:
            paths += find_images([source])
        except InputError as error:
            report.error(source, error)
    outputs = command.output_paths(paths, arguments.out)
    boxes = np.array(arguments.box, np.float32) if arguments.box else None
    for path in tqdm(paths, "reconstruct", unit="picture", disable=None if arguments.json else True):
        try:
            image = read_image(path)
            found = detector.detect(image) if boxes is None else detector.read(image, boxes)
            if not found:
                raise InputError(f"{path}: no hand found; show a whole hand, larger and in focus")
            hands = _read_all(reconstructor, image, found, str(path), report)
            write_image(outputs[path], draw_meshes(image, hands))
        except InputError as error:
            report.error(str(path), error)
            continue
        items = [
            _write(hand, image.shape[:2], outputs[path].with_suffix(f".{number}.{arguments.format}"))
            for number, hand in enumerate(hands)
        ]
        report.item({"input": str(path), "overlay": str(outputs[path]), "hands": items}, _lines(str(path), items))
    return report.finish()


def load_reconstructor(folder: Path, hand_model: str = "") -> HandReconstructor:
    """Reads a run's newest checkpoint, or exported weights.

    Args:
        folder: of the run or of the weights.
        hand_model: path of the MANO file that exported weights were trained with; empty is the open hand.

    Raises:
        CheckpointError: the run has no checkpoint, or its tokenizer or hand model has changed.
        ConfigError: the run is of another task, or the weights know another hand model.
        WeightsError: the weights cannot be read.
    """
    if not (folder / "checkpoints").is_dir():
        return HandReconstructor(load_recovery(folder), load_hand(hand_model))
    if hand_model:
        raise ConfigError(f"--hand-model {hand_model}: {folder} is a run, which names its own; leave it out")
    config = read_config(folder)
    task = make_task(config)
    if not isinstance(task, MeshRecoveryTask):
        raise ConfigError(f"{folder}: a run of {config.task}; give one of mmhmr.py")
    check_frozen(folder, content_hash(task.frozen()))
    _, params = restore_params(folder, jax.eval_shape(task.init, jax.random.key(0))[0])
    return HandReconstructor(RecoveryModel(task.network, params, task.tokenizer), task.hand)


def _read_all(reconstructor, image, found, name: str, report: command.Report) -> list[ReconstructedHand]:
    """One hand's failure leaves the others."""
    hands = []
    for hand in found:
        try:
            hands.append(reconstructor.read(image, hand))
        except InputError as error:
            report.error(name, InputError(f"{name}: {error}"))
    return hands


def _write(hand: ReconstructedHand, shape: tuple[int, int], path: Path) -> dict[str, Any]:
    write_mesh(path, Mesh(hand.vertices, hand.faces))
    camera = picture_camera(shape)
    return {
        "side": hand.side,
        "mesh": str(path),
        "confidence": round(float(hand.confidence.mean()), 4),
        "joint_confidence": hand.confidence.astype(float).round(4).tolist(),
        "log_likelihood": round(hand.log_likelihood, 4),
        "keypoints": keypoints_2d(hand, shape).astype(float).round(2).tolist(),
        "world": hand.keypoints.astype(float).round(5).tolist(),
        "pose": hand.pose.astype(float).round(5).tolist(),
        "betas": hand.betas.astype(float).round(4).tolist(),
        "camera": {
            "focal": camera.focal.tolist(),
            "center": camera.center.tolist(),
            "translation": hand.translation.astype(float).round(5).tolist(),
        },
    }


def _lines(name: str, items: list[dict[str, Any]]) -> str:
    rows = [f"{name}  {item['side']:5}  confidence {item['confidence']:.2f}  {item['mesh']}" for item in items]
    return "\n".join(rows) or f"{name}  no hand could be read"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.reconstruct", description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE|DIR", help="pictures, or folders of them")
    parser.add_argument(
        "--model", type=Path, default=ASSET, metavar="DIR", help="a run of mmhmr.py, or exported weights"
    )
    parser.add_argument(
        "--out", type=command.output_folder, required=True, metavar="DIR", help="for meshes and pictures"
    )
    parser.add_argument("--format", choices=[ending[1:] for ending in FORMATS], default="obj", help="of the meshes")
    parser.add_argument("--hand-model", default="", metavar="FILE", help="MANO file of exported weights that know MANO")
    parser.add_argument("--max-hands", type=int, default=2, help="hands to find in a picture at most")
    parser.add_argument(
        "--box",
        nargs=4,
        type=float,
        action="append",
        metavar=("X0", "Y0", "X1", "Y1"),
        help="read the hand in this box, pixels, instead of looking for hands; repeat for more",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
