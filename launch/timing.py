"""How benchmarks time ours beside a peer."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax


def interleaved(ours: Callable[[], Any], peer: Callable[[], Any], runs: int) -> list[tuple[float, float]]:
    """Seconds of (ours, peer), one after the other `runs` times, so that both see the same machine."""
    return [(seconds(ours), seconds(peer)) for _ in range(runs)]


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call, its result ready."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def summary(name: str, peer_name: str, times: list[tuple[float, float]]) -> dict[str, Any]:
    """The item of the JSON contract: medians of each and of the ratios of neighbouring runs."""
    ours, peer = zip(*times, strict=True)
    return {
        "name": name,
        "ours": statistics.median(ours),
        "peer": statistics.median(peer),
        "peer_name": peer_name,
        "ratio": statistics.median(a / b for a, b in times),
        "unit": "s",
        "runs": len(times),
    }
