"""A rehearsal as a picture: a line of time for each debt, in SVG that needs nothing but itself.

No two marks and no two words lie on each other: what would is drawn a lane lower.  Fates differ by more than colour.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Final

from gateway.cadence.rehearsal import Fate
from gateway.zones import in_zone

if TYPE_CHECKING:
    from gateway.cadence.rehearsal import Line

_SIDE: Final = 16
_DAY: Final = 20
_HEAD: Final = 72  # the title and the legend
_NAME: Final = 44  # of a debt, and its dates
_LANE: Final = 50
_RADIUS: Final = 8
_CHARACTER: Final = 6.0  # as wide as the widest are
_AGAIN: Final = 1400  # a name is there again so far to the right, for who has scrolled
_INK: Final = "#1f2328"
_PALE: Final = "#57606a"
# By fate: inside, around, the sign, and how the ring is broken.
_STYLE: Final = {
    Fate.CONTACT: ("#0969da", "#0969da", "#ffffff", ""),
    Fate.MERGED: ("#ffffff", "#8250df", "#8250df", ""),
    Fate.SUPERSEDED: ("#ffffff", "#6e7781", "#57606a", "2 2"),
    Fate.SKIPPED: ("#ffffff", "#afb8c1", "#57606a", ""),
    Fate.AHEAD: ("#ddf4ff", "#0969da", "#0969da", "4 3"),
}
_SHAPE: Final = {"sms": "■", "push": "▲", "voice": "●"}
_STYLE_SHEET: Final = (
    "body{margin:1rem;font:14px/1.4 system-ui,sans-serif;color:#1f2328;background:#fff}"
    "div{overflow-x:auto}table{border-collapse:collapse;margin-top:1rem}caption{text-align:left;font-weight:600}"
    "th,td{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #d0d7de;white-space:nowrap}"
)
_COLUMNS: Final = ("debt", "instalment", "occasion", "local", "zone", "UTC", "by", "what", "why")


def draw(lines: Sequence[Line], total: str, *, html: bool) -> str:
    """The picture; with `html` a page around it, which has every line as a row of a table, too."""
    svg = _svg(lines, total)
    if not html:
        return svg
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(each))}</tr>\n" for each in lines)
    head = "".join(f'<th scope="col">{each}</th>' for each in _COLUMNS)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{_title(lines)}</title>'
        f"<style>{_STYLE_SHEET}</style></head>\n<body>\n<div>{svg}</div>\n"
        f"<table><caption>{escape(total)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table>\n"
        "</body>\n</html>\n"
    )


def _svg(lines: Sequence[Line], total: str) -> str:
    days = [_day(each) for each in lines]
    first = min(days, default=dt.date(2000, 1, 1)) - dt.timedelta(days=3)
    last = max(days, default=first) + dt.timedelta(days=3)
    width = 2 * _SIDE + max(((last - first).days + 1) * _DAY, 900)
    bands: list[str] = []
    y = _HEAD
    for number, (name, theirs) in enumerate(groupby(lines, _name)):
        marks, lanes = _lanes(list(theirs), first)
        height = _NAME + lanes * _LANE
        if number % 2 == 0:
            bands.append(f'<rect y="{y}" width="{width}" height="{height}" fill="#f6f8fa"/>')
        bands += _axis(name, first, last, y, height, width)
        bands += [_mark(line, x, y + _NAME + lane * _LANE + _LANE // 2) for line, x, lane in marks]
        y += height
    height = y + _SIDE
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="12" role="img" aria-labelledby="title sum">',
        f'<title id="title">{_title(lines)}</title>',
        f'<desc id="sum">{escape(total)}</desc>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{_SIDE}" y="26" fill="{_INK}" font-size="16" font-weight="600">{_title(lines)}</text>',
        *_legend(),
        *bands,
        "</svg>",
        "",
    ))  # fmt: skip


def _title(lines: Sequence[Line]) -> str:
    days = sorted(map(_day, lines))
    return f"What goes out from {days[0]} to {days[-1]}" if days else "Nothing goes out"


def _name(line: Line) -> str:
    return f"{line.debt} of {line.borrower}, {line.lender}"


def _lanes(lines: Iterable[Line], first: dt.date) -> tuple[list[tuple[Line, int, int]], int]:
    """Each with its place and its lane, the first in which there is room; and how many lanes there are."""
    ends: list[float] = []
    found = []
    for line in sorted(lines, key=lambda each: (_day(each), each.instalment)):
        x = _SIDE + (_day(line) - first).days * _DAY + _DAY // 2
        half = max(2.0 * _RADIUS + 4, _CHARACTER * max(map(len, _words(line)))) / 2
        lane = next((place for place, end in enumerate(ends) if end <= x - half), len(ends))
        ends[lane : lane + 1] = [x + half]
        found.append((line, x, lane))
    return found, max(len(ends), 1)


def _axis(name: str, first: dt.date, last: dt.date, y: int, height: int, width: int) -> list[str]:
    """The debt's name, a line for each week and its date."""
    parts = [
        f'<text x="{x}" y="{y + 18}" fill="{_INK}" font-weight="600">{escape(name)}</text>'
        for x in range(_SIDE, width - 300, _AGAIN)
    ]
    for number in range((last - first).days + 1):
        date = first + dt.timedelta(days=number)
        if date.weekday() == 0:
            x = _SIDE + number * _DAY
            parts.append(f'<line x1="{x}" y1="{y + 26}" x2="{x}" y2="{y + height}" stroke="#d0d7de"/>')
            parts.append(f'<text x="{x + 4}" y="{y + 36}" fill="{_PALE}" font-size="11">{date:%d %b %Y}</text>')
    return parts


def _mark(line: Line, x: int, y: int) -> str:
    above, below = _words(line)
    words = [f"{line.occasion} of instalment {line.instalment}", " ".join(_cells(line)[3:5]), line.fate.value]
    title = escape(", ".join(each for each in (*words, " > ".join(line.channels), line.reason or line.rule) if each))
    sign = _SHAPE.get(line.channels[0], "") if line.channels else "×"
    return (
        f"<g><title>{title}</title>{_circle(line.fate, x, y)}{_text(x, y + 3, 9, _STYLE[line.fate][2], sign)}"
        f"{_text(x, y - 12, 10, _INK, above)}{_text(x, y + 19, 10, _PALE, below)}</g>"
    )


def _words(line: Line) -> tuple[str, str]:
    """Above a mark and below it."""
    below = line.reason or "" if line.at is None else f"{in_zone(line.at, line.zone):%H:%M}"
    return f"{line.occasion} #{line.instalment}", below


def _circle(fate: Fate, x: int, y: int) -> str:
    fill, stroke, _, dashes = _STYLE[fate]
    broken = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<circle cx="{x}" cy="{y}" r="{_RADIUS}" fill="{fill}" stroke="{stroke}" stroke-width="2"{broken}/>'


def _text(x: int, y: int, size: int, colour: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="middle">{escape(text)}</text>'


def _legend() -> list[str]:
    parts = []
    x = _SIDE + _RADIUS
    for fate in Fate:
        parts.append(_circle(fate, x, 50))
        parts.append(f'<text x="{x + 14}" y="54" fill="{_PALE}">{fate.value}</text>')
        x += 112
    for what in (
        *(f"{sign} {channel}" for channel, sign in _SHAPE.items()),
        "× nothing",
        "#2 the second instalment; times are the borrower's own",
    ):
        parts.append(f'<text x="{x}" y="54" fill="{_PALE}">{what}</text>')
        x += 74
    return parts


def _cells(line: Line) -> tuple[str, ...]:
    local = f"{line.date:%Y-%m-%d}" if line.at is None else f"{in_zone(line.at, line.zone):%Y-%m-%d %H:%M}"
    utc = "" if line.at is None else f"{line.at:%Y-%m-%d %H:%M}"
    by = " > ".join(line.channels)
    return (
        line.debt, str(line.instalment), line.occasion, local, line.zone, utc, by, line.fate.value,
        line.reason or line.rule,
    )  # fmt: skip


def _day(line: Line) -> dt.date:
    """On the borrower's calendar."""
    return line.date if line.at is None else in_zone(line.at, line.zone).date()
