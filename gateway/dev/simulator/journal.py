"""The durable log: what the vendors took, refused and reported, one JSON object per line, appended and never changed.

A line is handed to the operating system in one write before the answer leaves, so whatever a client was told is in
the file however the simulator ends; `fsync` extends that to a loss of the machine.  A line torn by the end of the
process or a full disk was never answered: the next line starts on a line of its own, and readers skip the torn one.

Lines of kind `accepted` carry: at, vendor, id, recipient, text_or_template, params, reference, marker, replaces,
action, turn, rules.  Every line has `kind` and `at` (RFC 3339, UTC).

A call with a dialogue adds lines with its id.  `dialogue`, one for each try of a request for the next document: step
(document, gather or redirect), digits, attempt, answer.  `call`, one when it has ended: recipient, marker (the first
that was said), status, pickup, answered_by, ended, code, detail, seconds, and the transcript, a list of {event, at in
the call's seconds, ...}: say and apology (text, language, voice), pause (seconds), gather (pressed, digits), hangup.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway.dev.simulator.names import Kind
from gateway.dev.simulator.pace import Pace, RealPace

_PAGE = 4 << 20


class Journal:
    """One log file, held by one simulator at a time."""

    def __init__(self, path: Path, *, fsync: bool = False, pace: Pace | None = None) -> None:
        self.path = path
        self._pace = pace or RealPace()
        self._fsync = fsync
        self._fd = -1
        self._torn = False
        self._encode = msgspec.json.Encoder().encode
        self.salt = ""
        self.accepted = 0
        # (kind, vendor, code or answer) -> lines
        self.totals: Counter[tuple[str, str, str]] = Counter()

    def open(self) -> Iterator[dict[str, Any]]:
        """Opens or creates the file and yields every earlier line; exhaust it before the first `write`.

        Raises BlockingIOError when another simulator holds the file.
        """
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise
        size = os.fstat(self._fd).st_size
        self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        for line in read(self.path):
            if line["kind"] == Kind.STARTED:
                self.salt = str(line["salt"])
            self._tally(line)
            yield line
        if not self.salt:
            self.salt = secrets.token_hex(8)
            self.write(Kind.STARTED, salt=self.salt)

    def write(self, kind: Kind, **fields: Any) -> None:
        """Appends one line.  Raises OSError when it could not be stored whole; then nothing may be answered."""
        line = {"kind": kind.value, "at": self._pace.now().isoformat(timespec="microseconds"), **fields}
        data = (b"\n" if self._torn else b"") + self._encode(line) + b"\n"
        if (written := os.write(self._fd, data)) != len(data):
            self._torn = self._torn or written > 0
            raise OSError("the log took only a part of a line")
        self._torn = False
        if self._fsync:
            os.fsync(self._fd)
        self._tally(line)

    def since(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Whole lines from a byte offset, at most one page of them, and the offset to ask for next."""
        page = os.pread(self._fd, _PAGE, max(0, offset))
        whole = page.rfind(b"\n") + 1
        return list(_decode(page[:whole].splitlines())), max(0, offset) + whole

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _tally(self, line: dict[str, Any]) -> None:
        kind = line["kind"]
        self.accepted += kind == Kind.ACCEPTED
        detail = line.get("code") or line.get("answer") or line.get("action") or line.get("status") or ""
        self.totals[kind, str(line.get("vendor", "")), str(detail)] += 1


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of a log."""
    with path.open("rb") as lines:
        yield from _decode(lines)


def _decode(lines: Any) -> Iterator[dict[str, Any]]:
    decode = msgspec.json.Decoder().decode
    for line in lines:
        try:
            value = decode(line)
        except msgspec.DecodeError:
            continue  # torn: its write never returned, so it was never answered
        if isinstance(value, dict) and "kind" in value:
            yield value
