"""The question to a lender's own service: over real connections to a service on this machine's loopback."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gateway import policy
from gateway.dispatch.question import Asked, Never, Question
from gateway.dispatch.reserve import Reservation
from gateway.dispatch.transport import Timeouts, Transport
from gateway.ledger.claims import Claimed
from gateway.ledger.merged import Slices, Told
from schemas.vocabulary import Reason
from tests.unit.dispatch.case import NOW, claimed

PATIENT = Timeouts(1.0, 5.0, 10.0)
SEND: Any = {"answer": "send"}


class Service:
    """A lender's own.  `says` is the next answer: a JSON value, bytes, a status, or something to wait for."""

    def __init__(self) -> None:
        self.says: Any = SEND
        self.by_debt: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.at_once = self.most_at_once = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.asked.append(
                (
                    request.path_qs,
                    {name.lower(): value for name, value in request.headers.items()},
                    await request.json(),
                )
            )
            says = self.by_debt.get(self.asked[-1][2]["debt"], self.says)
            if isinstance(says, asyncio.Event):
                await says.wait()
                says = SEND
            if isinstance(says, int):
                return web.Response(status=says)
            return web.Response(body=says if isinstance(says, bytes) else json.dumps(says).encode())
        finally:
            self.at_once -= 1


class Case:
    def __init__(self, service: Service, transport: Transport) -> None:
        self.service = service
        self.transport = transport
        self.told: list[Asked] = []
        self.opened: list[str] = []

    def question(
        self, *, slots: int = 4, cache: float = 0.0, requests: bool = False, patience: float = 1.0
    ) -> Question:
        reservation = Reservation(
            slots, None, None, time.monotonic, lambda scope, failure, seconds: self.opened.append(failure),
            patience=patience,
        )  # fmt: skip
        return Question(
            self.service.url, "a-token", self.transport, reservation, cache, lambda: NOW,
            lambda asked, seconds: self.told.append(asked), requests,
        )  # fmt: skip


@asynccontextmanager
async def serving(timeouts: Timeouts = PATIENT) -> AsyncIterator[Case]:
    service = Service()
    app = web.Application()
    app.router.add_post("/may", service.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}/may"
    transport = Transport(timeouts, 4, loopback_only=True)
    await transport.open()
    try:
        yield Case(service, transport)
    finally:
        await transport.close()
        await runner.cleanup()


def planned(**changes: Any) -> Claimed:
    values = {"occasion": "default/1/d3", "borrower": "b-7", "debt": "loan-9", "instalment": 3, **changes}
    return claimed(**values)


async def test_it_names_the_debt_and_nobody() -> None:
    async with serving() as it:
        assert await it.question().ask(planned(sealed=b"secret")) is None
        [(path, headers, body)] = it.service.asked
        assert (path, headers["authorization"]) == ("/may", "Bearer a-token")
        assert body == {"lender": "acme", "borrower_ref": "b-7", "debt": "loan-9", "instalment": 3, "stage": "d3"}
        assert it.told == [Asked.SEND]


@pytest.mark.parametrize("reason", [Reason.PAID, Reason.STOPPED, Reason.OPTED_OUT])
async def test_no_ends_it_by_the_lenders_reason(reason: Reason) -> None:
    async with serving() as it:
        it.service.says = {"answer": "never", "reason": reason.value, "since": "yesterday"}
        assert await it.question().ask(planned()) == policy.Cancel(reason, "question_never")
        assert it.told == [Asked.NEVER]


def other(reminder: int, debt: str) -> Told:
    slices = Slices("core", "acme", None, "t", "d3")
    return Told(
        reminder,
        b"",
        along=True,
        debt=debt,
        instalment=3,
        stage="d3",
        slices=slices,
        occasion="",
        fresh_at=None,
        waits=True,
    )


async def test_of_what_its_message_tells_besides_each_is_asked_about_and_no_ends_that_one() -> None:
    async with serving() as it:
        it.service.by_debt = {"loan-10": {"answer": "never", "reason": "paid"}, "loan-11": {"answer": "later"}}
        question = it.question()
        assert await question.ask(planned(), [other(7, "loan-8")]) is None
        assert await question.ask(planned(), [other(7, "loan-8"), other(8, "loan-10")]) == Never(8, Reason.PAID)
        assert isinstance(await question.ask(planned(), [other(9, "loan-11"), other(8, "loan-10")]), policy.Defer)
        # Of itself it is asked first: where it may not leave nobody is asked about the others.
        it.service.by_debt["loan-9"] = {"answer": "never", "reason": "stopped"}
        assert await question.ask(planned(), [other(8, "loan-10")]) == policy.Cancel(Reason.STOPPED, "question_never")
        assert [about["debt"] for _, _, about in it.service.asked] == [
            "loan-9", "loan-8", "loan-9", "loan-8", "loan-10", "loan-9", "loan-11", "loan-9",
        ]  # fmt: skip


async def test_later_puts_it_off() -> None:
    async with serving() as it:
        it.service.says = {"answer": "later"}
        verdict = await it.question().ask(planned())
        assert isinstance(verdict, policy.Defer)
        assert verdict.rule == "question_later"
        assert dt.timedelta(minutes=10) <= verdict.until - NOW <= dt.timedelta(minutes=20)


ODD: list[Any] = [
    404, 500, 204, 302, b"", b"yes", b'"send"', b"\xff", {}, {"answer": "yes"}, {"answer": True},
    {"answer": "never"}, {"answer": "never", "reason": "because"}, [SEND],
]  # fmt: skip


@pytest.mark.parametrize("says", ODD, ids=str)
async def test_what_nobody_can_read_is_no_yes(says: Any) -> None:
    async with serving() as it:
        it.service.says = says
        verdict = await it.question(cache=60).ask(planned())
        assert isinstance(verdict, policy.Defer)
        assert verdict.rule == "question_failed"
        assert it.told == [Asked.FAILED]


async def test_late_and_away_are_no_yes() -> None:
    async with serving(Timeouts(0.2, 0.2, 0.5)) as it:
        it.service.says = asyncio.Event()
        assert isinstance(await it.question().ask(planned()), policy.Defer)
        it.service.says.set()
        it.service.url = "http://127.0.0.1:1/may"
        assert isinstance(await it.question().ask(planned()), policy.Defer)
        assert it.told == [Asked.FAILED, Asked.FAILED]


async def test_in_mode_simulate_nobody_else_is_asked() -> None:
    async with serving() as it:
        it.service.url = "https://192.0.2.1/may"
        assert isinstance(await it.question().ask(planned()), policy.Defer)


async def test_an_answer_is_good_for_a_moment_and_a_failure_is_not() -> None:
    async with serving() as it:
        question = it.question(cache=60)
        it.service.says = 500
        await question.ask(planned())
        it.service.says = {"answer": "never", "reason": "paid"}
        for _ in range(2):
            assert await question.ask(planned()) == policy.Cancel(Reason.PAID, "question_never")
        assert await question.ask(planned(instalment=4)) == policy.Cancel(Reason.PAID, "question_never")
        assert it.told == [Asked.FAILED, Asked.NEVER, Asked.CACHED, Asked.NEVER]
        assert len(it.service.asked) == 3
        fresh = it.question(cache=0)
        await fresh.ask(planned())
        await fresh.ask(planned())
        assert len(it.service.asked) == 5


async def test_after_a_login_that_is_refused_nobody_is_asked_for_a_while() -> None:
    async with serving() as it:
        question = it.question()
        it.service.says = 401
        await question.ask(planned())
        it.service.says = SEND
        assert isinstance(await question.ask(planned()), policy.Defer)
        assert (it.told, it.opened, len(it.service.asked)) == ([Asked.FAILED, Asked.BUSY], ["bad_config"], 1)


async def test_ten_failures_in_a_row_open_its_circuit() -> None:
    async with serving() as it:
        question = it.question()
        it.service.says = 503
        for _ in range(12):
            assert isinstance(await question.ask(planned()), policy.Defer)
        assert len(it.service.asked) == 10
        assert it.told[10:] == [Asked.BUSY, Asked.BUSY]


async def test_no_more_at_once_than_it_may_and_who_finds_no_place_is_put_off() -> None:
    async with serving() as it:
        question = it.question(slots=2, patience=0.2)
        it.service.says = held = asyncio.Event()
        asking = [asyncio.create_task(question.ask(planned(instalment=k))) for k in range(5)]
        async with asyncio.timeout(30):
            while it.told.count(Asked.BUSY) < 3:
                await asyncio.sleep(0.01)
        held.set()
        verdicts = await asyncio.gather(*asking)
        assert it.service.most_at_once == 2
        assert sum(each is None for each in verdicts) == 2
        assert await question.ask(planned()) is None, "the places are free again"


@pytest.mark.parametrize(("requests", "concerned"), [(False, False), (True, True)])
async def test_what_was_requested_is_asked_about_only_where_that_is_said(requests: bool, concerned: bool) -> None:
    async with serving() as it:
        question = it.question(requests=requests)
        assert question.concerns(planned())
        assert question.concerns(claimed()) is concerned


async def test_another_token_counts_from_the_next_question_on() -> None:
    async with serving() as it:
        question = it.question()
        await question.ask(planned())
        question.renew(it.service.url, "another")
        await question.ask(planned())
        assert [headers["authorization"] for _, headers, _ in it.service.asked] == ["Bearer a-token", "Bearer another"]
