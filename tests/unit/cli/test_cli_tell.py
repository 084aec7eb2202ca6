"""`tell`: rows become the events that a lender's core would publish, keyed by borrower and in their order."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.cli import kafka as cli_kafka
from gateway.cli import tell as command
from gateway.cli.facts import Row, read
from schemas.repayments import PLANNED, RepaymentPlanned

NOW = dt.datetime(2026, 11, 18, 17, 30, tzinfo=dt.UTC)  # the next day in Shanghai
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
PAID: dict[str, Any] = {
    "type": "repayment.paid.v1",
    "data": {"lender": "acme", "borrower_ref": "b-1", "debt": "loan-1", "as_of": "2026-11-18T15:00:00Z"},
}


class Producer:
    """Takes so many records, then nothing more."""

    def __init__(self) -> None:
        self.left = 1000
        self.taken: list[tuple[str, bytes | None, dict[str, Any]]] = []

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[Any]:
        landed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.left:
            self.left -= 1
            self.taken.append((topic, key, json.loads(value)))
            landed.set_result(SimpleNamespace(topic=topic, partition=0, offset=0))
        else:
            landed.set_exception(KafkaTimeoutError())
        return landed


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Producer:
    producer = Producer()

    @asynccontextmanager
    async def producing(*_: Any) -> AsyncIterator[Producer]:
        yield producer

    kafka = SimpleNamespace(repayments_topic="repayments.events")
    monkeypatch.setattr(cli_kafka, "producing", producing)
    monkeypatch.setattr(command, "read", lambda path: SimpleNamespace(kafka=kafka))
    return producer


def told(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tell", *map(str, arguments)])


def file(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in rows))
    return path


def only(path: Path, now: dt.datetime = NOW) -> Row:
    ((_, row),) = read([path], "core", now)
    assert isinstance(row, Row), row
    return row


def test_the_examples_are_told_by_borrower_and_in_their_order(broker: Producer) -> None:
    ran = told(EXAMPLES / "facts.jsonl", EXAMPLES / "paid.json")
    assert (ran.exit_code, ran.stdout) == (0, "3 facts told to repayments.events\n")
    assert [(topic, key, event["type"]) for topic, key, event in broker.taken] == [
        ("repayments.events", b"cust-30001", "repayment.planned.v1"),
        ("repayments.events", b"cust-30001", "repayment.debit_failed.v1"),
        ("repayments.events", b"cust-30001", "repayment.paid.v1"),
    ]


def test_a_whole_event_goes_as_it_is_and_a_row_may_have_its_own_id(broker: Producer, tmp_path: Path) -> None:
    whole = {"specversion": "1.0", "id": "e-1", "source": "/core", "x": "y", **PAID}
    assert told(file(tmp_path, whole, {**PAID, "id": "mine", "source": "/mine"}, PAID), "--source", "/s").exit_code == 0
    events = [event for _, _, event in broker.taken]
    assert events[0] == whole
    assert (events[1]["id"], events[1]["source"]) == ("mine", "/mine")
    assert (events[2]["id"][:5], events[2]["source"]) == ("file-", "/s")


def test_times_may_be_relative_and_a_date_is_the_borrowers_own(tmp_path: Path) -> None:
    plan = json.loads((EXAMPLES / "facts.jsonl").read_text().splitlines()[0])
    plan["data"]["borrower"]["timezone"] = "Asia/Shanghai"
    fact = only(file(tmp_path, plan)).fact
    assert isinstance(fact, RepaymentPlanned)
    assert fact.as_of == NOW - dt.timedelta(minutes=5)
    assert [each.due_date for each in fact.instalments] == [dt.date(2026, 11, 19), dt.date(2026, 12, 19)]


def test_what_says_the_same_has_the_same_id(tmp_path: Path) -> None:
    first = only(file(tmp_path, PAID)).event
    assert only(file(tmp_path, PAID), NOW + dt.timedelta(days=1)).event == first
    other = {**PAID, "data": {**PAID["data"], "debt": "loan-2"}}
    assert only(file(tmp_path, other)).event.id != first.id


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"type": PLANNED, "data": {}}, "missing_field (data.lender)"),
        ({"type": "reminder.requested.v1", "data": {}}, "unknown_type (type)"),
        ({**PAID, "data": {**PAID["data"], "as_of": "+99999d"}}, "bad_date (data.as_of)"),
        ({**PAID, "data": {**PAID["data"], "as_of": "soon"}}, "bad_date (data.as_of)"),
        ({**PAID, "data": 5}, "wrong_field (data)"),
        ({**PAID, "id": 5}, "not_a_cloudevent (id)"),
        ({"data": PAID["data"]}, "not_a_cloudevent (type)"),
        ([], "is not a JSON object"),
    ],
)
def test_one_bad_row_and_nothing_is_told(broker: Producer, tmp_path: Path, row: Any, problem: str) -> None:
    path = file(tmp_path, PAID, row)
    ran = told(path)
    assert ran.exit_code == 2
    assert f"{path}:2: {problem}" in ran.stderr
    assert broker.taken == []


def test_a_gateway_that_reads_no_facts_is_told_none(
    broker: Producer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = SimpleNamespace(repayments_topic=None)
    monkeypatch.setattr(command, "read", lambda path: SimpleNamespace(kafka=kafka))
    ran = told(file(tmp_path, PAID))
    assert ran.exit_code == 2
    assert "kafka.repayments_topic is not set" in ran.stderr


def test_what_kafka_took_before_it_failed_is_told(broker: Producer, tmp_path: Path) -> None:
    broker.left = 1
    ran = told(file(tmp_path, PAID, PAID, PAID))
    assert ran.exit_code == 1
    assert "1 of 3 facts told, then Kafka failed: KafkaTimeoutError" in ran.stderr
