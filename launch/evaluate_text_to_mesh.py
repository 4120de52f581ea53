"""Do prompts give the hands that they say? `python -m launch.evaluate --suite text_to_mesh --model DIR --data RECORDS`.

The prompts are the captions of held-out records, the commonest first. Each mesh that is drawn for a prompt is compared
with the meshes of the records that have it as their caption, at most the first ten, as right hands. On photographs
prepared by launch.precompute these are fits to MediaPipe's keypoints, on records relabelled by it what MMHMR has read.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from handjax.errors import ConfigError, InputError
from handjax.files import write_json
from handjax.hand.mano import load_hand
from handjax.hand.model import HandModel, mirror_pose
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.hand.words import swap_sides
from handjax.inference.text_to_mesh import HandWriter
from handjax.metrics.written import MEASURES, WrittenPrompt, written_figures
from handjax.record import HandRecord
from handjax.recovery.decoding import ITERATIONS, TOP_SHARE
from handjax.recovery.posing import pose_hands
from handjax.recovery.text_files import load_text_to_mesh
from launch import command
from launch.evaluate_recovery import held_out_records

COUNT, LIMIT, RECORDS = 20, 26, 10
PAPER = dict(zip(MEASURES, ((0.0221, 0.0073), (9.73e-5, 5.47e-5), (12.2, 3.1)), strict=True))
"""Mean and deviation on the ASL alphabet (MMHMR Table 10)."""

Wanted = dict[str, list[tuple[np.ndarray, np.ndarray]]]
"""By prompt, pose and betas of the records' hands as right ones."""


def add_text_to_mesh_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate_text_to_mesh` reads."""
    add = parser.add_argument
    add("--data", required=True, help="prepared records with captions and meshes, of which the held-out split is used")
    add("--model", type=Path, required=True, metavar="DIR", help="exported weights of text_to_mesh.py")
    add("--hand-model", default="", metavar="FILE", help="MANO file of weights that know MANO")
    add("--count", type=int, default=COUNT, help="meshes a prompt")
    add("--limit", type=int, default=LIMIT, help="number of prompts")
    add("--iterations", type=command.positive(int), default=ITERATIONS, help="of decoding")
    add("--share", type=float, default=TOP_SHARE, help="of the codes, the likeliest, that tokens are drawn from")
    add("--seed", type=int, default=0, help="of the draws")
    add("--out", type=command.output_folder, help="folder for figures.json")
    add("--json", action="store_true", help="print one JSON document instead of lines")


def evaluate_text_to_mesh(arguments: argparse.Namespace, report: command.Report) -> None:
    """Prints the figures beside the paper's and writes them to `arguments.out`.

    Raises:
      ConfigError: a number out of its range.
      InputError: fewer than two prompts have a mesh.
    """
    if arguments.count < 1:
        raise ConfigError(f"--count is {arguments.count}; it must be at least 1")
    if not 0 < arguments.share <= 1:
        raise ConfigError(f"--share is {arguments.share}; it must be above 0 and at most 1")
    hand = load_hand(arguments.hand_model)
    writer = HandWriter(load_text_to_mesh(arguments.model), hand, arguments.iterations, arguments.share)
    wanted = wanted_hands(held_out_records(arguments.data), hand.name)
    prompts = sorted(wanted, key=lambda prompt: -len(wanted[prompt]))[: arguments.limit]
    parts = []
    for prompt in tqdm(prompts, "write", unit="prompt", disable=None):
        try:
            made = writer(prompt, arguments.count, arguments.seed)
        except InputError as error:
            report.error(prompt, error)
            continue
        vertices = np.stack([each.vertices for each in made])
        parts.append(WrittenPrompt(prompt, vertices, _vertices(hand, wanted[prompt][:RECORDS])))
    if len(parts) < 2:
        raise InputError(
            f"{arguments.data}: {len(parts)} captions of held-out records with a mesh of {hand.name}; it takes 2, so "
            "prepare more records, and ask by --limit for more prompts"
        )
    items = [{**figure, "paper": PAPER[figure["name"]]} for figure in written_figures(parts)]
    for item in items:
        report.item(item, describe(item))
    if arguments.out:
        names = ("count", "limit", "iterations", "share", "seed")
        settings = {"data": Path(arguments.data).name} | {name: getattr(arguments, name) for name in names}
        document = {"suite": "text_to_mesh", "figures": items, "settings": settings, **command.environment()}
        write_json(arguments.out / "figures.json", document)


def wanted_hands(records: Iterable[HandRecord], hand: str) -> Wanted:
    """Poses and shapes of captioned records by their captions, both as of right hands (DECISIONS B4)."""
    wanted: Wanted = {}
    for record in records:
        if record.hand_model != hand or record.pose is None or record.betas is None or not record.caption:
            continue
        left = record.side == "left"
        pose = np.asarray(mirror_pose(jnp.asarray(record.pose))) if left else record.pose
        prompt = swap_sides(record.caption) if left else record.caption
        wanted.setdefault(prompt, []).append((pose, record.betas))
    return wanted


def describe(item: dict[str, Any]) -> str:
    """Lines of a figure: ours, the paper's, and what it is to be compared with."""
    mean, deviation = item["paper"]
    ours = f"{item['name']:12} {item['value']:.4g} ± {item['deviation']:.4g}, the paper on ASL {mean:g} ± {deviation:g}"
    among = "unknown" if item["among_records"] is None else f"{item['among_records']:.4g}"
    return (
        f"{ours}; records of a prompt among each other {among}, to other prompts {item['other_prompts']:.4g} "
        f"({item['meshes']} meshes for {item['prompts']} prompts)"
    )


def _vertices(hand: HandModel, hands: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    pose, betas = (np.stack(values) for values in zip(*hands, strict=True))
    return np.asarray(jax.jit(pose_hands)(hand, axis_angle_to_matrix(jnp.asarray(pose)), betas).vertices)
