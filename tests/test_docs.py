"""What docs/papers.md points to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [line.split(" | ") for line in (ROOT / "docs" / "papers.md").read_text().splitlines() if line.startswith("| ")]
ROWS = [row for row in ROWS if len(row) == 4 and row[0] != "| paper"]


def _find(file):
    return next((place for place in (ROOT / "handjax" / file, ROOT / file) if place.exists()), None)


def test_functions_are_where_they_are_said_to_be():
    missing = []
    for row in ROWS:
        for file, _, name in (words.partition(":") for words in re.findall(r"`([\w/]+\.py(?::[\w.]+)?)`", row[2])):
            place, last = _find(file), name.rpartition(".")[2]
            if place is None or not re.search(rf"^ *(def |class )?{last}\b", place.read_text(), re.MULTILINE):
                missing.append(f"{file}:{name}")
    assert not missing and len(ROWS) > 100


def test_tests_are_where_they_are_said_to_be():
    """`::test_this` is of the file that was named last."""
    missing, file = [], ""
    for row in ROWS:
        for named, test in re.findall(r"`([\w/]*test_\w+\.py)?(?:::(\w+))?`", row[3]):
            file = named or file
            place = ROOT / "tests" / file
            if test and f"def {test}(" not in place.read_text() or not place.is_file():
                missing.append(f"{file}::{test}")
    assert not missing


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]
