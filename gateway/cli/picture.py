"""A rehearsal as a picture: one line of time per debt, in SVG that needs nothing but itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from gateway.cadence.rehearsal import Fate
from gateway.zones import in_zone

if TYPE_CHECKING:
    from gateway.cadence.rehearsal import Line

_LEFT: Final = 220
_DAY: Final = 18
_ROW: Final = 44
_TOP: Final = 56
_FOOT: Final = 44
_FILL: Final = {
    Fate.CONTACT: "#1f6feb",
    Fate.MERGED: "#8250df",
    Fate.SUPERSEDED: "#8c959f",
    Fate.SKIPPED: "#ffffff",
    Fate.AHEAD: "#b6d4fe",
}
_SHAPE: Final = {"sms": "■", "push": "▲", "voice": "●"}


def draw(lines: Sequence[Line], *, html: bool) -> str:
    """The picture; a page around it with `html`."""
    svg = _svg(lines)
    if not html:
        return svg
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Rehearsal of a cadence</title></head>\n'
        f'<body style="margin:1rem;overflow-x:auto">\n{svg}</body>\n</html>\n'
    )


def _svg(lines: Sequence[Line]) -> str:
    days = [_day(each) for each in lines]
    first = min(days, default=dt.date(2000, 1, 1)) - dt.timedelta(days=1)
    last = max(days, default=first) + dt.timedelta(days=2)
    debts = sorted({(each.lender, each.borrower, each.debt) for each in lines})
    width = _LEFT + ((last - first).days + 1) * _DAY
    height = _TOP + len(debts) * _ROW + _FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="12" role="img">',
        f"<title>What goes out from {first + dt.timedelta(days=1)} to {last - dt.timedelta(days=2)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_axis(first, last, height),
    ]
    for row, debt in enumerate(debts):
        y = _TOP + row * _ROW + _ROW // 2
        parts.append(f'<text x="8" y="{y + 4}" fill="#1f2328">{escape(debt[2])}</text>')
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{width}" y2="{y}" stroke="#d0d7de"/>')
        for each in lines:
            if (each.lender, each.borrower, each.debt) == debt:
                parts.append(_mark(each, first, y))
    parts += _legend(height)
    return "\n".join([*parts, "</svg>", ""])


def _axis(first: dt.date, last: dt.date, height: int) -> list[str]:
    """A line each day, a date each week."""
    parts = []
    for number in range((last - first).days + 1):
        date = first + dt.timedelta(days=number)
        x = _LEFT + number * _DAY
        monday = date.weekday() == 0
        colour = "#afb8c1" if monday else "#eaeef2"
        parts.append(f'<line x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{height - _FOOT}" stroke="{colour}"/>')
        if monday:
            parts.append(f'<text x="{x + 2}" y="{_TOP - 14}" fill="#57606a">{date:%d %b}</text>')
    return parts


def _mark(line: Line, first: dt.date, y: int) -> str:
    x = _LEFT + (_day(line) - first).days * _DAY + _DAY // 2
    when = f"{line.date:%Y-%m-%d}" if line.at is None else f"{in_zone(line.at, line.zone):%Y-%m-%d %H:%M} {line.zone}"
    words = [f"{line.occasion} of instalment {line.instalment}", when, line.fate.value, " > ".join(line.channels)]
    title = escape(", ".join(each for each in (*words, line.reason or line.rule) if each))
    stroke = "#8c959f" if line.fate is Fate.SKIPPED else _FILL[line.fate]
    shape = f'<circle cx="{x}" cy="{y}" r="7" fill="{_FILL[line.fate]}" stroke="{stroke}"/>'
    sign = _SHAPE.get(line.channels[0], "") if line.channels else "×"
    ink = "#57606a" if line.fate in (Fate.SKIPPED, Fate.AHEAD) else "#ffffff"
    label, name = _text(x, y + 3, 8, ink, sign), _text(x, y - 11, 9, "#57606a", line.occasion)
    return f"<g><title>{title}</title>{shape}{label}{name}</g>"


def _text(x: int, y: int, size: int, colour: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="middle">{escape(text)}</text>'


def _legend(height: int) -> list[str]:
    parts = []
    x = 8
    for fate, colour in _FILL.items():
        parts.append(f'<circle cx="{x + 6}" cy="{height - 20}" r="6" fill="{colour}" stroke="#8c959f"/>')
        parts.append(f'<text x="{x + 18}" y="{height - 16}" fill="#57606a">{fate.value}</text>')
        x += 110
    for channel, sign in _SHAPE.items():
        parts.append(f'<text x="{x}" y="{height - 16}" fill="#57606a">{sign} {channel}</text>')
        x += 70
    return parts


def _day(line: Line) -> dt.date:
    """On the borrower's calendar."""
    return line.date if line.at is None else in_zone(line.at, line.zone).date()
