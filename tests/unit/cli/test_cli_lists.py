"""What the commands for people refuse before they touch anything, and how they read times and print what is stored."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import typer
from typer.testing import CliRunner

from gateway.cli import app, lists, redrive
from gateway.cli.deadletters import _shown
from gateway.ids import to_reference
from gateway.ledger.redrives import Became, Redriven
from gateway.ledger.workers import NoWorkerNumber

NOW = dt.datetime.now(dt.UTC)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("deadletters redrive", "name letters by their ids, or by --reason"),
        ("deadletters redrive 0000000000000 --since 1h", "name letters by their ids, or by --reason"),
        ("deadletters redrive --since 1h --yes", "say who does it: --author"),
        ("deadletters redrive --since 1h --yes --author +8613900000001", "--author holds a phone or identity number"),
        ("deadletters list --since yesterday", "must be a time"),
        ("deadletters list --reason nonsense", "'nonsense' is not one of"),
        ("unknowns settle 0000000000000 --as delivered --yes --reason r", "say who does it: --author"),
        ("unknowns settle 0000000000000 --as delivered --yes --author ann", "say why: --reason"),
        ("unknowns settle 0000000000000 --as sent --yes --author ann --reason r", "'sent' is not one of"),
        ("reminders list --state unheard", "'unheard' is not one of"),
    ],
)
def test_what_is_asked_wrongly(arguments: str, problem: str) -> None:
    ran = CliRunner().invoke(app, [*arguments.split(), "--config", "/nowhere/gateway.yaml"], env={"COLUMNS": "200"})
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert problem in " ".join(ran.stderr.split())


@pytest.mark.parametrize(
    "arguments", ["deadletters show x", "deadletters redrive x", "unknowns settle x --as delivered"]
)
def test_what_is_no_id(arguments: str) -> None:
    ran = CliRunner().invoke(app, [*arguments.split(), "--config", "/nowhere/gateway.yaml"])
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "no such" in ran.stderr


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-18", dt.datetime(2026, 11, 18, tzinfo=dt.UTC)),
        ("2026-11-18 09:30:01", dt.datetime(2026, 11, 18, 9, 30, 1, tzinfo=dt.UTC)),
        ("2026-11-18T09:30+08:00", dt.datetime(2026, 11, 18, 1, 30, tzinfo=dt.UTC)),
        ("90m", NOW - dt.timedelta(minutes=90)),
        ("-7d", NOW - dt.timedelta(days=7)),
    ],
)
def test_times_as_people_write_them(text: str, meant: dt.datetime) -> None:
    assert abs(lists.moment(text) - meant) < dt.timedelta(minutes=1)


@pytest.mark.parametrize("text", ["soon", "7", "7y", "999999d", ""])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        lists.moment(text)


@pytest.mark.parametrize("text", ["call +86 139 0000 0001 please", "a\nb", "13900000001", "x" * 501])
def test_reasons_that_are_not_kept(text: str) -> None:
    with pytest.raises(typer.Exit):
        lists.reason_of(text)
    assert lists.reason_of(" SM0123456789abcdef0123456789abcdef, ticket 4711 ") == (
        "SM0123456789abcdef0123456789abcdef, ticket 4711"
    )


def test_what_was_done_before_an_interruption_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*arguments: Any) -> None:
        arguments[-1].append(Redriven(7, Became.DUPLICATE))
        raise KeyboardInterrupt

    monkeypatch.setattr(redrive, "_redrive", interrupted)
    monkeypatch.setattr(redrive, "read", lambda path: None)
    ran = CliRunner().invoke(app, ["deadletters", "redrive", "--since", "1h", "--yes", "--author", "ann", "--json"])
    assert ran.exit_code == 130
    assert json.loads(ran.stdout)["becomes"] == "duplicate"
    assert ran.stderr == "1 dead letter\n1 duplicate\ninterrupted: repeat it for the rest\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (asyncpg.QueryCanceledError("slow"), 1, "the database cannot be used: QueryCanceledError\n"),
        (ConnectionResetError(), 1, "the database cannot be used: ConnectionResetError\n"),
        (NoWorkerNumber("no number is free"), 1, "no number is free\n"),
        (ZeroDivisionError(), 1, ""),
    ],
)
def test_what_was_done_before_an_error_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    """Also where letting go of the worker's number fails then, as it does when the database is gone."""

    class Breaks:
        batches = 0

        async def start(self) -> None: ...

        async def stop(self) -> None:
            raise ConnectionRefusedError

        async def batch(self, ids: list[int], author: str, *, keep: bool) -> list[Redriven]:
            self.batches += 1
            if self.batches > 2:
                raise error
            return [Redriven(each, Became.DUPLICATE) for each in ids]

    @asynccontextmanager
    async def database(config: object) -> AsyncIterator[None]:
        try:
            yield
        except (OSError, asyncpg.PostgresError):
            raise typer.Exit(9) from None

    async def redriver(config: object, ledger: object) -> Breaks:
        return Breaks()

    for name, fake in (("database", database), ("_redriver", redriver), ("read", lambda path: None)):
        monkeypatch.setattr(redrive, name, fake)
    ids = [to_reference(each) for each in range(1, 61)]
    ran = CliRunner().invoke(app, ["deadletters", "redrive", *ids, "--yes", "--author", "ann", "--json"])
    assert ran.exit_code == code
    assert [json.loads(each)["letter"] for each in ran.stdout.splitlines()] == ids[:50]
    assert ran.stderr == (
        "50 dead letters\n50 duplicate\nended by an error: repeat it for the rest; "
        f"of the next {redrive._BATCH} it is not known whether they are done: see `deadletters list`\n{said}"
    )
    if not said:
        assert ran.exception is error
    ran = CliRunner().invoke(app, ["deadletters", "redrive", *ids[:50], "--yes", "--author", "ann", "--json"])
    assert (ran.exit_code, len(ran.stdout.splitlines())) == (0, 50)


def test_what_takes_long_says_how_far_it_is_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod or a job there is no bar."""

    class Redrives:
        async def start(self) -> None: ...

        async def stop(self) -> None: ...

        async def batch(self, ids: list[int], author: str, *, keep: bool) -> list[Redriven]:
            return [Redriven(each, Became.DUPLICATE) for each in ids]

    @asynccontextmanager
    async def database(config: object) -> AsyncIterator[None]:
        yield

    async def redriver(config: object, ledger: object) -> Redrives:
        return Redrives()

    for name, fake in (("database", database), ("_redriver", redriver), ("read", lambda path: None)):
        monkeypatch.setattr(redrive, name, fake)
    ids = [to_reference(each) for each in range(1, 1001)]
    ran = CliRunner().invoke(app, ["deadletters", "redrive", *ids, "--yes", "--author", "ann", "--json"])
    assert ran.exit_code == 0
    assert ran.stderr.splitlines()[:3] == ["250 of 1,000", "500 of 1,000", "750 of 1,000"]
    assert "1,000 of" not in ran.stderr


def test_stored_bytes_do_nothing_to_a_terminal() -> None:
    assert _shown(b"\x1b[2J\x07\xff{}\n\xe6\x9d\x8e") == "\\x1b[2J\\x07\\xff{}\\n李"
    assert _shown(None) == "null"


def test_a_table_and_lines_of_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "at": dt.datetime(2026, 11, 18, 9, tzinfo=dt.UTC), "why": "[bold]", "n": None}
    ]
    lists.show(rows, ("id", "at", "why"), as_json=True)
    assert capsys.readouterr().out == '{"id": "a", "at": "2026-11-18T09:00:00.000+00:00", "why": "[bold]", "n": null}\n'
    lists.show(rows, ("id", "at", "why"), as_json=False)
    out = capsys.readouterr().out
    assert "[bold]" in out
    assert "2026-11-18 09:00:00" in out
