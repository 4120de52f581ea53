"""Reads what runs have reported, to compare them."""

import json
from pathlib import Path

TIMES = ("step_seconds", "examples_per_second", "data_wait", "goodput")


def read_reports(workdir: Path) -> list[dict[str, float]]:
    """All that a run has reported but the times, which differ from run to run."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
