"""Plots of the figures of mesh recovery."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from handjax.files import atomic_write

DPI = 120


def plot_decoding(path: Path, hidden: Float[np.ndarray, " T"], confidence: Float[np.ndarray, " T"]) -> None:
    """Tokens that are hidden before each iteration, and how sure the network is of those it then predicts.

    Args:
        path: of the picture.
        hidden: mean numbers of tokens.
        confidence: mean probabilities.

    Source: MMHMR Fig. 9.
    """
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    left, iterations = figure.subplots(), np.arange(1, len(hidden) + 1)
    left.bar(iterations, hidden, color="lightgrey")
    left.set(xlabel="iteration", ylabel="hidden tokens", xticks=iterations)
    right = left.twinx()
    right.plot(iterations, confidence, "o-", color="tab:green")
    right.set_ylabel("mean confidence", color="tab:green")
    right.set_ylim(0, 1)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def plot_reliability(path: Path, curves: dict[str, dict[str, Any]]) -> None:
    """How often tokens are right, by the probability that they had.

    Args:
        path: of the picture.
        curves: by name, "counts", "confidence" and "frequency" of bins (`metrics.calibration.ReliabilityCurve`).
    """
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="lightgrey")
    for name, curve in curves.items():
        held = np.asarray(curve["counts"]) > 0
        axes.plot(np.asarray(curve["confidence"])[held], np.asarray(curve["frequency"])[held], "o-", label=name)
    axes.set(xlabel="confidence of tokens", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def plot_curves(path: Path, curves: dict[str, dict[str, Any]], measure: str) -> None:
    """How an error falls while tokenizers are trained.

    Args:
        path: of the picture.
        curves: by name, values by "step" and `measure`.
        measure: name of the error.
    """
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(curve["step"], curve[measure], "o-", markersize=3, label=name)
    axes.set(xlabel="step", ylabel=measure, yscale="log")
    axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
