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
    """Where each row stands, and its fact or what is wrong with it, without any of its values.  Heartbeats say nothing
    here: on this calendar everything is known when it is so.
    """
    from gateway.cli.rows import rows

    for file in files:
        for row in rows(file):
            found = (row.problem or "is empty") if row.value is None else _fact(row.value, now)
            if found is not None:
                yield row.where, found


def _fact(row: Mapping[str, Any], now: dt.datetime) -> Fact | str | None:
    from gateway.cli.events import BadRow, as_json
    from gateway.intake import facts
    from gateway.intake.cloudevents import Record, Unread, read_event
    from gateway.intake.faults import Fault
    from schemas.repayments import WATERMARK

    try:
        value = as_json({"specversion": "1.0", "id": "row", "source": SOURCE, **row})
    except BadRow as error:
        return str(error)
    event = read_event(Record("", 0, 0, None, value))
    if not isinstance(event, Unread) and event.type == WATERMARK:
        return None
    found = event.fault if isinstance(event, Unread) else facts.read(event, now)
    return str(found) if isinstance(found, Fault) else found
