"""Tables for people, one line of JSON for machines."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.callbacks import CallbackRound
from tests.bench.measure import Round
from tests.bench.profiled import Samples

_MEASURES: Final = {
    "per_second": "messages/s",
    "python_us": "µs of Python per message",
    "postgres_us": "µs of Postgres per message",
    "per_python_second": "messages per CPU second of the process",
    "per_postgres_second": "messages per CPU second of Postgres",
    "commits": "commits per message",
    "p50_ms": "ms from Kafka to hand-over, p50",
    "p99_ms": "ms from Kafka to hand-over, p99",
    "rss_mib": "RSS, MiB (peak)",
    "others_percent": "CPU taken by others, %",
}
_COMPARED: Final = [measure for measure in _MEASURES if measure != "others_percent"]
_GOALS: Final = {"per_second": "c/b ≥ 0.8", "python_us": "c ≤ 300", "postgres_us": "c ≤ 100"}


def column(rounds: Sequence[Round], letter: str, measure: str) -> list[float]:
    return [getattr(each, measure) for each in rounds if each.contestant == letter]


def ratios(rounds: Sequence[Round], letter: str, measure: str) -> list[float]:
    """c to `letter`, round by round: what disturbed one disturbed the other."""
    pairs = zip(column(rounds, "c", measure), column(rounds, letter, measure), strict=False)
    return [ours / theirs for ours, theirs in pairs if theirs]


def show_rounds(console: Console, rounds: Sequence[Round]) -> None:
    table = Table(title="min / median / max over the rounds", title_justify="left")
    for name in ("", "a plain loop", "b durable reference", "c gateway", "c/b", "c/a", "goal"):
        table.add_column(name, justify="left" if not name else "right")
    for measure, title in _MEASURES.items():
        cells = [_spread(column(rounds, letter, measure)) for letter in "abc"]
        against = [_spread(ratios(rounds, letter, measure)) if measure in _COMPARED else "" for letter in "ba"]
        table.add_row(title, *cells, *against, _GOALS.get(measure, ""))
    console.print(table)


def show_callbacks(console: Console, rounds: Sequence[CallbackRound]) -> None:
    table = Table(title="callbacks: min / median / max over the rounds", title_justify="left")
    for name in ("", "gateway", "empty handler", "ratio", "goal"):
        table.add_column(name, justify="left" if not name else "right")
    rate = _spread([each.ratio for each in rounds])
    cost = _spread([each.gateway_us / each.empty_us for each in rounds])
    table.add_row(
        "callbacks/s",
        _spread([each.gateway_per_second for each in rounds]),
        _spread([each.empty_per_second for each in rounds]),
        rate,
        "≥ 0.4",
    )
    gateway, empty = [each.gateway_us for each in rounds], [each.empty_us for each in rounds]
    table.add_row("µs of Python per callback", _spread(gateway), _spread(empty), cost, "")
    console.print(table)


def show_profile(console: Console, samples: Samples, python_us: float) -> None:
    """`python_us` is what one message costs; samples only share it out."""

    def us(count: int) -> str:
        return f"{python_us * count / samples.total:.1f}"

    areas = Table(
        "area", title=f"where {python_us:.0f} µs per message go ({samples.total} samples)", title_justify="left"
    )
    areas.add_column("µs", justify="right")
    for name, count in Counter(samples.areas).most_common():
        areas.add_row(name, us(count))
    console.print(areas)
    titles = {
        "innermost function of ours, with the library code it calls": samples.charged,
        "innermost function of all  <  innermost one of ours": samples.leaves,
        "every function of ours, with all it calls": samples.within,
    }
    for title, counts in titles.items():
        table = Table("function", title=title, title_justify="left")
        table.add_column("µs", justify="right")
        # What stands in every stack is the way in: it says nothing.
        for name, count in Counter({name: n for name, n in counts.items() if n < 0.98 * samples.total}).most_common(40):
            table.add_row(name, us(count))
        console.print(table)


def as_json(rounds: Sequence[Round], callbacks: Sequence[CallbackRound], setup: dict[str, Any]) -> str:
    """One line: the setup, every round, and the median of each measure and ratio."""
    letters = sorted({each.contestant for each in rounds})
    medians = {
        letter: {measure: _round(median(column(rounds, letter, measure))) for measure in _MEASURES}
        for letter in letters
    }
    compared = {
        f"c/{letter}": {
            measure: _round(median(found)) for measure in _COMPARED if (found := ratios(rounds, letter, measure))
        }
        for letter in letters
        if "c" in letters and letter != "c"
    }
    summary: dict[str, Any] = {
        "setup": {**setup, "cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()},
        "medians": medians,
        "ratios": compared,
        "rounds": rounds,
        "callbacks": callbacks,
    }
    if callbacks:
        summary["callbacks_ratio"] = _round(median(each.ratio for each in callbacks))
    return msgspec.json.encode(summary).decode()


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return " / ".join(_number(each) for each in (min(values), median(values), max(values)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _round(value: float) -> float:
    return float(f"{value:.4g}")
