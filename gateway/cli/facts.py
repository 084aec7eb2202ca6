"""Files of facts, as a lender's core would publish them: rows of `type` and `data`, or whole CloudEvents."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from schemas.repayments import Fact

SOURCE: Final = "command-line"


def read(files: list[Path], now: dt.datetime) -> Iterator[tuple[str, Fact | str]]:
    """Where each row stands, and its fact or what is wrong with it, without any of its values."""
    from gateway.cli.rows import rows

    for file in files:
        for row in rows(file):
            yield row.where, (row.problem or "is empty") if row.value is None else _fact(row.value, now)


def _fact(row: Mapping[str, Any], now: dt.datetime) -> Fact | str:
    from gateway.cli.events import BadRow, as_json
    from gateway.intake import facts
    from gateway.intake.cloudevents import Record, Unread, read_event
    from gateway.intake.faults import Fault

    try:
        value = as_json({"specversion": "1.0", "id": "row", "source": SOURCE, **row})
    except BadRow as error:
        return str(error)
    event = read_event(Record("", 0, 0, None, value))
    found = event.fault if isinstance(event, Unread) else facts.read(event, now)
    return str(found) if isinstance(found, Fault) else found
