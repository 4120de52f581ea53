"""Plots of what MGHanD's guide logs by step."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PANELS = (("mask_area", "textual"), ("loss",))


def draw_log(axes: Any, log: Mapping[str, Sequence[float | None]]) -> None:
    """The mask's area and the adapter's strength, and the discriminator's loss, from the window's first step on.

    Args:
      axes: two.
      log: "t" of the steps, and by name what there was in each, None where nothing.
    """
    for panel, fields in zip(axes, PANELS, strict=True):
        for field in fields:
            known = [(t, value) for t, value in zip(log["t"], log[field], strict=True) if value is not None]
            panel.plot([t for t, _ in known], [value for _, value in known], marker=".", label=field)
        panel.invert_xaxis()
        panel.set(xlabel="t")
        panel.legend()


def plot_log(path: Path, log: Sequence[Mapping[str, float | None]]) -> None:
    """Draws one picture's log.

    Args:
      path: of the plot; its ending is the format.
      log: as `MGHandGuide.tell` has it, an entry a step.
    """
    from matplotlib.figure import Figure  # slow to import, and rarely asked for

    figure = Figure(figsize=(5, 5), layout="constrained")
    names = ("t", *(field for fields in PANELS for field in fields))
    draw_log(figure.subplots(2), {name: [entry[name] for entry in log] for name in names})
    figure.savefig(path)
