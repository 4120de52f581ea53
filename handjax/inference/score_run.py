"""Many pictures scored by several processes, in order, going on where a killed run stopped."""

import dataclasses
import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import handjax
from handjax.anatomy.head import ASSET, HandHead
from handjax.anatomy.limits import MOST_MISFIT
from handjax.anatomy.scores import THRESHOLD
from handjax.inference.drawings import RULE
from handjax.inference.journal import Journal
from handjax.inference.score import (
    BORDER_MARGIN,
    LEAST_SUPPORT,
    SURE_OF_SIDE,
    SURELY_NORMAL,
    TINY_SIDE,
    HeadCounter,
)
from handjax.inference.score_pictures import Item, PictureScorer, ScoreOptions
from handjax.inference.score_sources import Source
from handjax.perception.detector import TASK_FILE

FEW = 32
"""Fewer pictures than these are not worth the seconds that processes take to start."""
_AHEAD = 8  # sources handed out before their turn, a worker

_scorer: PictureScorer


def run(sources: Sequence[Source], options: ScoreOptions, workers: int, journal: Journal) -> Iterator[list[Item]]:
    """Scores sources and writes them down in the journal, whose results are taken where the content is the same.

    Args:
      sources: what to score.
      options: how; the journal's header must tell these from others.
      workers: number of processes; with 1, or few pictures, this process does the work.
      journal: where results are written down.

    Yields:
      Each source's items, in the order of `sources`, whatever the number of workers.
    """
    todo = [source for source in sources if source.known is None and not _is_done(source, journal)]
    alone = workers == 1 or (len(todo) < FEW and not options.video)
    fresh = _score_here(todo, options) if alone else _score_apart(todo, options, workers)
    waiting = {source.path for source in todo}
    for source in sources:
        if source.known is not None:
            journal.add(str(source.path), "", [source.known])
        elif source.path in waiting:
            journal.add(str(source.path), *next(fresh))
        yield journal.read(str(source.path))


def provenance(options: ScoreOptions) -> dict[str, Any]:
    """What a result comes from; results of the same provenance and picture are the same.

    The hash of the code holds all limits and rules, also those that have no line of their own here.
    """
    weights = Path(options.detections or TASK_FILE)
    return {
        "version": handjax.__version__,
        "code_sha256": code_hash(Path(handjax.__file__).parent),
        "detector": options.detections or TASK_FILE.name,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None,
        "head_sha256": hashlib.sha256(ASSET.read_bytes()).hexdigest(),
        "threshold": THRESHOLD,
        "most_misfit": MOST_MISFIT,
        "least_support": LEAST_SUPPORT,
        "surely_normal": SURELY_NORMAL,
        "sure_of_side": SURE_OF_SIDE,
        "border_margin": BORDER_MARGIN,
        "tiny_side": TINY_SIDE,
        "drawing_rule": RULE,
        **dataclasses.asdict(options),
    }


def code_hash(package: Path) -> str:
    """Hash of a package's modules and their names."""
    digest = hashlib.sha256()
    for module in sorted(package.rglob("*.py")):
        digest.update(module.relative_to(package).as_posix().encode() + b"\0" + module.read_bytes() + b"\0")
    return digest.hexdigest()


def without_thumbnails(items: Iterable[Item]) -> list[Item]:
    """Items as the JSON contract has them."""
    return [{name: value for name, value in item.items() if name != "thumbnails"} for item in items]


def _is_done(source: Source, journal: Journal) -> bool:
    name = str(source.path)
    return journal.has(name) and journal.digest(name) == source.digest()


def _score_here(sources: Iterable[Source], options: ScoreOptions) -> Iterator[tuple[str, list[Item]]]:
    scorer = PictureScorer(options, HeadCounter(HandHead.load()))
    for source in sources:
        yield source.digest(), scorer.score(source.path)


def _score_apart(sources: Sequence[Source], options: ScoreOptions, workers: int) -> Iterator[tuple[str, list[Item]]]:
    # their JAX reads it when it starts: threads of several processes are in each other's way
    os.environ.setdefault("NPROC", str(max(1, (os.cpu_count() or 1) // workers)))
    context = multiprocessing.get_context("spawn")  # XLA's threads do not survive a fork
    with ProcessPoolExecutor(workers, context, _start_worker, (options,)) as pool:
        pending: deque[Future[Any]] = deque()
        for source in sources:
            pending.append(pool.submit(_score_in_worker, source))
            if len(pending) > _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _start_worker(options: ScoreOptions) -> None:
    global _scorer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    _scorer = PictureScorer(options, HeadCounter(HandHead.load()))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _score_in_worker(source: Source) -> tuple[str, list[Item]]:
    return source.digest(), _scorer.score(source.path)
