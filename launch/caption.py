"""Captions pictures by what people's hands do: pose, action, hand action, environment (SesaHand).

python -m launch.caption photos/ --out captions.jsonl
python -m launch.caption photos/ --out captions.jsonl --backend local --model smolvlm
python -m launch.caption photos/ --out captions.jsonl --backend endpoint --url http://localhost:8000/v1 --model NAME
python -m launch.caption photos/ --out captions.jsonl --backend local --model llava-onevision --style mmhmr
python -m launch.precompute photos/ --captions captions.jsonl

Captions that the pictures came with (captions.json, captions.csv, a .txt beside each) are taken up by the rules, and
kept where a model fails. A run goes on where it was killed, and a picture that was captioned is not captioned again.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

import handjax
from data_pipelines.captions import Captions
from handjax.captioning import hand_phrases, picture, prompts, rules
from handjax.captioning.endpoint import Endpoint
from handjax.captioning.failures import NoAnswer
from handjax.captioning.local import MODELS, LocalModel
from handjax.captioning.picture import Picture
from handjax.captioning.refinement import Answered, Refined, Refinement, compose
from handjax.captioning.report import ABOUT_CLIPS, Length, ValidationReport
from handjax.diffusion.model import find_model
from handjax.diffusion.tokenizer import Tokenizer
from handjax.errors import ConfigError, InputError
from handjax.files import atomic_write
from handjax.images import decode_image, find_images
from handjax.inference.journal import Journal
from handjax.perception import HandDetector
from handjax.perception.detector import TASK_FILE
from launch import command

KEY_VARIABLE = "HANDJAX_API_KEY"
DEFAULT_LOCAL = "smolvlm"
Result = str | InputError
"""The key of a picture's entry in the cache, or why it cannot be read."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Captions pictures one by one, from any number of threads.

    Attributes:
      refine: makes the caption of a picture.
      detector: finds hands where they are needed.
      cache: entries by the content of the picture and its given caption; one is written down as soon as it is there,
        whatever becomes of the pictures before it.
    """

    refine: Callable[[Picture], Refined]
    detector: HandDetector
    cache: Journal

    def caption(self, path: Path, given: str) -> Result:
        """Captions one picture, unless the cache has it; one that a model did not answer on is asked again."""
        try:
            data = path.read_bytes()
            key = hashlib.sha256(hashlib.sha256(data).digest() + given.encode()).hexdigest()
            if not self.cache.has(key) or self.cache.digest(key) == NoAnswer.status:
                refined = self.refine(Picture(decode_image(data, str(path)), given, self.detector.detect))
                self.cache.add(key, refined.status, _entry(refined))
        except OSError as error:
            return InputError(f"{path}: cannot be read ({error.strerror}); give a picture that you may read")
        except InputError as error:
            return error
        return key


def main() -> int:
    """Captions every picture and prints what became of them; returns the exit status."""
    arguments = _parse_arguments()
    report, validation = command.Report("caption", arguments.json), ValidationReport(_length(arguments.tokenizer))
    refine, identity = _backend(arguments)
    pictures = _pictures(arguments.paths, report)
    with Journal(_cache(arguments.out, identity), identity) as cache:
        batch = Batch(refine, HandDetector.load(max_hands=arguments.max_hands), cache)
        keys: dict[Path, str] = {}
        for path, result in _run(batch, pictures, arguments.workers):
            if isinstance(result, InputError):
                report.error(str(path), result)
                continue
            keys[path], entry = result, cache.read(result)
            validation.add(entry["caption"], entry["status"])
            report.item({"input": str(path), **entry}, f"{path}  {entry['status']}  {entry['caption']}")
        if keys:
            _write(arguments.out, ((path, cache.read(key)) for path, key in keys.items()))
    if not arguments.json:
        print(validation.lines())
    return report.finish(summary=validation.summary(), backend=identity)


def _length(tokenizer: str | None) -> Length:
    """What is over-long: by a tokenizer's own count where one is named. Raises WeightsError where there is none."""
    if tokenizer is None:
        return ABOUT_CLIPS
    reader = Tokenizer(str(find_model(tokenizer)))
    reader.bare("")  # read before any work
    return Length(reader.room, "tokens", lambda caption: len(reader.bare(caption)))


def _write(out: Path, entries: Iterable[tuple[Path, dict[str, Any]]]) -> None:
    """Writes a line a picture, with its path relative to the file, atomically."""
    folder = out.resolve().parent
    with atomic_write(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        for path, entry in entries:
            place = Path(os.path.relpath(path.resolve(), folder)).as_posix()
            file.write(json.dumps({"input": place, **entry}, ensure_ascii=False) + "\n")


def _run(batch: Batch, pictures: dict[Path, str], workers: int) -> Iterator[tuple[Path, Result]]:
    """The pictures in order with their results, under a progress bar."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            results = pool.map(batch.caption, pictures.keys(), pictures.values())
            yield from tqdm(zip(pictures, results, strict=True), "caption", len(pictures), unit="picture", disable=None)
        finally:
            pool.shutdown(cancel_futures=True)


def _backend(arguments: argparse.Namespace) -> tuple[Callable[[Picture], Refined], dict[str, Any]]:
    """What makes the captions, and all that they depend on."""
    identity = {
        "backend": arguments.backend,
        "version": handjax.__version__,
        "max_hands": arguments.max_hands,
        "detector": hashlib.sha256(TASK_FILE.read_bytes()).hexdigest(),
    }
    if arguments.backend == "rules":
        code = (Path(module.__file__ or "").read_text() for module in (rules, hand_phrases, picture))
        return rules.rule_refinement(), identity | {"rules": _hash(*code)}
    ask: prompts.Ask
    if arguments.backend == "local":
        ask = LocalModel.load(arguments.model)
        identity |= {"model": MODELS.get(arguments.model, arguments.model)}
    else:
        key = os.environ.get(KEY_VARIABLE, "")
        ask = Endpoint(arguments.url, arguments.model, key, arguments.timeout, arguments.retries)
        identity |= {"model": arguments.model, "url": arguments.url}
    if arguments.style == "mmhmr":
        answered = Answered(prompts.captioner(ask, prompts.HAND_POSE), rules.plain_caption)
        return answered, identity | {"prompts": _hash(prompts.HAND_POSE)}
    identity |= {"prompts": _hash(prompts.CAPTION, prompts.EXTRACTION)}
    return Refinement(prompts.captioner(ask), prompts.extractor(ask), compose, rules.plain_caption), identity


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _cache(out: Path, identity: dict[str, Any]) -> Path:
    """A file for each backend, model and version, so that trying another one costs no earlier captions."""
    return out.with_name(f".{out.name}.{_hash(json.dumps(identity))[:12]}.cache")


def _pictures(names: list[Path], report: command.Report) -> dict[Path, str]:
    """All pictures with the captions they came with, each once."""
    captions_beside = functools.cache(lambda folder: Captions.load(folder, subfolders=False))
    pictures: dict[Path, str] = {}
    for name in names:
        try:
            whole = Captions.load(name) if name.is_dir() else None
            for path in find_images([name]):
                captions, folder = (whole, name) if whole else (captions_beside(path.parent), path.parent)
                pictures.setdefault(path, captions.given_to(path.relative_to(folder).as_posix()))
        except InputError as error:
            report.error(str(name), error)
    return pictures


def _entry(refined: Refined) -> dict[str, Any]:
    semantics = dataclasses.asdict(refined.semantics) if refined.semantics else None
    return {
        "caption": refined.caption,
        "status": refined.status,
        "reason": refined.reason,
        "semantics": semantics,
        "description": refined.description,
    }


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.caption", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="IMAGE|DIR", help="pictures, or folders of them")
    parser.add_argument("--out", type=command.output_file, required=True, metavar="FILE.jsonl", help="a line a picture")
    parser.add_argument("--backend", choices=["rules", "local", "endpoint"], default="rules", help="rules: no model")
    parser.add_argument("--model", help=f"local: {', '.join(MODELS)}, a hub id or a folder; endpoint: its name there")
    parser.add_argument("--url", help=f"of an API like OpenAI's, as http://localhost:8000/v1; key in {KEY_VARIABLE}")
    style = "sesahand: four fields of what people do (default); mmhmr: a model's answer on the hand's pose"
    parser.add_argument("--style", choices=["sesahand", "mmhmr"], default="sesahand", help=style)
    tokenizer = "whose tokenizer/ counts what is over-long (default: by words)"
    parser.add_argument("--tokenizer", metavar="FOLDER", help=tokenizer)
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds to wait for an endpoint")
    parser.add_argument("--retries", type=int, default=2, metavar="N", help="how often to ask an endpoint again")
    parser.add_argument("--workers", type=int, metavar="N", help="pictures at a time (default: 4 with an endpoint)")
    parser.add_argument("--max-hands", type=int, default=2, metavar="N", help="to look for in a picture")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    if arguments.backend == "endpoint" and not (arguments.url and arguments.model):
        raise ConfigError("--backend endpoint needs --url and --model")
    if arguments.backend == "rules" and arguments.model:
        raise ConfigError("--model is not for the rules; add --backend local or --backend endpoint")
    if arguments.backend == "rules" and arguments.style == "mmhmr":
        raise ConfigError("--style mmhmr asks a model; add --backend local or --backend endpoint")
    if arguments.backend != "endpoint" and arguments.url:
        raise ConfigError("--url is of an endpoint; add --backend endpoint")
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers {arguments.workers}: must be at least 1")
    arguments.model = arguments.model or DEFAULT_LOCAL
    arguments.workers = arguments.workers or (4 if arguments.backend == "endpoint" else 1)
    return arguments


if __name__ == "__main__":
    command.run(main)
