"""Counts what the vendors really took, from the log alone.  Standard library only: it can judge the gateway.

Run by itself: `python count.py simulator.jsonl [vendor ...]`; prints one JSON object and exits 1 when anything went out
twice.  The vendors named are those that the gateway was configured to send to again (`on_unknown: resend`).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Key = tuple[str, str]  # recipient, marker


class Count(NamedTuple):
    """`sent`: accepted messages per (recipient, marker).  `unmarked`: those without a marker, not to be told apart.

    `replaced`: those that were meant to take the place of an earlier one on the screen: a push with the same tag, of a
    vendor that is sent to again.  Where nothing may be sent again it is a duplicate, whatever the screen makes of it.
    """

    sent: Counter[Key]
    replaced: Counter[Key]
    unmarked: int

    @property
    def duplicates(self) -> dict[Key, int]:
        """What went out more often than it may: (recipient, marker) -> how many too many."""
        extra = {key: n - 1 - self.replaced[key] for key, n in self.sent.items()}
        return {key: n for key, n in extra.items() if n > 0}


def accepted(path: Path) -> Iterator[dict[str, Any]]:
    """Every accepted message in the log; a torn line was never answered and is skipped."""
    return _lines(path, "accepted")


def _lines(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for text in lines:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and line.get("kind") == kind:
                yield line


def count(path: Path, resends: Collection[str] = ()) -> Count:
    """Counts one log.  Of the vendors in `resends` a repeat that replaces the first is no duplicate.

    A call whose order had no marker, since it asks before it tells, counts by the one that it came to say.
    """
    sent: Counter[Key] = Counter()
    replaced: Counter[Key] = Counter()
    shown: set[tuple[str, str, str]] = set()
    unmarked = 0
    said = {line["id"]: line["marker"] for line in _lines(path, "call")}
    for line in accepted(path):
        marker = line["marker"] if line["marker"] is not None else said.get(line.get("id"))
        if marker is None:
            unmarked += 1
            continue
        key = (line["recipient"], marker)
        sent[key] += 1
        if line["replaces"] is not None and line.get("vendor") in resends:
            place = (*key, line["replaces"])
            replaced[key] += place in shown
            shown.add(place)
    return Count(sent, replaced, unmarked)


def main(arguments: list[str]) -> int:
    result = count(Path(arguments[0]), arguments[1:])
    summary = {
        "messages": sum(result.sent.values()) + result.unmarked,
        "duplicates_sent": sum(result.duplicates.values()),
        "replaced": sum(result.replaced.values()),
        "unmarked": result.unmarked,
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    return 1 if summary["duplicates_sent"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
