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
from gateway.cli.events import BadRow, event

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
WHOLE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e",
    "source": "x",
    "type": "reminder.requested.v1",
    "data": ROW,
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
    made = event(WHOLE, "s", NOW)
    assert (made.id, made.source, made.relative) == ("e", "x", False)
    assert json.loads(made.value) == WHOLE


@pytest.mark.parametrize("wrong", ["\n", "a\nb", "", "x" * 257, "\ud800", "\0", 7])
@pytest.mark.parametrize("name", ["id", "source"])
@pytest.mark.parametrize("whole", [False, True])
def test_an_id_or_source_that_no_gateway_reads_is_a_bad_row(wrong: Any, name: str, whole: bool) -> None:
    with pytest.raises(BadRow):
        event({**(WHOLE if whole else ROW), name: wrong}, "s", NOW)


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


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(json.dumps(each) for each in rows)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.jsonl", lines(ROW) + "\n" + nested(100_000), "2: is nested too deeply"),
        ("b.json", f"[\n{nested(100_000)}]", "2: is nested too deeply"),
        ("b.csv", "debt,lender,debt.ref\n1,acme,2\n", "1: column debt.ref is part of another column"),
        ("c.csv", "a" + ".a" * 2000 + "\n1\n", "1: is nested too deeply"),
        ("d.jsonl", lines({**WHOLE, "data": json.loads(nested(40))}), "1: too_deep"),
        (
            "e.jsonl",
            lines(ROW, row(borrower={**ROW["borrower"], "name": "\ud800"})),
            "2: is not JSON: half a surrogate",
        ),
        ("f.jsonl", lines(ROW, row(id="\ud800")), "2: is not JSON: half a surrogate"),
        ("g.jsonl", lines(row(borrower={**ROW["borrower"], "ref": "\ud800"})), "1: is not JSON: half a surrogate"),
        ("h.jsonl", lines({**WHOLE, "data": {"borrower": {"ref": "\ud800"}}}), "1: is not JSON: half a surrogate"),
        ("i.jsonl", lines({**ROW, "\ud800": 1}), "1: is not JSON: half a surrogate"),
        ("j.csv", "contacts.\u00b2.channel,lender\nsms,acme\n", "2: wrong_field (data.contacts)"),
        ("k.jsonl", lines({**WHOLE, "data": float("nan")}), "1: is not JSON: NaN"),
        ("l.json", lines({**WHOLE, "data": float("-inf")}), "1: is not JSON: -Infinity"),
        ("m.jsonl", lines({**WHOLE, "data": 1}).replace("1}", "1e999}"), "1: is not JSON: a number beyond"),
        ("n.jsonl", lines(row(id="\n")), "1: not_a_cloudevent (id)"),
        ("o.jsonl", lines({**WHOLE, "source": "x" * 257}), "1: not_a_cloudevent (source)"),
        ("p.jsonl", lines(row(debt={"instalment": "\u0661"})), "1: wrong_field (data.debt.instalment)"),
        ("q.jsonl", lines(row(debt={"instalment": "1" * 5000})), "1: wrong_field (data.debt.instalment)"),
        ("r.csv", f"contacts.{'1' * 5000}.channel\nsms\n", "2: wrong_field (data.contacts)"),
        ("s.jsonl", lines(row(params={"a": "\0"})), "1: nul_character"),
    ],
)
def test_whatever_is_wrong_is_named_and_nothing_is_sent(
    broker: Producer, tmp_path: Path, name: str, text: str, problem: str
) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / name
    good.write_text(lines(ROW))
    bad.write_text(text)
    ran = CliRunner().invoke(app, ["request", str(good), str(bad)])
    assert ran.exit_code == 2
    assert f"{bad}:{problem}" in ran.stderr
    assert "nothing was sent" in ran.stderr
    assert broker.left == 1000


def test_a_moment_at_the_end_of_the_calendar_is_told_by_row(broker: Producer, tmp_path: Path) -> None:
    ran = sent(tmp_path, "--now", "9999-12-31T23:00:00+00:00", not_after="+6h")
    assert ran.exit_code == 2
    assert "rows.jsonl:1: a relative time is beyond every calendar" in ran.stderr
