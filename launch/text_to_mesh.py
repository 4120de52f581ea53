"""Turns words into hand meshes.

python -m launch.text_to_mesh "a right hand signing the letter A" --model run --out meshes --count 8 --format glb

`--model` is the --workdir of a run of text_to_mesh.py, or the folder that `launch.export --to handjax` made of it. Each
prompt becomes --count meshes, drawn from what the model holds likely, and a picture of each.
"""

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from handjax.errors import ConfigError, InputError
from handjax.hand.mano import load_hand
from handjax.hand.mesh_files import FORMATS, Mesh, write_mesh
from handjax.images import write_image
from handjax.inference.generate import Wish
from handjax.inference.text_to_mesh import HandWriter, WrittenHand, draw_hand
from handjax.recovery.text_files import TextMeshModel, load_text_to_mesh
from handjax.tasks.text_to_mesh import TextToMeshTask
from launch import command
from launch.generate import SEEDS, file_name
from launch.runs import restore_run

PICTURE = 384
"""Side of the pictures of meshes, pixels."""


def main() -> int:
    arguments = _parse_arguments()
    if arguments.count < 1:
        raise ConfigError(f"--count is {arguments.count}; it must be at least 1")
    last = SEEDS - len(arguments.prompts)
    if not 0 <= arguments.seed <= last:
        raise ConfigError(f"--seed is {arguments.seed}; it must be from 0 to {last}")
    # seeds count up, so that prompts whose beginnings are alike have files of their own
    wishes = [Wish(prompt, seed=arguments.seed + number) for number, prompt in enumerate(arguments.prompts)]
    report = command.Report("text_to_mesh", arguments.json)
    writer = load_writer(arguments.model, arguments.hand_model)
    for wish in tqdm(wishes, "write", unit="prompt", disable=None if arguments.json else True):
        try:
            hands = writer(wish.prompt, arguments.count, wish.seed)
        except InputError as error:
            report.error(wish.prompt, error)
            continue
        for number, hand in enumerate(hands):
            picture = (arguments.out / file_name(wish)).with_suffix(f".{number}.png")
            mesh = picture.with_suffix(f".{arguments.format}")
            write_image(picture, draw_hand(hand, PICTURE))
            write_mesh(mesh, Mesh(hand.vertices, hand.faces))
            item = {"prompt": wish.prompt, "seed": wish.seed, "number": number}
            item |= {"picture": str(picture), "mesh": str(mesh), **describe(hand)}
            report.item(item, f"{mesh}  {hand.side}  log-likelihood {hand.log_likelihood:.1f}")
    return report.finish()


def describe(hand: WrittenHand) -> dict[str, Any]:
    """What the JSON says of a hand."""
    return {
        "side": hand.side,
        "confidence": round(float(hand.confidence.mean()), 4),
        "joint_confidence": hand.confidence.astype(float).round(4).tolist(),
        "log_likelihood": round(hand.log_likelihood, 4),
        "world": hand.keypoints.astype(float).round(5).tolist(),
        "pose": hand.pose.astype(float).round(5).tolist(),
    }


def load_writer(folder: Path, hand_model: str = "") -> HandWriter:
    """Reads a run's newest checkpoint, or exported weights; raises as `reconstruct.load_reconstructor`."""
    if not (folder / "checkpoints").is_dir():
        return HandWriter(load_text_to_mesh(folder), load_hand(hand_model))
    if hand_model:
        raise ConfigError(f"--hand-model {hand_model}: {folder} is a run, which names its own; leave it out")
    task, params = restore_run(folder, TextToMeshTask, "text_to_mesh.py")
    return HandWriter(TextMeshModel(task.network, params, task.tokenizer, task.text), task.hand)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.text_to_mesh", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("prompts", nargs="+", metavar="PROMPT", help="what the hands do; a left hand where it says so")
    add("--model", type=Path, required=True, metavar="DIR", help="a run of text_to_mesh.py, or exported weights")
    add("--out", type=command.output_folder, required=True, metavar="DIR", help="for meshes and pictures")
    add("--count", type=int, default=4, help="meshes a prompt, 4 where it is not given")
    add("--seed", type=int, default=0, help="of the first prompt's draws; each further prompt has the next")
    add("--format", choices=[ending[1:] for ending in FORMATS], default="obj", help="of the meshes")
    add("--hand-model", default="", metavar="FILE", help="MANO file of exported weights that know MANO")
    add("--json", action="store_true", help="print one JSON document instead of lines")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
