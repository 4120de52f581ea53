"""What `launch.score` prints: a line a picture, and the figures of each set."""

from collections.abc import Mapping
from typing import Any

from handjax.inference.score_pictures import DRAWING, ERROR, SCORED, Item
from handjax.inference.score_summary import Tally
from handjax.perception.retries import AT_ONCE

UNCOUNTED = " without a finger count"
_ODDS = ("odds_ratio", "odds_low", "odds_high")


def describe(item: Item) -> str:
    """A picture, or a clip's frame, and each of its hands in words."""
    name = item["input"] + (f" frame {item['frame']}" if "frame" in item else "")
    if item["status"] not in (SCORED, DRAWING):
        return f"{name}: {item['status']}"
    notes = [*item["notes"], *found_note(item)]
    if item["status"] == DRAWING:
        notes.append("a drawing, while limits and looks were learnt from photographs")
    return f"{name}: " + "; ".join([*map(_describe_hand, item["hands"]), *notes])


def found_note(item: Item) -> list[str]:
    """By which attempt hands were found, where not by the first."""
    by = item.get("found_by")
    return [] if by in (None, AT_ONCE) else [f"found only by: {by}"]


def _describe_hand(hand: Mapping[str, Any]) -> str:
    track = f"#{hand['track']} " if "track" in hand else ""
    score = "" if hand["s_anat"] is None else f", {hand['s_anat']:.2f}{'' if hand['fingers'] else UNCOUNTED}"
    reasons = [*hand["violations"], *hand["notes"]]
    return f"{track}{hand['verdict']}{score}" + (f" ({', '.join(reasons)})" if reasons else "")


def summarise(tally: Tally) -> str:
    """The share of implausible hands, with its 95 % interval, and what could not be judged."""
    strict, paper = tally.rate("strict"), tally.rate("paper")
    rest = [f"{tally.verdicts['strict']['unknown']} hands unknown"]
    rest += [f"{count} pictures: {status}" for status, count in tally.statuses.items() if status not in (SCORED, ERROR)]
    rest += [f"{tally.statuses[ERROR]} inputs not read"] if tally.statuses[ERROR] else []
    rest += [f"{count} found by: {by}" for by, count in tally.found_by.items() if by != AT_ONCE]
    rest += [f"{count} × {note}" for note, count in tally.notes.items()]
    rest += [f"{tally.fingers_unknown} scores{UNCOUNTED}"] if tally.fingers_unknown else []
    if not strict["of"]:
        return f"{tally.title}: no hand was judged; {', '.join(rest)}"
    shares = f"{percent(strict)}; as the paper says {percent(paper)}"
    hands = f"{strict['count']} of {strict['of']} hands implausible ({shares})"
    pictures = tally.picture_rate("strict")
    having = f"{pictures['count']} of {pictures['of']} pictures have one ({percent(pictures)})"
    return f"{tally.title}: {hands}; {having}; {', '.join(rest)}"


def comparison_lines(comparison: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The comparison as name and value, line by line."""
    lines = []
    for mode in ("strict", "paper"):
        odds = comparison[mode]
        ratio, low, high = ("∞ or undefined" if (v := odds[n]) is None else f"{v:.2f}" for n in _ODDS)
        lines.append((f"{mode}: odds ratio a to b", f"{ratio} [{low}, {high}]"))
        lines.append((f"{mode}: Fisher's exact test", f"p = {odds['p_value']:.3g}"))
        lines.append((f"{mode}: rate of a less that of b", _difference(odds, "+.1%")))
    lines.append(("mean S_anat of a less that of b", _difference(comparison["s_anat"], "+.3f")))
    return lines


def percent(rate: Mapping[str, Any]) -> str:
    """A rate of `Tally.rate` with its interval."""
    return f"{rate['share']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"


def _difference(figure: Mapping[str, float], form: str) -> str:
    value, low, high = (format(figure[name], form) for name in ("difference", "low", "high"))
    return f"{value} [{low}, {high}]"
