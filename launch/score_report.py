"""The HTML report of `launch.score`: one file that needs nothing else."""

import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, get_args

import numpy as np

from handjax.anatomy.scores import THRESHOLD, Verdict
from handjax.files import atomic_write
from handjax.inference.score_pictures import ERROR, Item
from handjax.inference.score_summary import Tally
from launch.score_text import comparison_lines, found_note

TEMPLATE = Path(__file__).with_suffix(".html")
COLUMNS = {
    "Hand": "text",
    "Picture": "text",
    "Status": "text",
    "Strict": "text",
    "Paper": "text",
    "S_anat": "number",
    "What is wrong": "text",
    "Fingers": "number",
    "Side": "text",
    "Notes": "text",
}
_BINS, _BAR_WIDTH, _HEIGHT, _ROW = 20, 26, 110, 18
_MOST_PARTS = 12
INDEPENDENT = (
    "Intervals of shares (Wilson) and Fisher's test take hands as independent; those of one picture or of a clip's "
    "frames are not, and bootstrap intervals keep them together."
)


def write_report(
    path: Path,
    tallies: Sequence[Tally],
    comparison: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
    items: Iterable[Item],
) -> None:
    """Writes the report, row by row, atomically.

    Args:
      path: the HTML file.
      tallies: of each set.
      comparison: of the two sets, from `score_summary.compare`.
      provenance: what the figures come from, in order.
      items: of all sets, with `thumbnails`; read once.
    """
    head, _, foot = TEMPLATE.read_text().partition("<!-- rows -->\n")
    cards = [_set_card(tally) for tally in tallies]
    cards += [_card("Comparison", _list(dict(comparison_lines(comparison))))] if comparison else []
    cards.append(_card("Provenance", _list(provenance)))
    page = string.Template(head).substitute(
        title="Anatomy of hands",
        subtitle=f"{sum(tally.statuses.total() for tally in tallies):,} pictures, "
        f"{sum(tally.verdicts['strict'].total() for tally in tallies):,} hands",
        cards="\n".join(cards),
        columns="".join(f'<th data-kind="{k}"><button>{name}</button></th>' for name, k in COLUMNS.items()),
    )
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(page)
        for item in items:
            file.writelines(_rows(item))
        file.write(foot)


def _set_card(tally: Tally) -> str:
    strict, paper, mean = tally.rate("strict"), tally.rate("paper"), tally.mean()
    average = "–" if mean["mean"] is None else f"{mean['mean']:.3f}"
    interval = "" if mean["mean"] is None else f" [{mean['low']:.3f}, {mean['high']:.3f}]"
    figures = (
        _figure(strict, "hands implausible, strict")
        + _figure(tally.picture_rate("strict"), "pictures with such a hand")
        + _figure(paper, f"hands implausible as the paper says, S_anat &lt; {THRESHOLD}")
        + f'<div class="figure"><b>{average}</b>mean S_anat{interval}</div>'
    )
    counts = {f"pictures: {status}": count for status, count in tally.statuses.items()}
    counts |= {f"pictures with hands found by: {by}": n for by, n in tally.found_by.items()}
    for mode, verdicts in tally.verdicts.items():
        counts |= {f"hands {verdict}, {mode}": verdicts[verdict] for verdict in get_args(Verdict)}
    counts["fingers unknown, S_anat without their term"] = tally.fingers_unknown
    counts |= dict(tally.notes)
    return _card(
        f"Set {tally.name}: {tally.title}",
        f'<div class="figures">{figures}</div>'
        f'<p class="soft">{INDEPENDENT}</p>'
        f"<h3>S_anat of the hands judged</h3>{_score_histogram(tally.scores)}"
        f"<h3>Implausible hands, by what is wrong</h3>{_part_histogram(tally.violations)}"
        f"<h3>Counts</h3>{_list(counts)}",
    )


def _card(title: str, content: str) -> str:
    return f'<section class="card"><h2>{escape(title)}</h2>{content}</section>'


def _figure(rate: Mapping[str, Any], label: str) -> str:
    if not rate["of"]:
        return f'<div class="figure"><b>–</b>{label}; no hand judged</div>'
    interval = f"[{rate['low']:.1%}, {rate['high']:.1%}], {rate['count']} of {rate['of']}"
    return f'<div class="figure"><b>{rate["share"]:.1%}</b>{label}<br>{interval}</div>'


def _list(entries: Mapping[str, Any]) -> str:
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in entries.items())
    return f"<dl>{''.join(rows)}</dl>"


def _score_histogram(scores: Sequence[float]) -> str:
    counts = np.histogram(scores, bins=_BINS, range=(0, 1))[0]
    top, width = max(int(counts.max()), 1), _BINS * _BAR_WIDTH
    bars = []
    for i, count in enumerate(counts.tolist()):
        height, x = _HEIGHT * count / top, i * _BAR_WIDTH
        label = f"{i / _BINS:.2f} to {(i + 1) / _BINS:.2f}: {count}"
        bars.append(
            f'<rect x="{x + 1}" y="{20 + _HEIGHT - height:.1f}" width="{_BAR_WIDTH - 2}" height="{height:.1f}">'
            f"<title>{label}</title></rect>"
        )
        if count:
            y = 16 + _HEIGHT - height
            bars.append(f'<text x="{x + _BAR_WIDTH / 2}" y="{y:.1f}" text-anchor="middle">{count}</text>')
    floor, limit = 20 + _HEIGHT, THRESHOLD * width
    axis = f'<line x1="0" x2="{width}" y1="{floor}" y2="{floor}"/>'
    axis += f'<line class="threshold" x1="{limit}" x2="{limit}" y1="10" y2="{floor}"/>'
    for value, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        axis += f'<text x="{value * width}" y="{floor + 15}" text-anchor="{anchor}">{value}</text>'
    return _svg(width, floor + 20, "Histogram of S_anat", "".join(bars) + axis)


def _part_histogram(parts: Counter[str]) -> str:
    shown = parts.most_common(_MOST_PARTS)
    if not shown:
        return '<p class="soft">none</p>'
    rest = sum(parts.values()) - sum(count for _, count in shown)
    shown += [("others", rest)] if rest else []
    top = max(count for _, count in shown)
    rows = []
    for i, (part, count) in enumerate(shown):
        y, length = i * _ROW, 360 * count / top
        rows.append(f'<text x="114" y="{y + 13}" text-anchor="end">{escape(part)}</text>')
        rows.append(f'<rect x="120" y="{y + 2}" width="{length:.1f}" height="{_ROW - 4}"/>')
        rows.append(f'<text x="{126 + length:.1f}" y="{y + 13}">{count}</text>')
    return _svg(520, len(shown) * _ROW, "Violations by part", "".join(rows))


def _svg(width: int, height: int, label: str, content: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{content}</svg>'


def _rows(item: Item) -> Iterable[str]:
    name = item["input"] + (f" frame {item['frame']}" if "frame" in item else "")
    thumbnails = item.get("thumbnails", [""])
    for hand, thumbnail in zip(item["hands"] or [None], thumbnails, strict=True):
        picture = f'<img src="{thumbnail}" alt="">' if thumbnail else ""
        cells = [f"<td>{picture}</td>", _cell(name, "name")]
        cells.append(_cell(item["status"], item["status"] if item["status"] == ERROR else ""))
        yield f"<tr>{''.join(cells + _hand_cells(item, hand))}</tr>\n"


def _hand_cells(item: Item, hand: Mapping[str, Any] | None) -> list[str]:
    notes = [*item["notes"], *found_note(item)]
    if hand is None:
        return [_cell(text) for text in ("", "", "", item.get("error", ""), "", "", _join(notes))]
    side = f"{hand['side']} {hand['score']:.2f}" + (f" #{hand['track']}" if "track" in hand else "")
    score = "" if hand["s_anat"] is None else f"{hand['s_anat']:.3f}"
    fingers = hand["fingers"]
    return [
        _cell(hand["verdict"], hand["verdict"]),
        _cell(hand["paper_verdict"], hand["paper_verdict"]),
        _cell(score, "number"),
        _cell(_join(hand["violations"])),
        '<td class="number" data-value="">unknown</td>' if fingers is None else _cell(str(fingers), "number"),
        _cell(side),
        _cell(_join([*hand["notes"], *notes])),
    ]


def _join(texts: Iterable[str]) -> str:
    return "; ".join(texts)


def _cell(text: str, kind: str = "") -> str:
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
