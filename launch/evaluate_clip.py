"""Do pictures show what they were asked to? `python -m launch.evaluate --suite clip --data DIR --clip-model FOLDER`.

A picture's prompt is the one it was made with (`launch.generate` writes it into the file), or its caption: of
`--captions`, of captions.json, captions.csv or a .txt beside it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_pipelines.captions import Captions
from handjax.errors import InputError
from handjax.files import write_json
from handjax.images import find_images, read_image, read_text
from handjax.metrics.clip import BATCH, ClipScorer
from handjax.metrics.intervals import bootstrap_mean_interval
from launch import command


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate_clip` reads."""
    parser.add_argument("--data", required=True, help="folder of pictures")
    parser.add_argument(
        "--clip-model",
        required=True,
        type=Path,
        metavar="DIR",
        help="in transformers' layout: openai/clip-vit-base-patch16",
    )
    parser.add_argument("--captions", type=Path, metavar="FILE.jsonl", help="what launch.caption wrote")
    parser.add_argument("--limit", type=int, help="number of pictures (default: all)")
    parser.add_argument("--out", type=command.output_folder, help="folder for figures.json")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def evaluate_clip(arguments: argparse.Namespace, report: command.Report) -> None:
    """Prints the mean CLIP score with its interval, and writes it to `arguments.out`; unusable pictures are counted.

    Raises:
        WeightsError: the CLIP model is missing, damaged or of another network.
        InputError: a folder has no pictures, or none of them can be used.
    """
    scorer = ClipScorer.load(arguments.clip_model)
    folder = Path(arguments.data)
    captions = Captions.load(folder, refined=arguments.captions)
    paths = find_images([folder])[: arguments.limit]
    scores, cut, unusable = [], 0, 0
    for start in tqdm(range(0, len(paths), BATCH), "read", unit="batch", disable=None):
        pairs = []
        for path in paths[start : start + BATCH]:
            try:
                pairs.append((read_image(path), prompt_of(path, folder, captions)))
            except InputError as error:
                report.error(str(path), error)
                unusable += 1
        if pairs:
            images, prompts = zip(*pairs, strict=True)
            scores += scorer(images, prompts).tolist()
            cut += sum(scorer.cut(prompts))
    if not scores:
        raise InputError(f"{folder}: none of its {len(paths)} pictures can be scored; the lines above say why")
    item = {
        "name": "CLIP score",
        "value": float(np.mean(scores)),
        "interval_95": bootstrap_mean_interval(np.array(scores)),
        "pictures": len(scores),
        "prompts_cut_off": cut,
        "unusable": unusable,
    }
    report.item(item, describe(item))
    if arguments.out:
        settings = {"data": folder.name, "clip_model": arguments.clip_model.name, "limit": arguments.limit}
        document = {"suite": "clip", "figures": [item], "settings": settings, **command.environment()}
        write_json(arguments.out / "figures.json", document)


def prompt_of(path: Path, folder: Path, captions: Captions) -> str:
    """What a picture is to show.

    Raises:
        InputError: nothing tells it.
    """
    prompt = _written_prompt(path) or captions.given_to(path.relative_to(folder).as_posix())
    if not prompt:
        raise InputError(f"{path}: has no prompt; give captions by --captions, captions.json or a .txt beside it")
    return prompt


def _written_prompt(path: Path) -> str:
    """What `launch.generate` wrote into the file; "" where the text is another program's."""
    try:
        made_with = json.loads(read_text(path).get("handjax", "{}"))
    except (ValueError, RecursionError):
        return ""
    prompt = made_with.get("prompt") if isinstance(made_with, dict) else ""
    return prompt if isinstance(prompt, str) else ""


def describe(item: dict[str, Any]) -> str:
    """One line of figures."""
    low, high = item["interval_95"]
    line = f"{item['name']} {item['value']:.2f} [{low:.2f}, {high:.2f}] of {item['pictures']} pictures"
    return f"{line}, {item['unusable']} unusable; {item['prompts_cut_off']} prompts are cut off, being too long"
