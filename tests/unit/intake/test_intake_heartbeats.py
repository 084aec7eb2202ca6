"""Heartbeats of a source: what they say of it, and what is none."""

import datetime as dt
import json
from typing import Any

import pytest

from gateway.content import Catalogue
from gateway.ids import IdSource
from gateway.intake.decode_facts import FactDecoder
from gateway.intake.faults import Fault
from gateway.ledger.commands import Heartbeat, Letter
from gateway.sealing import Sealer
from schemas.repayments import WATERMARK
from schemas.vocabulary import Rejection as R
from tests.unit.intake.records import record

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
DECODER = FactDecoder(
    lenders={}, catalogue=Catalogue.load(), sealer=Sealer({1: b"k" * 32}, 1, b"i" * 32), cadence_of=lambda *_: None
)


def decode(data: Any, **attributes: Any) -> Any:
    event = {"specversion": "1.0", "id": "beat", "source": "/core", "type": WATERMARK, "data": data, **attributes}
    return DECODER.decode(record(json.dumps(event).encode()), IdSource(1), NOW).command


def test_it_is_of_a_source_and_a_moment_and_of_nobody() -> None:
    found = decode({"as_of": NOW.isoformat()})
    assert isinstance(found, Heartbeat)
    assert (found.source, found.as_of) == ("/core", NOW)


def test_a_clock_may_be_a_little_ahead() -> None:
    assert isinstance(decode({"as_of": (NOW + 5 * MINUTE).isoformat()}), Heartbeat)


@pytest.mark.parametrize(
    ("data", "attributes", "fault"),
    [
        ({}, {}, Fault(R.MISSING_FIELD, "data.as_of")),
        ({"as_of": "yesterday"}, {}, Fault(R.BAD_DATE, "data.as_of")),
        ({"as_of": (NOW + 6 * MINUTE).isoformat()}, {}, Fault(R.BAD_DATE, "data.as_of")),
        ({"as_of": "1980-01-01T00:00:00Z"}, {}, Fault(R.BAD_DATE, "data.as_of")),
        ({"as_of": NOW.isoformat(), "lender": "acme"}, {}, Fault(R.WRONG_FIELD, "data")),
        ({"as_of": NOW.isoformat()}, {"source": "+8613900001234"}, Fault(R.BAD_REFERENCE, "source")),
        ({"as_of": NOW.isoformat()}, {"type": "repayment.watermark.v2"}, Fault(R.UNKNOWN_VERSION, "type")),
    ],
)
def test_what_is_none_is_a_dead_letter_that_holds_nobody(data: Any, attributes: dict[str, Any], fault: Fault) -> None:
    found = decode(data, **attributes)
    assert isinstance(found, Letter)
    assert (found.reason, found.field_name, found.holds) == (fault.reason, fault.field, ())
