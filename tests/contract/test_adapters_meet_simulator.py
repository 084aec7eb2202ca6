"""Our adapters against the simulator, which the vendors' own SDKs have approved before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace
from yarl import URL

from gateway.dev.simulator import Action, Credentials, Outcome, ReceiptPlan, ReceiptSettings, Rule, Script, Simulator
from gateway.dev.simulator import SimulatorConfig as Config
from gateway.dev.simulator.codes import FAULTS
from gateway.dev.simulator.names import Vendor
from providers.contract import (
    Accepted,
    Adapter,
    Ambiguous,
    Callback,
    CallbackOutcome,
    Context,
    HttpRequest,
    HttpResponse,
    Inbound,
    KeyPress,
    Receipt,
    Refused,
    Token,
)
from schemas.vocabulary import AttemptState
from tests.contract.case import CONTEXT, REFERENCE, Case, load_case

VENDORS = {
    "twilio_sms": Vendor.TWILIO,
    "twilio_voice": Vendor.TWILIO_VOICE,
    "fcm": Vendor.FCM,
    "aliyun_voice": Vendor.ALIYUN,
    "aliyun_sms": Vendor.ALIYUN_SMS,
}
RECIPIENTS = {
    "twilio_sms": "+8613900001234",
    "twilio_voice": "+8613900001234",
    "fcm": load_case("fcm").message.address,
    "aliyun_voice": "13900001234",
    "aliyun_sms": "13900001234",
}


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    return Credentials.generate()


@pytest.fixture(params=sorted(VENDORS))
def met(request: pytest.FixtureRequest) -> Case:
    return load_case(request.param)


def configure(case: Case, simulator: Simulator) -> Any:
    secrets, urls = simulator.credentials, simulator.urls
    aliyun = {
        "access_key_id": secrets.aliyun_access_key_id,
        "access_key_secret": secrets.aliyun_access_key_secret,
    }
    twilio = {
        "account_sid": secrets.twilio_account_sid,
        "auth_tokens": [secrets.twilio_auth_token, "the one before"],
        "sender": "+14155550000",
    }
    changes: dict[str, dict[str, Any]] = {
        "twilio_sms": twilio,
        "twilio_voice": twilio,
        "fcm": {
            "token_url": urls.token,
            "project_id": secrets.google_project_id,
            "client_email": secrets.google_client_email,
            "private_key_id": secrets.google_private_key_id,
            "private_key": secrets.google_private_key,
        },
        "aliyun_voice": aliyun,
        "aliyun_sms": aliyun,
    }
    return case.configure(base_url=urls.base, **changes[case.name])


@dataclass
class Bench:
    """A simulator, and the far end of its receipts."""

    simulator: Simulator
    session: aiohttp.ClientSession
    base: str
    callbacks: list[Callback] = field(default_factory=list)

    async def post(self, request: HttpRequest) -> HttpResponse:
        async with self.session.post(
            URL(request.url, encoded=True), data=request.body, headers=request.headers
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return HttpResponse(response.status, headers, await response.read())

    async def context(self, adapter: Adapter, settings: Any, nonce: str) -> Context:
        context = replace(CONTEXT, now=datetime.now(UTC), nonce=nonce, callback_url=f"{self.base}/cb/{REFERENCE}")
        if adapter.needs_token:
            token = adapter.parse_token(await self.post(adapter.token_request(settings, context)))
            assert isinstance(token, Token)
            context = replace(context, access_token=token.value)
        return context

    async def send(self, case: Case, nonce: str = "n" * 32) -> tuple[HttpResponse, Any]:
        settings = configure(case, self.simulator)
        context = await self.context(case.adapter, settings, nonce)
        message = case.message
        if message.prompt is not None:
            message = replace(message, prompt=replace(message.prompt, url=f"{context.callback_url}?step=identity"))
        response = await self.post(case.adapter.build_request(message, settings, context))
        return response, case.adapter.classify_response(response)


@asynccontextmanager
async def bench(
    tmp_path: Path, credentials: Credentials, case: Case, *rules: Rule
) -> AsyncIterator[tuple[Bench, asyncio.Event]]:
    arrived = asyncio.Event()

    async def receive(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        last = request.path.rpartition("/")[2]
        attempt = last if last == REFERENCE else None
        made.callbacks.append(Callback(made.base + request.raw_path, headers, await request.read(), attempt))
        arrived.set()
        reply = case.adapter.reply(CallbackOutcome.STORED, case.configure())
        return web.Response(status=reply.status, body=reply.body, headers=dict(reply.headers))

    app = web.Application()
    app.router.add_post("/{path:.*}", receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    quick = ReceiptSettings(delay=(0.0, 0.0), aliyun_url=f"{base}/cb", aliyun_sms_url=f"{base}/cb")
    config = Config(log=tmp_path / "simulator.jsonl", receipts=quick, script=Script(rules=rules))
    try:
        async with Simulator(config, credentials) as simulator, aiohttp.ClientSession() as session:
            made = Bench(simulator, session, base)
            yield made, arrived
    finally:
        await runner.cleanup()


async def test_the_simulator_accepts_our_request(tmp_path: Path, credentials: Credentials, met: Case) -> None:
    quiet = Rule(receipts=ReceiptPlan(outcome=Outcome.NONE))
    async with bench(tmp_path, credentials, met, quiet) as (far, _):
        response, outcome = await far.send(met)
    assert isinstance(outcome, Accepted), response.status
    lines = [json.loads(line) for line in (tmp_path / "simulator.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line["kind"] == "accepted"]
    assert (line["id"], line["reference"], line["recipient"]) == (outcome.ref, REFERENCE, RECIPIENTS[met.name])


async def test_every_error_it_knows_is_read_as_the_case_has_it(
    tmp_path: Path, credentials: Credentials, met: Case
) -> None:
    vendor = VENDORS[met.name]
    # One code may mean several things; which of them depends on details only the documentation's samples have.
    documented: dict[str, set[Any]] = {}
    for _, expected in met.answers:
        documented.setdefault(getattr(expected, "code", ""), set()).add(getattr(expected, "failure", None))
    rules = [Rule(vendor=vendor, action=Action.ERROR, code=code, times=1) for code in FAULTS[vendor]]
    async with bench(tmp_path, credentials, met, *rules) as (far, _):
        for number, code in enumerate(FAULTS[vendor]):
            response, outcome = await far.send(met, nonce=f"{number:032}")
            assert isinstance(outcome, Refused | Ambiguous), code
            if code in documented:
                assert getattr(outcome, "failure", None) in documented[code], code
            else:
                assert 400 <= response.status < 600, f"{code} has no row in the case"
        assert isinstance((await far.send(met, nonce="f" * 32))[1], Accepted), "each rule has spoken once"


ENDINGS = {
    "twilio_sms": {
        Outcome.DELIVERED: [AttemptState.SENT, AttemptState.DELIVERED],
        Outcome.UNDELIVERED: [AttemptState.SENT, AttemptState.UNDELIVERED],
        Outcome.FAILED: [AttemptState.UNDELIVERED],
        Outcome.SENT: [AttemptState.SENT],
    },
    # Whoever answers presses a key, which proves a person; a machine and who hangs up are in the simulator's own tests.
    "twilio_voice": {
        Outcome.ANSWERED: [
            AttemptState.SENT,
            AttemptState.ANSWERED,
            AttemptState.ANSWERED_HUMAN,
            AttemptState.ANSWERED,
        ],
        Outcome.BUSY: [AttemptState.BUSY],
        Outcome.NO_ANSWER: [AttemptState.SENT, AttemptState.NO_ANSWER],
        Outcome.DECLINED: [AttemptState.SENT, AttemptState.DECLINED],
        Outcome.FAILED: [AttemptState.UNDELIVERED],
    },
    "aliyun_voice": {
        Outcome.ANSWERED: [AttemptState.ANSWERED],
        Outcome.BUSY: [AttemptState.BUSY],
        Outcome.NO_ANSWER: [AttemptState.NO_ANSWER],
        Outcome.DECLINED: [AttemptState.DECLINED],
        Outcome.FAILED: [AttemptState.UNDELIVERED],
    },
    "aliyun_sms": {
        Outcome.DELIVERED: [AttemptState.DELIVERED],
        Outcome.UNDELIVERED: [AttemptState.UNDELIVERED],
        Outcome.FAILED: [AttemptState.UNDELIVERED],
        Outcome.DECLINED: [AttemptState.UNDELIVERED],
    },
}


@pytest.mark.parametrize(("name", "outcome"), [(name, outcome) for name in ENDINGS for outcome in ENDINGS[name]])
async def test_its_receipts_are_authentic_and_tell_the_end(
    tmp_path: Path, credentials: Credentials, name: str, outcome: Outcome
) -> None:
    case, expected = load_case(name), ENDINGS[name][outcome]
    async with bench(tmp_path, credentials, case, Rule(receipts=ReceiptPlan(outcome=outcome))) as (far, arrived):
        settings = configure(case, far.simulator)
        _, accepted = await far.send(case)
        async with asyncio.timeout(10):
            while len(far.callbacks) < len(expected):
                await arrived.wait()
                arrived.clear()
        keys = {case.adapter.verify_callback(callback, settings, datetime.now(UTC)) for callback in far.callbacks}
        assert len(keys) == len(expected)
        events = [event for callback in far.callbacks for event in case.adapter.parse_callback(callback)]
        receipts = [event for event in events if isinstance(event, Receipt)]
        pressed = [event for event in events if isinstance(event, KeyPress)]
        assert len(receipts) + len(pressed) == len(events)
        assert [(each.digits, each.step) for each in pressed] in ([], [("1", "identity")])
        assert sorted(receipt.state for receipt in receipts) == sorted(expected)
        for receipt in receipts:
            assert receipt.address in (None, case.message.address)
            assert (receipt.attempt, receipt.ref) == (REFERENCE, accepted.ref)
            if receipt.occurred_at is not None:
                assert abs((datetime.now(UTC) - receipt.occurred_at).total_seconds()) < 60


async def test_what_a_borrower_writes_to_a_number_of_ours_is_authentic(
    tmp_path: Path, credentials: Credentials
) -> None:
    case = load_case("twilio_sms")
    async with bench(tmp_path, credentials, case) as (far, arrived):
        far.simulator.console(twilio_sms_url=f"{far.base}/cb#rc=1")
        letter = {
            "vendor": "twilio",
            "number": "+8613900001234",
            "content": "已还 100%+ STOP",
            "dest_code": "+14155550000",
        }
        async with far.session.post(f"{far.simulator.urls.control}/reply", json=letter) as response:
            sid = (await response.json())["id"]
        async with asyncio.timeout(10):
            await arrived.wait()
        (callback,) = far.callbacks
        assert case.adapter.verify_callback(callback, configure(case, far.simulator), datetime.now(UTC))
        assert case.adapter.parse_callback(callback) == [
            Inbound(sid, "+8613900001234", "+14155550000", "已还 100%+ STOP")
        ]


async def test_what_the_borrower_writes_back_is_read_beside_a_receipt(tmp_path: Path, credentials: Credentials) -> None:
    case = load_case("aliyun_sms")
    async with bench(tmp_path, credentials, case) as (far, arrived):
        _, accepted = await far.send(case)
        letter = {"number": RECIPIENTS["aliyun_sms"], "content": "已还 100%+", "dest_code": "1069000012341234"}
        async with far.session.post(f"{far.simulator.urls.control}/reply", json=letter) as response:
            sequence = (await response.json())["sequence_id"]
        events: list[Any] = []
        async with asyncio.timeout(10):
            while len(events) < 2:
                await arrived.wait()
                arrived.clear()
                events = [event for callback in far.callbacks for event in case.adapter.parse_callback(callback)]
    (receipt,) = [event for event in events if isinstance(event, Receipt)]
    (inbound,) = [event for event in events if isinstance(event, Inbound)]
    assert (receipt.state, receipt.ref, receipt.address) == (AttemptState.DELIVERED, accepted.ref, case.message.address)
    assert (inbound.ref, inbound.sender, inbound.recipient, inbound.text) == (
        str(sequence), case.message.address, "1069000012341234", "已还 100%+",
    )  # fmt: skip
    assert inbound.occurred_at is not None
    assert abs((datetime.now(UTC) - inbound.occurred_at).total_seconds()) < 60
