"""How much of a pose do its tokens keep? `python -m launch.evaluate --suite vq_mano [--model TOKENIZER ...]`.

Held-out random poses within the limits of motion, turned every way; with --data, those of prepared records, such as
fits to photographs, of which the tokenizer has seen none. Several tokenizers are measured on the same poses.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from tqdm import tqdm

from data_pipelines.features import open_records
from data_pipelines.poses import make_loader
from handjax.errors import ConfigError, InputError
from handjax.files import write_json
from handjax.hand.mano import load_hand
from handjax.hand.model import HandModel, mirror_pose
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.metrics.alignment import aligned_errors
from handjax.metrics.intervals import bootstrap_mean_interval
from handjax.recovery.files import ASSET, TOKENIZER
from handjax.recovery.posing import pose_hands
from handjax.recovery.quantizer import nearest_codes, perplexity
from handjax.recovery.tokenizer import Tokenizer, check_hand, load_tokenizer
from handjax.training.config import read_config
from launch import command
from launch.recovery_plots import plot_curves

BATCH = 256
LIMIT = 20_480
MILLIMETRES = 1000.0
SPLITS = ("train", "eval")
CURVE = "pa_mpjpe_mm"
"""The figure whose course over the steps is drawn."""

Poses = tuple[np.ndarray, np.ndarray]
"""Axis-angle [batch, 16, 3] and betas [batch, 10]."""


def add_vq_mano_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate_vq_mano` reads."""
    add = parser.add_argument
    models = "exported runs of vq_mano.py (default: the package's)"
    add("--model", type=Path, nargs="+", default=[ASSET / TOKENIZER], metavar="DIR", help=models)
    runs = "their training runs, whose errors by step are drawn in curve.png of --out"
    add("--runs", type=Path, nargs="+", default=[], metavar="DIR", help=runs)
    add("--data", help="prepared records, whose poses are taken in place of random ones")
    add("--hand-model", default="", metavar="FILE", help="MANO file of a tokenizer that knows MANO")
    add("--limit", type=int, default=LIMIT, help="number of poses")
    add("--out", type=command.output_folder, help="folder for figures.json")
    add("--json", action="store_true", help="print one JSON document instead of lines")


def evaluate_vq_mano(arguments: argparse.Namespace, report: command.Report) -> None:
    """Prints errors after FreiHAND's alignment and how the codes are used, and writes them to `arguments.out`.

    Raises:
      ConfigError: a tokenizer knows another hand model, two have the same sizes, or curves have no place to go.
      InputError: no record has a pose of the tokenizers' hand model, or a run has measured nothing.
    """
    if arguments.runs and not arguments.out:
        raise ConfigError("--runs are drawn in a folder; name it by --out")
    curves = read_curves(arguments.runs)
    hand = load_hand(arguments.hand_model)
    tokenizers = load_tokenizers(arguments.model, hand)
    items = []
    for sizes, tokenizer in tokenizers.items():
        poses = record_poses(arguments.data, hand.name) if arguments.data else random_poses(arguments.hand_model)
        for item in figures(*measure(tokenizer, hand, poses, arguments.limit)):
            items.append(item if len(tokenizers) == 1 else {**item, "name": f"{sizes}/{item['name']}"})
            report.item(items[-1], describe(items[-1]))
    if arguments.out:
        data = Path(arguments.data).name if arguments.data else "random"
        settings = {"data": data, "limit": arguments.limit, "models": list(tokenizers)}
        about = {"settings": settings, "curves": curves, **command.environment()}
        write_json(arguments.out / "figures.json", {"suite": "vq_mano", "figures": items, **about})
        if curves:
            plot_curves(arguments.out / "curve.png", curves, CURVE)


def load_tokenizers(paths: list[Path], hand: HandModel) -> dict[str, Tokenizer]:
    """Tokenizers by their sizes.

    Raises:
      ConfigError: one knows another hand model, or two have the same sizes.
    """
    found: dict[str, Tokenizer] = {}
    for path in paths:
        tokenizer = load_tokenizer(path)
        check_hand(tokenizer, hand)
        sizes = describe_sizes(tokenizer.network.tokens, *tokenizer.codebook.shape)
        if sizes in found:
            raise ConfigError(f"{path}: another tokenizer has {sizes} too; measure one at a time")
        found[sizes] = tokenizer
    return found


def describe_sizes(tokens: int, codes: int, dim: int) -> str:
    """What a tokenizer is called beside others."""
    return f"{tokens} tokens of {codes}×{dim}"


def measure(tokenizer: Tokenizer, hand: HandModel, poses: Iterator[Poses], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors of joints and vertices [2, poses], millimetres, of at most `limit` poses; how often each code is used."""

    @jax.jit
    @jax.default_matmul_precision("highest")
    def reconstruct(pose: jax.Array, betas: jax.Array) -> tuple[jax.Array, ...]:
        def run(method: str, value: jax.Array) -> Any:
            return tokenizer.network.apply({"params": tokenizer.params}, value, method=method)

        rotations = axis_angle_to_matrix(pose)
        tokens = nearest_codes(run("encode", rotations), tokenizer.codebook)
        made, truth = (pose_hands(hand, r, betas) for r in (run("decode", tokenizer.codebook[tokens]), rotations))
        pairs = ((made.keypoints, truth.keypoints), (made.vertices, truth.vertices))
        return tokens, *(aligned_errors(*pair) for pair in pairs)

    counts, errors, left = np.zeros(len(tokenizer.codebook)), [], limit
    with tqdm(total=left, unit="pose", disable=None) as bar:
        for pose, betas in poses:
            tokens, *far = jax.device_get(reconstruct(pose, betas))
            counts += np.bincount(tokens[:left].ravel(), minlength=len(counts))
            errors.append(MILLIMETRES * np.stack(far)[:, :left])
            taken = errors[-1].shape[1]
            bar.update(taken)
            left -= taken
            if left <= 0:
                break
    return np.concatenate(errors, axis=1), counts


def read_curves(runs: list[Path]) -> dict[str, dict[str, list[float]]]:
    """Of each run, the steps at which held-out poses were measured and the figure `CURVE` at each.

    Raises:
      ConfigError: a folder is not that of a run.
      InputError: a run has measured nothing.
    """
    curves = {}
    for run in runs:
        config, path = read_config(run), run / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [item for item in map(json.loads, lines) if f"eval/{CURVE}" in item]
        if not found:
            raise InputError(f"{path}: nothing of held-out poses; train vq_mano.py with --config.eval_every")
        sizes = describe_sizes(config.network.tokens, config.quantizer.codes, config.quantizer.dim)
        curves[sizes] = {"step": [item["step"] for item in found], CURVE: [item[f"eval/{CURVE}"] for item in found]}
    return curves


def figures(errors: np.ndarray, counts: np.ndarray) -> list[dict[str, Any]]:
    """Mean errors of joints and vertices in millimetres; share of the codes that are used, and their perplexity."""
    poses = errors.shape[1]
    means = [
        {"name": name, "value": float(row.mean()), "interval_95": bootstrap_mean_interval(row), "poses": poses}
        for name, row in zip(("pa_mpjpe_mm", "pa_mpvpe_mm"), errors, strict=True)
    ]
    of_codes = {"usage": float((counts > 0).mean()), "perplexity": float(perplexity(jnp.asarray(counts, jnp.float32)))}
    return means + [{"name": name, "value": value, "poses": poses} for name, value in of_codes.items()]


def describe(item: dict[str, Any]) -> str:
    """One line of a figure."""
    interval = "" if "interval_95" not in item else " [{:.4g}, {:.4g}]".format(*item["interval_95"])
    return f"{item['name']:40} {item['value']:.4g}{interval} of {item['poses']} poses"


def random_poses(hand_model: str) -> Iterator[Poses]:
    """Those of the "eval" split of vq_mano.py, the same for every run."""
    config = ml_collections.ConfigDict({"hand_model": hand_model})
    for batch in make_loader(config, {}, BATCH, seed=0, split="eval"):
        yield batch["pose"], batch["betas"]


def record_poses(path: str, hand: str) -> Iterator[Poses]:
    """Poses of records as right hands, from every split.

    Raises:
      InputError: there is none of the hand model.
    """
    sources = [source for source in (open_records(path, split) for split in SPLITS) if source is not None]
    records: Iterator[Any] = (record for source in sources for record in source if record.hand_model == hand)
    found = False
    while part := list(itertools.islice(records, BATCH)):
        found = True
        poses = [mirror_pose(jnp.asarray(r.pose)) if r.side == "left" else r.pose for r in part]
        yield np.stack(poses), np.stack([record.betas for record in part])
    if not found:
        raise InputError(f"{path}: no record has a pose of {hand}; prepare pictures with launch.precompute")
