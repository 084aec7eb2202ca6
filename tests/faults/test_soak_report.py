"""What a soak says of its measurements: what grows is told from what is warm, busy or merely noisy."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.soak.markdown import markdown, write
from tests.faults.soak.measure import MEBIBYTE, Drain, Measurements, Sample, Sizes
from tests.faults.soak.report import JUDGED_AFTER, beyond, comparable, recovery, survivor, tables, verdict
from tests.faults.soak.slopes import line, second_half
from tests.faults.soak.table import FAULTS

MINUTES = 30
PER_MINUTE = 450  # requests
Curve = Callable[[float], float]  # of minutes


def test_every_fault_has_its_own_name_and_a_weight() -> None:
    assert len({each.name for each in FAULTS}) == len(FAULTS)
    assert all(each.weight > 0 for each in FAULTS)


def flat(_: float) -> float:
    return 0.0


def measured(rss: Curve = flat, files: Curve = flat, queues: Curve = flat, kept: int = 9000) -> Measurements:
    """Half an hour of a process that warms up in its first ten minutes, among noise."""
    chance, found = random.Random(1), Measurements()
    for tick in range(MINUTES * 30):
        minutes = tick / 30
        warm = 95 + 12 * min(1.0, minutes / 10)
        found.samples.append(
            Sample(
                minutes,
                int(PER_MINUTE * minutes),
                warm + rss(minutes) + chance.gauss(0, 1.5),
                int(60 + files(minutes) + chance.uniform(0, 40)),
                9,
                int(30 + chance.uniform(0, 30)),
            )
        )
        if tick % 5 == 0:
            busy = 9 * MEBIBYTE + chance.gauss(0, MEBIBYTE / 4)
            found.sizes.append(sizes(minutes, busy + MEBIBYTE * queues(minutes), kept))
    for minutes in range(4, MINUTES + 1, 4):
        found.quiet.append((found.samples[minutes * 30 - 1], sizes(minutes, 9 * MEBIBYTE, kept)))
    found.drains = {"before": [drain(900, 0.50), drain(1000, 0.45)], "after": [drain(950, 0.47), drain(980, 0.46)]}
    found.most_rss = {"survivor": 117.2, "guest": 99.0}
    return found


def sizes(minutes: float, queues: float, kept: int) -> Sizes:
    reminders = int(PER_MINUTE * minutes)
    return Sizes(minutes, reminders, {"live": int(queues), "reminder": kept * reminders}, {"live": 40, "reminder": 0})


def drain(rate: float, cpu_ms: float, others: float = 2.0) -> Drain:
    return Drain(rate, cpu_ms, 1.0, others)


def told(of: Measurements, minutes: float = MINUTES) -> dict[str, Any]:
    """What `summary` says of them, and what it would say of a run in which nothing else was wrong."""
    found: dict[str, Any] = {
        "seed": 7, "minutes": minutes, "requests": 13_500, "records": 16_000, "messages": 11_000, "kills": 5,
        "kills_in_flight": 3, "faults": {"kill": 3, "killed after_intend": 1, "killed idle": 1, "link deaf": 2},
        "counts": {"events": 40_000, "events repeated": 3, "duplicates": 1, "dead_letters": 2, "commands": 4},
        "checks": {"I1": 16_000, "I7": 99}, "ended": {"delivered": 13_500}, "healed_seconds": [8.0, 9.5],
        "beside_faults": {}, "answers_to_strangers": {"stranger 404": 9}, "states_hit_by_kills": {}, "logged": {},
        "survivor": survivor(of), "tables": tables(of), "recovers_to": recovery(of), "recovery_judged": comparable(of),
        "violations": [],
    }  # fmt: skip
    return {**found, "beyond_bounds": beyond(found, of)}


def test_a_process_that_warmed_up_and_is_noisy_does_not_grow() -> None:
    found = told(measured())
    assert found["beyond_bounds"] == []
    assert verdict(found) == 0
    assert abs(found["survivor"]["per_hour"]["rss_mib"]["slope"]) < 5
    assert found["tables"]["bytes_per_reminder"] == 9000
    assert found["recovers_to"] == {"by the clock": 0.98, "by the CPU": 0.978}


LEAKS: dict[str, tuple[str, Measurements]] = {
    "memory": ("MiB an hour", measured(rss=lambda minutes: 0.6 * minutes)),
    "memory, by request": ("KiB with each request", measured(rss=lambda minutes: 0.6 * minutes)),
    "files": ("files in the first half", measured(files=lambda minutes: 2 * minutes)),
    "rows that should have gone": ("queues grow by", measured(queues=lambda minutes: 0.8 * minutes)),
    "rows that stay for each reminder": ("bytes are kept for each reminder", measured(kept=15_000)),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_what_leaks(leak: str) -> None:
    says, of = LEAKS[leak]
    found = told(of)
    assert any(says in each for each in found["beyond_bounds"]), found["beyond_bounds"]
    assert verdict(found) == 1


def test_what_is_slower_after_the_faults_by_the_clock_and_by_the_cpu() -> None:
    of = measured()
    of.drains["after"] = [drain(600, 0.45), drain(700, 0.46)]  # the machine was busy, the gateway was not
    assert told(of)["beyond_bounds"] == []
    of.drains["after"] = [drain(600, 0.70), drain(700, 0.60)]
    assert "not as fast as before" in told(of)["beyond_bounds"][0]
    of.drains["after"].append(drain(1000, 0.45, others=40))  # nobody knows what this one says
    assert "not as fast as before" in told(of)["beyond_bounds"][0]
    of.drains["after"] = [drain(300, 0.90, others=60), drain(400, 0.90, others=70)]
    assert told(of)["beyond_bounds"] == []
    assert "50 % by the CPU; not judged, others had the machine as well |" in markdown(told(of))


def test_a_short_run_is_told_and_not_judged_by_lines() -> None:
    leak = measured(rss=lambda minutes: 3 * minutes, files=lambda minutes: 2 * minutes)
    assert told(leak, JUDGED_AFTER - 1)["beyond_bounds"] == []
    assert told(leak, JUDGED_AFTER)["beyond_bounds"]


def test_the_report_as_a_section(tmp_path: Path) -> None:
    found = told(measured())
    text = markdown(found)
    for row in (
        "| minutes / requests / records / messages at the providers | 30 / 13,500 / 16,000 / 11,000 |",
        "| SIGKILLs / of them with work in hand / at a chosen line | **5** / 3 / 1 |",
        "| faults / different ones | 7 / 4 |",
        "| violations of I1–I4, I7–I9 | **0** |",
        "| as fast after the faults as before | 98 % by the clock, 98 % by the CPU |",
    ):
        assert row in text, text
    assert "Broken:" not in text
    assert "\nWhat was done: kill: 3, killed after_intend: 1, killed idle: 1, link deaf: 2.\n" in text
    found["violations"].append("I3 planted")
    path = write(found, tmp_path / "deep" / "down")
    assert "Broken:\n\n- I3 planted\n" in path.read_text()
    assert json.loads(path.with_suffix(".json").read_text())["violations"] == ["I3 planted"]


def test_nothing_measured_is_no_growth_and_no_error() -> None:
    found = told(Measurements())
    assert found["beyond_bounds"] == []
    assert "± ?" in markdown(found)


def test_a_line_says_how_sure_it_is() -> None:
    straight = line([(float(x), 3.0 * x + 1) for x in range(10)])
    assert straight.value == pytest.approx(3.0)
    assert straight.plus_minus == pytest.approx(0.0)
    # By hand: residuals -0.4, 0.95, -0.7 and 0.15, whose squares sum up to 1.575; spread 5; t of two degrees 4.30.
    crooked = line([(0.0, 1.0), (1.0, 3.0), (2.0, 2.0), (3.0, 3.5)])
    assert crooked.value == pytest.approx(0.65)
    assert crooked.plus_minus == pytest.approx(4.30 * math.sqrt(1.575 / 2 / 5), rel=1e-3)
    assert math.isinf(line([(0.0, 1.0), (1.0, 2.0)]).plus_minus)
    assert line([]).value == 0.0


def test_only_the_second_half_counts() -> None:
    points = [(x / 100, 100.0 + x) for x in range(100)] + [(1 + x / 100, 200.0) for x in range(101)]
    flat = second_half(points)
    assert flat.value == pytest.approx(0.0)
    assert flat.at_least <= 0.0
