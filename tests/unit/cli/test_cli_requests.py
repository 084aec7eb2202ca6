"""Rows become events: which are the same request, and what is said when Kafka fails between two of them."""

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
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli import kafka as cli_kafka
from gateway.cli import request as command
from gateway.cli.events import event

NOW = dt.datetime(2026, 11, 18, 15, 59, 30, 123000, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=2)  # the next day in Shanghai
ROW: dict[str, Any] = {
    "lender": "acme",
    "borrower": {"ref": "b-1", "locale": "zh-CN", "timezone": "Asia/Shanghai", "jurisdiction": "CN"},
    "debt": {
        "ref": "d-1",
        "amount": "12.00",
        "currency": "CNY",
        "due_date": "2026-11-21",
        "state_as_of": "2026-11-18T15:00:00+00:00",
    },
    "stage": "d3",
    "contacts": [{"channel": "sms", "address": "+8613900001234"}],
    "template": "repayment",
    "not_after": "2026-11-19T12:00:00+00:00",
}


def row(**changes: Any) -> dict[str, Any]:
    debt = {**ROW["debt"], **changes.pop("debt", {})}
    return {**ROW, "debt": debt, **changes}


def test_the_same_row_is_the_same_request_whenever_it_is_sent() -> None:
    first, again = event(ROW, "s", NOW), event(row(), "s", LATER)
    assert first.id == again.id
    assert first.id.startswith("file-")
    assert json.loads(first.value)["data"] == json.loads(again.value)["data"]
    assert not first.relative
    assert event(row(debt={"amount": "12.01"}), "s", NOW).id != first.id


@pytest.mark.parametrize(
    "relative",
    [{"not_after": "+6h"}, {"send_at": "now"}, {"debt": {"state_as_of": "-1m"}}, {"debt": {"due_date": "today"}}],
)
def test_a_relative_row_is_the_same_request_by_the_same_moment_only(relative: dict[str, Any]) -> None:
    first, again, later = (event(row(**relative), "s", moment) for moment in (NOW, NOW, LATER))
    assert first == again
    assert first.relative
    assert later.id != first.id, "under the same id it would be a conflict"


def test_it_is_the_same_request_as_the_row_that_says_the_same_times() -> None:
    moved = event(row(not_after="+20h", debt={"due_date": "+3d"}), "s", NOW)
    plain = event(row(not_after="2026-11-19T11:59:30.123+00:00"), "s", LATER)
    assert moved.id == plain.id


def test_an_id_of_its_own_stays_and_a_whole_event_goes_as_it_is() -> None:
    assert event(row(id="mine", not_after="+6h"), "s", NOW).id == "mine"
    whole = {"specversion": "1.0", "id": "e", "source": "x", "type": "reminder.requested.v1", "data": ROW}
    made = event(whole, "s", NOW)
    assert (made.id, made.source, made.relative) == ("e", "x", False)
    assert json.loads(made.value) == whole


class Producer:
    """Takes so many records, then nothing more."""

    def __init__(self, takes: int) -> None:
        self.left = takes

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[Any]:
        landed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.left:
            landed.set_result(SimpleNamespace(topic=topic, partition=0, offset=0))
        else:
            landed.set_exception(KafkaTimeoutError())
        self.left = max(self.left - 1, 0)
        return landed


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Producer:
    producer = Producer(1000)

    @asynccontextmanager
    async def producing(*_: Any) -> AsyncIterator[Producer]:
        yield producer

    kafka = SimpleNamespace(requests_topic="reminders.requests")
    monkeypatch.setattr(cli_kafka, "producing", producing)
    monkeypatch.setattr(command, "read", lambda path: SimpleNamespace(kafka=kafka))
    return producer


def sent(tmp_path: Path, *arguments: str, rows: int = 5, **changes: Any) -> Any:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row(id=f"r-{number}", **changes)) for number in range(rows)))
    return CliRunner().invoke(app, ["request", str(file), *arguments])


def test_what_kafka_took_before_it_failed_is_told_and_how_to_send_the_same_again(
    broker: Producer, tmp_path: Path
) -> None:
    broker.left = 3
    ran = sent(tmp_path, "--now", "2026-11-18T10:00:00.5+08:00", not_after="+6h")
    assert ran.exit_code == 1
    assert "3 of 5 requests sent, then Kafka failed: KafkaTimeoutError" in ran.stderr
    assert "--now 2026-11-18T10:00:00.500+08:00 sends the same again" in ran.stderr


def test_files_without_relative_times_need_no_moment(broker: Producer, tmp_path: Path) -> None:
    ran = sent(tmp_path)
    assert (ran.exit_code, ran.stdout) == (0, "5 requests sent to reminders.requests\n")


@pytest.mark.parametrize("moment", ["yesterday", "2026-11-18T10:00:00", "2026-11-18", ""])
def test_a_moment_without_an_offset_is_none(broker: Producer, tmp_path: Path, moment: str) -> None:
    ran = sent(tmp_path, "--now", moment)
    assert ran.exit_code == 2
    assert "--now needs a time with an offset" in ran.stderr
    assert broker.left == 1000
