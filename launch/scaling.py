"""Fits a cost model to reports of `launch.compile --json` and draws it: `python -m launch.scaling FILE… --out PNG`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from handjax.errors import InputError
from handjax.training.cost_model import CostModel, fit
from handjax.training.roofline import CHIPS, GIB
from launch import command

# Chips that are drawn, by the beginning of JAX's `device_kind`, and what Cloud TPU calls them.
DRAWN = {"TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v6 lite": "v6e"}
WIDTHS = (1, 64)
CHIP_COUNTS = [2**n for n in range(1, 11)]
GLOBAL_BATCHES = (8, 256, 2048)


def main() -> int:
    """Prints the model beside what it was fitted to, and draws it."""
    parser = argparse.ArgumentParser(prog="launch.scaling", description=__doc__, allow_abbrev=False)
    parser.add_argument("reports", nargs="+", type=Path, metavar="FILE", help="documents of launch.compile --json")
    parser.add_argument("--out", type=command.output_file, required=True, metavar="PNG", help="where the picture goes")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    items = read_items(arguments.reports)
    model = fit(items)
    report = command.Report("scaling", arguments.json)
    for item in items:
        row = compare(model, item)
        report.item(row, "  ".join(f"{name} {value}" for name, value in row.items()))
    draw(model, items, arguments.out)
    return report.finish(model=_lines(model), picture=str(arguments.out))


def read_items(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns the compiled steps that fit and keep whole weights on every chip, all computed alike.

    Raises:
        InputError: a file is no report, or there are too few steps.
    """
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            found += json.loads(path.read_text())["items"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: no report of launch.compile --json ({error}); make one") from error
    whole = [item for item in found if item["fits"] and _cut(item) == (1, 1)]
    alike = [item for item in whole if item["settings"] == whole[0]["settings"]]
    if len({item["batch_size"] / item["chips"] for item in alike}) < 2:
        raise InputError(f"{paths[0]}: a line needs steps of two batches a chip, with the same settings; compile more")
    return alike


def _cut(item: dict[str, Any]) -> tuple[int, int]:
    return item["settings"]["parallel.fsdp"], item["settings"]["parallel.model"]


def compare(model: CostModel, item: dict[str, Any]) -> dict[str, Any]:
    """A compiled step's figures, and by how much the model is off, as a share of them."""
    batch = item["batch_size"] / item["chips"]
    predicted = {
        "hbm_peak_gib": model.memory(batch),
        "hbm_traffic_gib": model.traffic(batch),
        "tflop_executed_per_chip": model.executed(batch),
    }
    row = {"topology": item["topology"], "chips": item["chips"], "batch_a_chip": batch}
    for name, value in predicted.items():
        row |= {name: round(item[name], 3), f"{name}_off": round(value / item[name] - 1, 3)}
    sent = sum(item["collective_gib"].values())
    return row | {"sent_gib": round(sent, 4), "sent_gib_off": round(model.sent(item["chips"]) / sent - 1, 3)}


def _lines(model: CostModel) -> dict[str, Any]:
    lines = {name: getattr(model, name) for name in ("memory", "traffic", "model", "executed")}
    return {name: {"fixed": line.fixed, "slope": line.slope} for name, line in lines.items()} | {
        "reduced_gib": model.reduced
    }


def draw(model: CostModel, items: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws memory and use of a chip over the batch a chip, and examples a second over the number of chips."""
    figure, (memory, use, scaling) = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    _draw_memory(memory, model, items)
    _draw_use(use, model)
    _draw_scaling(scaling, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_memory(axes: Axes, model: CostModel, items: Sequence[dict[str, Any]]) -> None:
    batches = np.geomspace(*WIDTHS)
    axes.plot(batches, [model.memory(batch) for batch in batches], color="black", label="model")
    for kind, name in DRAWN.items():
        points = [(i["batch_size"] / i["chips"], i["hbm_peak_gib"]) for i in items if i["device_kind"] == kind]
        (dots,) = axes.plot(*np.reshape(points, (-1, 2)).T, "o", label=f"compiled for {name}")
        axes.axhline(CHIPS[kind].hbm / GIB, color=dots.get_color(), linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="examples a chip", title="GiB a chip; dotted: what the chips have")
    axes.legend()


def _draw_use(axes: Axes, model: CostModel) -> None:
    batches = np.geomspace(*WIDTHS)
    for kind, name in DRAWN.items():
        chip = CHIPS[kind]
        fits = [batch for batch in batches if batch <= model.largest_batch(chip)]
        axes.plot(fits, [model.mfu(chip, 256, batch) for batch in fits], label=name)
    axes.set(xscale="log", ylim=(0, 1), xlabel="examples a chip", title="bound of MFU, 256 chips, where it fits")
    axes.legend()


def _draw_scaling(axes: Axes, model: CostModel) -> None:
    chip = CHIPS["TPU v5 lite"]
    for total in GLOBAL_BATCHES:
        chips = [n for n in CHIP_COUNTS if model.largest_batch(chip) >= total / n >= 1]
        rates = [total / model.step(chip, n, total / n).seconds for n in chips]
        axes.plot(chips, rates, "o-", label=f"{total} examples in all")
    batch = float(model.largest_batch(chip))
    rates = [n * batch / model.step(chip, n, batch).seconds for n in CHIP_COUNTS]
    axes.plot(CHIP_COUNTS, rates, "k--", label=f"{batch:g} examples a chip")
    axes.set(xscale="log", yscale="log", xlabel="chips (v5e)", title="bound of examples a second")
    axes.legend()


if __name__ == "__main__":
    command.run(main)
