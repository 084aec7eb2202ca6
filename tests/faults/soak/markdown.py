"""The report as a section of docs/measurements.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def markdown(found: Mapping[str, Any]) -> str:
    """A table of what was done and found, and what stands behind its figures in words."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in _rows(found))
    broken = "".join(f"- {each}\n" for each in [*found["violations"], *found["beyond_bounds"]])
    return f"| | |\n|---|---|\n{rows}\n{_behind(found)}" + (f"\nBroken:\n\n{broken}" if broken else "")


def write(found: Mapping[str, Any], folder: Path) -> Path:
    """`NAME.md` to paste and `NAME.json` with everything; the first of them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed-{found['seed']}.md"
    path.write_text(markdown(found))
    path.with_suffix(".json").write_text(json.dumps(found, indent=1))
    return path


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    counts, faults, alive = found["counts"], found["faults"], found["survivor"]
    in_flight, done = found["kills_in_flight"], sum(faults.values())
    chosen = sum(n for what, n in faults.items() if what.startswith("killed ") and what != "killed idle")
    yield (
        "minutes / requests / records / messages at the providers",
        " / ".join(f"{found[name]:,}" for name in ("minutes", "requests", "records", "messages")),
    )
    yield (
        "SIGKILLs / of them with work in hand / at a chosen line",
        f"**{found['kills']}** / {in_flight} / {chosen}",
    )
    yield "faults / different ones", f"{done} / {len(faults)}"
    yield "violations of I1–I4, I7–I9", f"**{len(found['violations'])}**"
    yield "looked at, in all quiet moments", _spelled(found["checks"])
    yield "intents of others, while a brake was in force", f"{counts.get('intents beside a brake', 0):,}"
    yield "events published / of them repeats", f"{counts.get('events', 0):,} / {counts.get('events repeated', 0):,}"
    yield (
        "duplicates, dead letters, redriven, commands",
        ", ".join(f"{counts.get(name, 0):,}" for name in ("duplicates", "dead_letters", "redriven", "commands")),
    )
    yield "ended", _spelled(found["ended"])
    if healed := found["healed_seconds"]:
        yield (
            "quiet moments; until everything had ended, median / longest",
            f"{len(healed)}; {statistics.median(healed):.0f} / {max(healed):.0f} s",
        )
    yield "RSS of the process that lived through it, in quiet", _quiet(alive["quiet"], "rss_mib", "MiB")
    yield (
        "its slope in the second half, by hour / by request",
        f"{_slope(alive['per_hour']['rss_mib'])} MiB / {_slope(alive['rss_kib_per_request'])} KiB",
    )
    yield "most RSS of each process, the killed ones too", _spelled(alive["most_rss_mib"], " MiB")
    yield (
        "its least open in the first half / the second",
        ", ".join(f"{name} {was} / {now}" for name, (was, now) in alive["least_in_each_half"].items()),
    )
    if tables := found["tables"]:
        yield "tables that keep, by reminder", f"{tables['bytes_per_reminder'] or 0:,} bytes"
        yield (
            "tables that queue, by hour of the second half / in quiet",
            f"{_slope(tables['queues_mib_per_hour'])} MiB / {tables['queues_mib_in_quiet']} MiB",
        )
    if found["recovers_to"]:
        back = ", ".join(f"{100 * value:.0f} % {how}" for how, value in found["recovers_to"].items())
        busy = "" if found["recovery_judged"] else "; not judged, others had the machine as well"
        yield "as fast after the faults as before", back + busy


def _behind(found: Mapping[str, Any]) -> str:
    told = {
        "What was done": found["faults"],
        "Beside it": found["beside_faults"],
        "What strangers at the public port got": found["answers_to_strangers"],
        "States the kills hit": found["states_hit_by_kills"],
        "What the gateways logged": found["logged"],
        "Bytes kept for a reminder, by table": found["tables"].get("bytes_per_reminder_by_table", {}),
        "Dead rows at the end": found["tables"].get("dead_rows", {}),
    }
    return "".join(f"\n{name}: {_spelled(each)}.\n" for name, each in told.items() if each)


def _spelled(counts: Mapping[str, Any], unit: str = "") -> str:
    return ", ".join(f"{name}: {n:,}{unit}" for name, n in counts.items() if n)


def _slope(told: Mapping[str, float | None]) -> str:
    sure = told["plus_minus_95"]
    return f"{told['slope']:g} ± {'?' if sure is None else f'{sure:g}'}"


def _quiet(samples: list[Mapping[str, Any]], name: str, unit: str) -> str:
    return ", ".join(f"{each[name]:g} at {each['minutes']:g} min" for each in samples) + f" ({unit})"
