"""Tables of made-up figures: orders, intervals over seeds, rows that were not run."""

import pytest

from launch.paper_tables.page import combine, compare_orders, document_of, markdown
from launch.paper_tables.rows import TABLES, Column, Row, Setting, Table, settings_of

ERROR, SURE = Column("Error", "error"), Column("Sure", "sure", "most")
A, B, C = (Setting(name, "alone", None) for name in "abc")
TABLE = Table(
    "A paper, Table 9",
    (ERROR, SURE),
    (
        Row("first", A, {"Error": 1.0, "Sure": 0.9}),
        Row("second", B, {"Error": 2.0, "Sure": 0.8}),
        Row("third", C, {"Error": 3.0, "Sure": 0.7}),
        Row("closed", None, {"Error": 0.5, "Sure": 0.95}),
    ),
)


def item(name, value, low, high):
    return {"name": name, "value": value, "interval_95": [low, high]}


def figures(error, sure, reach=0.1):
    items = [item("error (Mean)", error, error - reach, error + reach), item("sure", sure, sure - reach, sure + reach)]
    return {item["name"]: item for item in items}


def orders(a, b, c):
    return document_of(TABLE, {A: [a], B: [b], C: [c]})["orders"]


def test_the_same_order_is_said_of_the_least_and_of_the_most():
    error, sure = orders(figures(1, 0.9), figures(5, 0.5), figures(7, 0.1))
    assert error == "error (Mean) against the paper's Error: same order."
    assert sure == "sure against the paper's Sure: same order."


def test_another_order_is_said_with_how_sure_it_is():
    error, sure = orders(figures(5, 0.9), figures(1, 0.5), figures(5.1, 0.55))
    assert error == (
        "error (Mean) against the paper's Error: ordering differs, best first second < first < third; in the paper "
        "first < second < third (1 of 3 pairs reversed, 1 of them with intervals that do not overlap)."
    )
    assert "best first first < third < second" in sure and "1 of 3 pairs reversed, their intervals overlap" in sure


def test_rows_without_a_figure_have_no_place_in_an_order():
    nothing = {"error (Mean)": item("error (Mean)", None, 0, 0) | {"interval_95": None}}
    error, *sure = orders(figures(5, 0.9), figures(1, 0.5), nothing)
    assert "best first second < first;" in error and "1 of 1 pairs" in error
    assert len(sure) == 1 and "third" not in sure[0]
    assert compare_orders(ERROR, [{"name": "x", "paper": {"Error": 1.0}, "figures": {}}]) == ""


def test_seeds_are_averaged_and_their_bounds_are_the_outermost():
    both = combine([item("error", 1.0, 0.5, 1.2), item("error", 3.0, 2.0, 4.0)])
    assert both == {"name": "error", "value": 2.0, "interval_95": [0.5, 4.0]}
    assert combine([item("error", 1.0, 0.5, 1.2), {}])["value"] is None


def test_the_page_has_both_figures_in_a_row():
    document = document_of(TABLE, {A: [figures(1, 0.9)], B: [figures(2, 0.8)], C: [figures(3, 0.7)]})
    lines = markdown(document).splitlines()
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells[:3] == ["", "error (Mean)", "sure"] and cells[-2:] == ["paper: Error", "paper: Sure"]
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[4:8]}
    assert rows["first"][:2] == ["1 [0.9, 1.1]", "0.9 [0.8, 1]"] and rows["first"][-2:] == ["1", "0.9"]
    assert rows["closed"][0] == "not run" and rows["closed"][-2:] == ["0.5", "0.95"]
    assert {len(cells) for cells in rows.values()} == {len(lines[2].split("|")) - 3}


@pytest.mark.parametrize("title, best", [("Table 1", "SGMHand"), ("Table 4", "both"), ("SesaHand, ablation", "+ SE")])
def test_the_papers_figures_have_the_papers_best_row(title, best):
    """As the papers' text says of them."""
    (table,) = (table for table in TABLES if title in table.title)
    for column in table.columns:
        sign = -1 if column.best == "most" else 1
        assert min(table.rows, key=lambda row: sign * row.paper[column.paper]).name.startswith(best)


def test_rows_of_one_setting_are_run_once_and_beside_those_of_their_training():
    one, both = settings_of(TABLES, 1), settings_of(TABLES, 2)
    rows = sum(bool(row.setting and row.setting.test < 2) for table in TABLES for row in table.rows)
    assert len(both) == len(set(both)) < rows and {setting.test for setting in one} == {0}
    assert len(both) == len(one) + 4
    trainings = [setting.training for setting in both]
    changes = sum(a != b for a, b in zip(trainings, trainings[1:], strict=False))
    assert changes + 1 == len(set(trainings)) == 15  # one of them: no training
