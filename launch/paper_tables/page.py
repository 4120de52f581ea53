"""What came out, beside the papers' figures: rows, whether their order is the papers', and a page in Markdown."""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from launch.paper_tables.rows import Column, Row, Table

LABELS = {
    "mpjpe_2d_px_self": "MPJPE, px",
    "mse_3d_cm2_self": "MSE-3D, cm²",
    "hand_confidence": "hand confidence",
    "detection_rate": "hands found",
}
Figures = Mapping[str, Mapping[str, Any]]
"""Items of `launch.evaluate` by name."""
Measured = Mapping[Hashable, Sequence[Figures]]
"""Of each setting that was run, for each seed."""


def document_of(table: Table, measured: Measured) -> dict[str, Any]:
    """A table as JSON: its rows with our figures and the paper's, and what is said of their order."""
    columns = list(dict.fromkeys((*table.columns, *table.also)))
    rows = [_row(row, columns, measured) for row in table.rows]
    orders = [compare_orders(column, rows) for column in table.columns]
    return {
        "title": table.title,
        "note": table.note,
        "columns": [{"paper": column.paper, "ours": _label(column, rows)} for column in columns],
        "rows": rows,
        "orders": [line for line in orders if line],
    }


def _row(row: Row, columns: Sequence[Column], measured: Measured) -> dict[str, Any]:
    seeds = measured.get(row.setting, ()) if row.setting else ()
    found = {column.ours: [_find(figures, column) for figures in seeds] for column in columns if seeds}
    return {"name": row.name, "figures": {name: combine(items) for name, items in found.items()}, "paper": row.paper}


def _find(figures: Figures, column: Column) -> Mapping[str, Any]:
    """The figure of a column; an empty one where the pictures were too few for it, or show no hand."""
    return next((item for name, item in figures.items() if name.startswith(column.ours)), {})


def combine(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over seeds, and the interval from the least to the greatest bound of theirs; None where one has none."""
    names = {item["name"] for item in items if "name" in item}
    if any(item.get("value") is None for item in items):
        return {"name": min(names, default=None), "value": None, "interval_95": None}
    low, high = zip(*(item["interval_95"] for item in items), strict=True)
    value = float(np.mean([item["value"] for item in items]))
    return {"name": min(names), "value": value, "interval_95": [min(low), max(high)]}


def compare_orders(column: Column, rows: Sequence[Mapping[str, Any]]) -> str:
    """Says whether the rows that were run have the paper's order, best first; "" where fewer than two have figures."""
    both = [row for row in rows if column.paper in row["paper"] and _value(row, column) is not None]
    if len(both) < 2:
        return ""
    sign = -1 if column.best == "most" else 1
    ours = sorted(both, key=lambda row: sign * _value(row, column))
    papers = sorted(both, key=lambda row: sign * row["paper"][column.paper])
    name = f"{_label(column, rows)} against the paper's {column.paper}"
    reversed_pairs = [
        (better, worse)
        for better, worse in itertools.combinations(papers, 2)
        if sign * _value(better, column) > sign * _value(worse, column)
        and better["paper"][column.paper] != worse["paper"][column.paper]
    ]
    if not reversed_pairs:
        return f"{name}: same order."
    apart = [pair for pair in reversed_pairs if _are_apart(*pair, column)]
    pairs = len(both) * (len(both) - 1) // 2
    said = "their intervals overlap" if not apart else f"{len(apart)} of them with intervals that do not overlap"
    return (
        f"{name}: ordering differs, best first {_names(ours)}; in the paper {_names(papers)} "
        f"({len(reversed_pairs)} of {pairs} pairs reversed, {said})."
    )


def _value(row: Mapping[str, Any], column: Column) -> Any:
    return row["figures"].get(column.ours, {}).get("value")


def _are_apart(a: Mapping[str, Any], b: Mapping[str, Any], column: Column) -> bool:
    (low_a, high_a), (low_b, high_b) = (row["figures"][column.ours]["interval_95"] for row in (a, b))
    return high_a < low_b or high_b < low_a


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    return " < ".join(row["name"] for row in rows)


def _label(column: Column, rows: Sequence[Mapping[str, Any]]) -> str:
    """Our name of a figure, with the extractor where one has made it."""
    found = (row["figures"].get(column.ours, {}).get("name") for row in rows)
    name = next(filter(None, found), column.ours.strip())
    return LABELS.get(name, name)


def markdown(document: Mapping[str, Any]) -> str:
    """A table with its note and orders."""
    columns = [column["ours"] for column in document["columns"]]
    papers = [column["paper"] for column in document["columns"] if _in_paper(column["paper"], document["rows"])]
    lines = [
        f"| | {' | '.join([*columns, *(f'paper: {name}' for name in papers)])} |",
        "|---" * (1 + len(columns) + len(papers)) + "|",
    ]
    for row in document["rows"]:
        ours = [_cell(figure) for figure in row["figures"].values()] or ["not run"] + [""] * (len(columns) - 1)
        lines.append(f"| {' | '.join([row['name'], *ours, *(_number(row['paper'].get(name)) for name in papers)])} |")
    notes = [document["note"]] if document["note"] else []
    return "\n".join([f"## {document['title']}", "", *lines, "", *(f"- {line}" for line in notes + document["orders"])])


def _in_paper(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(name in row["paper"] for row in rows)


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "none"
    low, high = figure["interval_95"]
    return f"{figure['value']:.4g} [{low:.4g}, {high:.4g}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
