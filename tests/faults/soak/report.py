"""What a soak has to say, and whether it was good."""

from __future__ import annotations

from typing import Any, Final

from tests.faults.soak.checkpoint import Checkpoints
from tests.faults.soak.measure import MEBIBYTE, QUEUES, Measurements, Sample
from tests.faults.soak.run import Run
from tests.faults.soak.slopes import Slope, second_half

# Below so many minutes a process is still warming up and a line through it says nothing: it is told, not judged.
JUDGED_AFTER: Final = 20.0
# A process of 120 MiB under the chart's limit of 512 MiB has 16 hours at this pace: less than between two releases, so
# what is surely above it is a leak.  Everything below is told, to be looked at.
RSS_MIB_PER_HOUR: Final = 24.0
# The same by request: what is surely above it is a leak that an hour of real load would show.  It sees what is coarse;
# `make bench ARGS="--only c --messages 60000"` sees a tenth of it.
RSS_KIB_PER_REQUEST: Final = 1.0
# Connections come and go with the load, and stay for a minute when nobody asks anything.  A leak raises the least that
# is ever open; what else does is a pool that has grown to its size.
OPEN_MORE: Final = 20
# Rows that come and go leave pages for the next ones.  Autovacuum lags behind by minutes, not by hours.
QUEUE_MIB_PER_HOUR: Final = 32.0
# A finished reminder with its attempts, receipts, decisions and keys, and their indexes.
BYTES_PER_REMINDER: Final = 12_000
# The issue asks for 95 %.
RECOVERS: Final = 0.95
# How fast it is can be compared only where others leave the machine alone.
OTHERS_PERCENT: Final = 10.0


def summary(run: Run, measured: Measurements, points: Checkpoints, kinds: int) -> dict[str, Any]:
    """One object with everything; `violations` and `beyond_bounds` are what the exit status is made of."""
    counts, report = run.stage.counts, points.report
    found = {
        "seed": run.seed,
        "minutes": round(run.disturbed, 1),
        "requests": run.load.reminders,
        "records": report.counts["records"],
        "messages": report.counts["messages"],
        "counts": dict(sorted(report.counts.items())),
        "kills": sum(n for what, n in run.faults.items() if what == "kill" or what.startswith("killed ")),
        "kills_in_flight": run.faults["kill"],
        "faults": dict(sorted(run.faults.items())),
        "faults_kinds": kinds,
        "beside_faults": dict(sorted(counts.items())),
        "answers_to_strangers": dict(sorted(run.answers.items())),
        "states_hit_by_kills": dict(sorted(run.states.items())),
        "ended": dict(sorted(report.endings.items())),
        "reminder_moves": {f"{was or '(born)'} -> {to}": n for (was, to), n in sorted(report.reminder_moves.items())},
        "attempt_moves": {f"{was or '(born)'} -> {to}": n for (was, to), n in sorted(report.attempt_moves.items())},
        "checks": dict(sorted(points.checks.items())),
        "logged": dict(sorted(points.sweep.said.items())),
        "swept_mib": round(points.sweep.swept / MEBIBYTE, 1),
        "checkpoints": len(points.healed),
        "healed_seconds": [round(each, 1) for each in points.healed],
        "survivor": survivor(measured),
        "tables": tables(measured),
        "drains": {
            when: [
                (round(one.rate), round(one.cpu_ms, 2), round(one.sent_seconds, 1), round(one.others_percent))
                for one in each
            ]
            for when, each in measured.drains.items()
        },
        "recovery_judged": comparable(measured),
        "recovers_to": recovery(measured),
        "violations": [str(each) for each in run.violations],
    }
    found["beyond_bounds"] = beyond(found, measured)
    return found


def survivor(measured: Measurements) -> dict[str, Any]:
    samples = measured.samples
    lines = {
        name: second_half([(each.minutes, float(getattr(each, name))) for each in samples]).times(60).told()
        for name in ("rss_mib", "files", "threads", "connections")
    }
    quiet = [each for each, _ in [*measured.quiet, *([measured.after] if measured.after else [])]]
    return {
        "per_hour": lines,
        "rss_kib_per_request": rss_by_request(measured).told(),
        "most": {name: round(max((getattr(each, name) for each in samples), default=0), 1) for name in lines},
        "most_rss_mib": {name: round(size, 1) for name, size in sorted(measured.most_rss.items())},
        "least_in_each_half": least_open(measured),
        "quiet": [_in_short(each) for each in quiet],
    }


def rss_by_hour(measured: Measurements) -> Slope:
    """MiB."""
    return second_half([(each.minutes, each.rss_mib) for each in measured.samples]).times(60)


def rss_by_request(measured: Measurements) -> Slope:
    """KiB."""
    return second_half([(float(each.requests), each.rss_mib) for each in measured.samples]).times(1024)


def _in_short(each: Sample) -> dict[str, float]:
    return {
        "minutes": round(each.minutes, 1), "requests": each.requests, "rss_mib": round(each.rss_mib, 1),
        "files": each.files, "threads": each.threads, "connections": each.connections,
    }  # fmt: skip


def tables(measured: Measurements) -> dict[str, Any]:
    """Kept rows by reminder, queues by hour, and both by table; between the first quiet moment and the last."""
    if not measured.quiet:
        return {}
    quiet = [each for _, each in measured.quiet]
    first, last = quiet[0], quiet[-1]
    born = last.reminders - first.reminders
    kept = sorted(name for name in last.bytes if name not in QUEUES)
    return {
        "bytes_per_reminder": round((last.kept - first.kept) / born) if born else None,
        "bytes_per_reminder_by_table": {
            name: round((last.bytes[name] - first.bytes[name]) / born) for name in kept
        } if born else {},
        "queues_mib_per_hour": queues(measured).times(60 / MEBIBYTE).told(),
        "queues_mib_in_quiet": [round(each.queues / MEBIBYTE, 2) for each in quiet],
        "queues_kib": {name: last.bytes[name] // 1024 for name in QUEUES if name in last.bytes},
        "dead_rows": {name: n for name, n in sorted(last.dead.items()) if n},
    }  # fmt: skip


def queues(measured: Measurements) -> Slope:
    """Bytes a minute."""
    return second_half([(each.minutes, float(each.queues)) for each in measured.sizes])


def least_open(measured: Measurements) -> dict[str, tuple[int, int]]:
    """The least that was open in each half of the run."""
    middle = len(measured.samples) // 2
    first, second = measured.samples[:middle], measured.samples[middle:]
    if not first:
        return {}
    return {
        name: (min(getattr(each, name) for each in first), min(getattr(each, name) for each in second))
        for name in ("files", "threads", "connections")
    }


def recovery(measured: Measurements) -> dict[str, float]:
    """The best burst after everything, to the best before: by the clock, and by the CPU that a message costs.

    Of those that nobody disturbed; of all where some half has none of them.  What else the machine does only makes them
    slower, so one of the two figures is enough to show that all is as it was.
    """
    calm = comparable(measured)
    before, after = (
        [each for each in measured.drains.get(when, ()) if not calm or each.others_percent <= OTHERS_PERCENT]
        for when in ("before", "after")
    )
    if not before or not after:
        return {}
    rate = max(each.rate for each in after) / max(each.rate for each in before)
    cpu = min(each.cpu_ms for each in before) / min(each.cpu_ms for each in after)
    return {"by the clock": round(rate, 3), "by the CPU": round(cpu, 3)}


def comparable(measured: Measurements) -> bool:
    """Whether there is a burst before and one after that nobody disturbed."""
    return all(
        any(each.others_percent <= OTHERS_PERCENT for each in measured.drains.get(when, ()))
        for when in ("before", "after")
    )


def beyond(found: dict[str, Any], measured: Measurements) -> list[str]:
    """Which bounds were broken; of a line only what is sure."""
    broken = []
    for name, (before, after) in least_open(measured).items():
        if after > before + OPEN_MORE and found["minutes"] >= JUDGED_AFTER:
            broken.append(f"never less than {before} {name} in the first half, than {after} in the second")
    back = found["recovers_to"]
    if back and comparable(measured) and max(back.values()) < RECOVERS:
        broken.append(f"after the faults it is not as fast as before: {back}")
    each = found["tables"].get("bytes_per_reminder")
    if each is not None and each > BYTES_PER_REMINDER:
        broken.append(f"{each} bytes are kept for each reminder")
    if found["minutes"] >= JUDGED_AFTER:
        rss = rss_by_hour(measured)
        if rss.at_least > RSS_MIB_PER_HOUR:
            broken.append(f"the survivor grows by {rss.value:.0f} ± {rss.plus_minus:.0f} MiB an hour")
        rss = rss_by_request(measured)
        if rss.at_least > RSS_KIB_PER_REQUEST:
            broken.append(f"the survivor grows by {rss.value:.1f} ± {rss.plus_minus:.1f} KiB with each request")
        grows = queues(measured).times(60 / MEBIBYTE)
        if grows.at_least > QUEUE_MIB_PER_HOUR:
            broken.append(f"queues grow by {grows.value:.0f} ± {grows.plus_minus:.0f} MiB an hour")
    return broken


def verdict(found: dict[str, Any]) -> int:
    """The exit status."""
    return 1 if found["violations"] or found["beyond_bounds"] else 0
