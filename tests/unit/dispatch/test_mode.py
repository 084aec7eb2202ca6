"""Mode allowlist before a send: the verdict, its evidence, and the last fence should the verdict be wrong."""

import datetime as dt
import json
import time
from typing import Any, Final

import pytest

from gateway import personal, policy
from gateway.allowlist import Allowlist, index_of
from gateway.content import Catalogue
from gateway.dispatch.pipeline import Job, LenderRoutes, Steps, inputs_of
from gateway.dispatch.send import Retries, Sender
from gateway.dispatch.transport import NotSent, Wire
from gateway.ids import IdSource
from gateway.ledger.freezes import Freezes
from gateway.personal import Sealed
from gateway.sealing import Sealer
from gateway.worker import Lease
from providers.contract import HttpResponse
from schemas.vocabulary import AttemptState, Channel, Failure, Mode, Reason, Stage
from tests.unit.dispatch.case import NOW, PHONE, Line, Scripted, claimed, job, message, provider

SEALER: Final = Sealer({1: b"k" * 32}, 1, b"i" * 32)
OTHER: Final = "+14155550124"
UNFROZEN: Final = Freezes({})
SUPPRESSED: Final = policy.Suppress(Reason.NOT_ALLOWLISTED, "not_allowlisted")


def listing(*addresses: str) -> Allowlist:
    return Allowlist([index_of(each, SEALER) for each in addresses], SEALER)


def steps(mode: Mode, allowlist: Allowlist | None) -> Steps:
    it = provider(Line(HttpResponse(200)), allowlist=allowlist)
    routes = {channel: it.name for channel in (Channel.SMS, Channel.VOICE)}
    lenders = {"acme": LenderRoutes("Acme", "en", routes)}
    return Steps(Catalogue.load(), SEALER, lenders, {it.name: it}, mode, allowlist)


def reminder(*addresses: str, rung: int = 0, sealer: Sealer = SEALER, **changes: Any) -> Job:
    """A claimed reminder with these phones, still sealed."""
    part = Sealed(
        "en", "Asia/Shanghai", "CN", tuple((Channel.SMS, each) for each in addresses), "12.50", "CNY",
        (NOW + dt.timedelta(days=3)).date(), NOW, Stage.D3, name="Li Lei",
        params={"pay_url": "https://pay.example.com/a", "reference": "M-1"},
    )  # fmt: skip
    facts = claimed(ladder="s" * len(addresses), rung=rung, **changes)
    sealed = sealer.seal(personal.encode(part), facts.id, personal.SEALED_FIELD)
    return Job(claimed(ladder=facts.ladder, rung=rung, sealed=sealed, **changes), Lease(3, time.monotonic() + 60))


def prepared(it: Steps, made: Job, freezes: Freezes = UNFROZEN) -> policy.Verdict | None:
    return it.prepare(made, NOW, freezes, IdSource(1))


# --- the verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rung", "listed", "verdict"),
    [
        (0, [PHONE], None),
        (0, [OTHER], SUPPRESSED),
        (0, [], SUPPRESSED),
        (1, [PHONE], SUPPRESSED),
        (1, [OTHER], None),
        (1, [PHONE, OTHER], None),
    ],
)
def test_the_contact_about_to_be_tried_must_be_listed(rung: int, listed: list[str], verdict: object) -> None:
    made = reminder(PHONE, OTHER, rung=rung)
    assert prepared(steps(Mode.ALLOWLIST, listing(*listed)), made) == verdict
    assert (made.intent is None) == (verdict is not None)
    if made.message is not None:
        assert made.message.address == [PHONE, OTHER][rung]


@pytest.mark.parametrize("again", [{"tries": 3}, {"attempts": 2}])
def test_a_repeat_is_asked_about_as_the_first_was(again: dict[str, Any]) -> None:
    assert prepared(steps(Mode.ALLOWLIST, listing(OTHER)), reminder(PHONE, **again)) == SUPPRESSED


@pytest.mark.parametrize("mode", [Mode.SIMULATE, Mode.LIVE])
def test_the_other_modes_leave_nobody_out(mode: Mode) -> None:
    assert prepared(steps(mode, None), reminder(PHONE)) is None


def test_what_does_not_open_is_held_and_not_taken_for_unlisted() -> None:
    broken = reminder(PHONE, sealer=Sealer({1: b"x" * 32}, 1, b"i" * 32))
    it = steps(Mode.ALLOWLIST, listing(PHONE))
    assert prepared(it, broken) == policy.Hold(Reason.BUG, "seal_does_not_open")
    stopped = reminder(PHONE, sealer=Sealer({1: b"x" * 32}, 1, b"i" * 32), closed=Reason.CANCELLED_DEBT)
    assert prepared(it, stopped) == policy.Cancel(Reason.CANCELLED_DEBT)


@pytest.mark.parametrize("listed", [[PHONE], []])
def test_the_evidence_names_the_mode_and_not_the_address(listed: list[str]) -> None:
    made = reminder(PHONE)
    prepared(steps(Mode.ALLOWLIST, listing(*listed)), made)
    inputs = inputs_of(made)
    assert json.loads(inputs)["mode"] == "allowlist"
    assert PHONE[1:] not in inputs
    assert index_of(PHONE, SEALER) not in inputs
    assert PHONE[1:] not in repr(made)


def test_the_evidence_of_a_rehearsal_cannot_pass_for_a_real_one() -> None:
    found = []
    for mode in (Mode.SIMULATE, Mode.LIVE):
        made = reminder(PHONE)
        prepared(steps(mode, None), made)
        assert made.intent is not None
        found.append(json.loads(made.intent.inputs).get("mode"))
    assert found == ["simulate", None]


# --- the last fence ---------------------------------------------------------------------------------------------------


async def test_nothing_is_built_or_sent_for_an_address_that_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    line, adapter = Line(HttpResponse(200)), Scripted()
    built: list[str] = []
    build = adapter.build_request
    adapter.build_request = lambda message, *more: built.append(message.address) or build(message, *more)  # type: ignore
    it = provider(line, adapter, allowlist=listing(OTHER))
    assert await it.post(message(), None, lambda: True) == NotSent(Wire.NOT_ALLOWLISTED)
    assert (built, line.sent) == ([], [])
    said = capsys.readouterr().out
    assert "address_not_allowlisted" in said
    assert PHONE[1:] not in said
    it = provider(line, adapter, allowlist=listing(PHONE))
    assert await it.post(message(), None, lambda: True) == HttpResponse(200)
    assert (built, len(line.sent)) == ([PHONE], 1)


@pytest.mark.parametrize("needs_token", [False, True])
async def test_an_attempt_that_should_never_have_been_made_is_not_sent_and_a_bug(needs_token: bool) -> None:
    line = Line(HttpResponse(200))
    it = provider(line, Scripted(needs_token=needs_token), allowlist=listing())
    asked: list[Job] = []

    async def again(each: Job) -> bool:
        asked.append(each)
        return True

    outcome = await Sender(again, lambda: NOW, Retries()).send(job(it))
    assert (outcome.state, outcome.failure, outcome.code) == (
        AttemptState.NOT_SENT, Failure.BUG, "not_allowlisted",
    )  # fmt: skip
    assert (line.sent, asked) == ([], [])
