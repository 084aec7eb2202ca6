"""Send: what each answer makes of an attempt, and that a second first byte follows only proof and the fences."""

import asyncio
import datetime as dt
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.pipeline import Job
from gateway.dispatch.provider import Provider
from gateway.dispatch.send import MARGIN_SECONDS, Retries, Sender
from gateway.dispatch.transport import MaybeSent, NotSent, Wire
from gateway.ledger.outcomes import Outcome
from providers.contract import Accepted, Ambiguous, CannotReach, HttpRequest, HttpResponse, Refused
from schemas.vocabulary import AttemptState, Failure, FailureScope
from tests.unit.dispatch.case import NOW, PHONE, TIMEOUTS, Line, Scripted, Wired, job, provider, told

BUGS = [Wire.BAD_REQUEST, Wire.NOT_ALLOWLISTED, Wire.NOT_LOOPBACK]
WIRES = [wire for wire in Wire if wire not in (*BUGS, Wire.CANCELLED, Wire.CANNOT_REACH)]


class Fence:
    """`again`: says yes until told otherwise, and writes down how many requests had left when it was asked."""

    def __init__(self, line: Line, *says: bool) -> None:
        self.line = line
        self.says = list(says)
        self.asked_after: list[int] = []

    async def __call__(self, _: Job) -> bool:
        self.asked_after.append(len(self.line.sent))
        return self.says.pop(0) if self.says else True


async def no_wait(_: float) -> None:
    return None


def sender(fence: Fence, attempts: int = 3, now: dt.datetime = NOW) -> Sender:
    return Sender(fence, lambda: now, Retries(attempts=attempts), sleep=no_wait)


async def send(it: Provider, line: Line, *says: bool, **about: float) -> tuple[Outcome, Fence]:
    fence = Fence(line, *says)
    return await sender(fence).send(job(it, **about)), fence


# --- the outcome table ------------------------------------------------------------------------------------------------


async def test_accepted() -> None:
    line = Line(HttpResponse(200))
    it = provider(line)
    outcome, fence = await send(it, line)
    assert (outcome.state, outcome.failure, outcome.ref) == (AttemptState.ACCEPTED, None, "ref-1")
    assert told(it) == [(None, None, None)]
    assert fence.asked_after == []
    assert (outcome.attempt, outcome.provider) == (1, "scripted-1")


@pytest.mark.parametrize("failure", [each for each in Failure if each is not Failure.AMBIGUOUS])
@pytest.mark.parametrize("scope", list(FailureScope))
async def test_refused(failure: Failure, scope: FailureScope) -> None:
    line, adapter = Line(HttpResponse(400)), Scripted()
    adapter.table[400] = Refused(failure, scope, "code-7", 12.0)
    it = provider(line, adapter)
    outcome, _ = await send(it, line)
    assert (outcome.state, outcome.failure, outcome.code) == (AttemptState.REJECTED, failure, "code-7")
    assert outcome.retry_after == 12.0
    assert told(it) == [(failure, scope, 12.0)]
    assert len(line.sent) == 1


async def test_a_refusal_that_is_ambiguous_is_unknown() -> None:
    line, adapter = Line(HttpResponse(400)), Scripted()
    adapter.table[400] = Refused(Failure.AMBIGUOUS, FailureScope.ACCOUNT, "code-8")
    outcome, _ = await send(provider(line, adapter), line)
    assert (outcome.state, outcome.failure) == (AttemptState.UNKNOWN, Failure.AMBIGUOUS)


async def test_ambiguous() -> None:
    line = Line(HttpResponse(500))
    it = provider(line)
    outcome, fence = await send(it, line)
    assert (outcome.state, outcome.failure, outcome.code) == (AttemptState.UNKNOWN, Failure.AMBIGUOUS, "http_500")
    assert told(it) == [(Failure.AMBIGUOUS, FailureScope.ACCOUNT, None)]
    assert len(line.sent) == 1
    assert fence.asked_after == []


@pytest.mark.parametrize("wire", list(Wire))
async def test_maybe_sent_is_unknown_and_never_sent_again(wire: Wire) -> None:
    line = Line(MaybeSent(wire), HttpResponse(200))
    outcome, fence = await send(provider(line), line)
    assert (outcome.state, outcome.failure, outcome.code) == (AttemptState.UNKNOWN, Failure.AMBIGUOUS, wire)
    assert len(line.sent) == 1
    assert fence.asked_after == []


@pytest.mark.parametrize("wire", WIRES)
async def test_not_sent_is_tried_again_and_then_recorded(wire: Wire) -> None:
    line = Line(NotSent(wire))
    it = provider(line)
    outcome, fence = await send(it, line)
    assert (outcome.state, outcome.failure, outcome.code) == (AttemptState.NOT_SENT, Failure.TRANSIENT, wire)
    assert len(line.sent) == 3
    assert fence.asked_after == [1, 2]
    assert told(it) == [(Failure.TRANSIENT, FailureScope.ACCOUNT, None)]


@pytest.mark.parametrize("wire", BUGS)
async def test_what_may_not_or_cannot_be_sent_is_our_bug_and_not_the_providers(wire: Wire) -> None:
    line = Line(NotSent(wire))
    it = provider(line)
    for _ in range(20):
        outcome, fence = await send(it, line)
        assert (outcome.state, outcome.failure) == (AttemptState.NOT_SENT, Failure.BUG)
        assert fence.asked_after == []
    assert len(line.sent) == 20
    assert it.reservation.take("repayment") == 0.0  # no circuit opened


async def test_an_address_that_the_provider_cannot_reach_takes_the_next_contact() -> None:
    line = Line(NotSent(Wire.BAD_REQUEST))

    class Elsewhere(Scripted):
        def build_request(self, message: object, settings: object, ctx: object) -> HttpRequest:
            raise CannotReach("not there")

    it = provider(line, Elsewhere())
    outcome, fence = await send(it, line)
    assert (outcome.state, outcome.failure, outcome.code) == (
        AttemptState.NOT_SENT, Failure.BAD_RECIPIENT, Wire.CANNOT_REACH,
    )  # fmt: skip
    assert (line.sent, fence.asked_after) == ([], [])
    assert it.reservation.take("repayment") == 0.0  # it says nothing about the provider


async def test_a_request_that_cannot_be_built_is_our_bug() -> None:
    line, adapter = Line(HttpResponse(200)), Scripted()
    adapter.broken = True
    outcome, _ = await send(provider(line, adapter), line)
    assert (outcome.state, outcome.failure) == (AttemptState.NOT_SENT, Failure.BUG)
    assert line.sent == []


# --- before the first byte --------------------------------------------------------------------------------------------


async def test_past_send_by_nothing_leaves() -> None:
    line = Line(HttpResponse(200))
    it = provider(line)
    fence = Fence(line)
    outcome = await sender(fence).send(job(it, send_by=NOW))
    assert (outcome.state, outcome.failure, outcome.code) == (AttemptState.NOT_SENT, Failure.TRANSIENT, Wire.CANCELLED)
    assert line.sent == []
    assert fence.asked_after == []  # asking again would find the same
    assert told(it) == []


@pytest.mark.parametrize("lease", [-5.0, 0.0, TIMEOUTS.total + MARGIN_SECONDS - 0.5])
async def test_with_a_lease_that_does_not_cover_the_timeouts_nothing_leaves(lease: float) -> None:
    line = Line(HttpResponse(200))
    outcome, _ = await send(provider(line), line, lease_seconds=lease)
    assert outcome.state is AttemptState.NOT_SENT
    assert line.sent == []


async def test_a_retry_looks_at_the_limits_again() -> None:
    times = iter([NOW, NOW + dt.timedelta(hours=2)])
    line = Line(NotSent(Wire.REFUSED), HttpResponse(200))
    it = provider(line)
    outcome = await Sender(Fence(line), lambda: next(times), Retries(), sleep=no_wait).send(job(it))
    assert outcome.state is AttemptState.NOT_SENT
    assert len(line.sent) == 1


async def test_retries_end_before_the_lease_does() -> None:
    line = Line(NotSent(Wire.REFUSED))
    outcome, _ = await send(provider(line), line, lease_seconds=TIMEOUTS.total + MARGIN_SECONDS + 0.05)
    assert outcome.state is AttemptState.NOT_SENT
    assert 1 <= len(line.sent) <= 3


# --- again ------------------------------------------------------------------------------------------------------------


async def test_a_retry_follows_only_the_fences() -> None:
    line = Line(NotSent(Wire.REFUSED), HttpResponse(200))
    outcome, fence = await send(provider(line), line, False, False)
    assert outcome.state is AttemptState.NOT_SENT
    assert len(line.sent) == 1
    assert fence.asked_after == [1, 1]


async def test_a_retry_that_gets_through_counts() -> None:
    line = Line(NotSent(Wire.REFUSED), HttpResponse(200))
    outcome, fence = await send(provider(line), line)
    assert outcome.state is AttemptState.ACCEPTED
    assert fence.asked_after == [1]


async def test_a_retry_that_may_have_left_ends_it() -> None:
    line = Line(NotSent(Wire.REFUSED), MaybeSent(Wire.READ_TIMEOUT), HttpResponse(200))
    outcome, _ = await send(provider(line), line)
    assert outcome.state is AttemptState.UNKNOWN
    assert len(line.sent) == 2


wired = st.one_of(
    st.sampled_from([NotSent(wire) for wire in Wire]),
    st.sampled_from([MaybeSent(wire) for wire in Wire]),
    st.sampled_from([HttpResponse(status) for status in (200, 400, 401, 500)]),
)


@given(answers=st.lists(wired, min_size=1, max_size=5), says=st.lists(st.booleans(), max_size=6), token=st.booleans())
async def test_whatever_comes_each_first_byte_after_the_first_had_proof_and_fences(
    answers: list[Wired], says: list[bool], token: bool
) -> None:
    adapter = Scripted(needs_token=token)
    adapter.table[400] = Refused(Failure.BUG, FailureScope.ACCOUNT, "x")
    line = Line(*answers)
    given_answers = [*answers]
    fence = Fence(line, *says)
    outcome = await sender(fence).send(job(provider(line, adapter)))
    for n in range(1, len(line.sent)):
        before = given_answers[min(n - 1, len(given_answers) - 1)]
        proof = isinstance(before, NotSent) or (token and isinstance(before, HttpResponse) and before.status == 401)
        assert proof
        assert n in fence.asked_after
    last = given_answers[min(len(line.sent), len(given_answers)) - 1]
    if isinstance(last, MaybeSent) or (isinstance(last, HttpResponse) and last.status == 500):
        assert outcome.state is AttemptState.UNKNOWN
    elif isinstance(last, HttpResponse) and last.status == 200:
        assert outcome.state is AttemptState.ACCEPTED
    else:
        assert outcome.state in (AttemptState.NOT_SENT, AttemptState.REJECTED)


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_the_token_is_fetched_once_for_many_sends() -> None:
    line = Line(HttpResponse(200))
    it = provider(line, Scripted(needs_token=True))
    for _ in range(5):
        await send(it, line)
    assert line.tokens == 1
    assert {each.headers["authorization"] for each in line.sent} == {"token-1"}


async def test_a_refused_token_is_refreshed_once_and_the_fences_pass_again() -> None:
    line = Line(HttpResponse(401), HttpResponse(200))
    it = provider(line, Scripted(needs_token=True))
    outcome, fence = await send(it, line)
    assert outcome.state is AttemptState.ACCEPTED
    assert [each.headers["authorization"] for each in line.sent] == ["token-1", "token-2"]
    assert fence.asked_after == [1]


async def test_a_token_refused_twice_is_bad_configuration() -> None:
    line = Line(HttpResponse(401))
    it = provider(line, Scripted(needs_token=True))
    outcome, _ = await send(it, line)
    assert (outcome.state, outcome.failure) == (AttemptState.REJECTED, Failure.BAD_CONFIG)
    assert len(line.sent) == 2
    assert line.tokens == 2
    assert it.reservation.take("repayment") > 0


async def test_without_the_fences_no_second_request_follows_a_401() -> None:
    """Nothing is wrong with the configuration: a token ran out, and the reminder is another's now."""
    line = Line(HttpResponse(401), HttpResponse(200))
    it = provider(line, Scripted(needs_token=True))
    outcome, _ = await send(it, line, False)
    assert (outcome.state, outcome.failure, outcome.code) == (AttemptState.NOT_SENT, Failure.TRANSIENT, Wire.CANCELLED)
    assert len(line.sent) == 1
    assert told(it) == []


async def test_a_token_that_cannot_be_renewed_after_a_401_is_not_bad_configuration() -> None:
    line = Line(HttpResponse(401), HttpResponse(200))
    it = provider(line, Scripted(needs_token=True))
    await it.token()
    line.token_answer = HttpResponse(503)
    outcome, _ = await send(it, line)
    assert (outcome.state, outcome.failure) == (AttemptState.NOT_SENT, Failure.TRANSIENT)
    assert len(line.sent) == 1


async def test_a_token_endpoint_that_says_when_is_not_asked_before() -> None:
    line, adapter = Line(HttpResponse(200)), Scripted(needs_token=True)
    adapter.token_wait = 40.0
    line.token_answer = HttpResponse(503)
    outcome, _ = await send(provider(line, adapter), line)
    assert (outcome.state, outcome.failure, outcome.retry_after) == (AttemptState.REJECTED, Failure.TRANSIENT, 40.0)
    assert line.tokens == 1


async def test_an_adapter_that_fails_at_the_answer_leaves_it_unknown() -> None:
    line, adapter = Line(HttpResponse(299)), Scripted()
    it = provider(line, adapter)
    outcome, _ = await send(it, line)
    assert (outcome.state, outcome.code) == (AttemptState.UNKNOWN, "adapter_error")
    assert len(line.sent) == 1


async def test_an_adapter_that_fails_at_the_token_is_bad_configuration() -> None:
    line, adapter = Line(HttpResponse(200)), Scripted(needs_token=True)
    adapter.broken_token = True
    it = provider(line, adapter)
    outcome, _ = await send(it, line)
    assert (outcome.state, outcome.failure, outcome.code) == (
        AttemptState.REJECTED, Failure.BAD_CONFIG, "token_error",
    )  # fmt: skip
    assert line.sent == []
    assert it.reservation.take("repayment") > 0


async def test_a_second_request_after_a_401_that_may_have_left_is_unknown() -> None:
    line = Line(HttpResponse(401), MaybeSent(Wire.DISCONNECTED))
    outcome, _ = await send(provider(line, Scripted(needs_token=True)), line)
    assert outcome.state is AttemptState.UNKNOWN
    assert len(line.sent) == 2


async def test_a_401_without_tokens_is_the_adapters_to_judge() -> None:
    line = Line(HttpResponse(401))
    outcome, _ = await send(provider(line), line)
    assert outcome.state is AttemptState.REJECTED
    assert len(line.sent) == 1


async def test_without_a_token_nothing_leaves_and_it_is_counted_once() -> None:
    line = Line(HttpResponse(200))
    line.token_answer = HttpResponse(400)
    it = provider(line, Scripted(needs_token=True))
    outcome, _ = await send(it, line)
    assert (outcome.state, outcome.failure) == (AttemptState.REJECTED, Failure.BAD_CONFIG)
    assert line.sent == []
    assert told(it) == [(Failure.BAD_CONFIG, FailureScope.ACCOUNT, None)]


@pytest.mark.parametrize("answer", [HttpResponse(503), NotSent(Wire.DNS), MaybeSent(Wire.READ_TIMEOUT)])
async def test_a_token_endpoint_in_trouble_means_not_sent(answer: Wired) -> None:
    line = Line(HttpResponse(200))
    line.token_answer = answer
    it = provider(line, Scripted(needs_token=True))
    outcome, _ = await send(it, line)
    assert (outcome.state, outcome.failure) == (AttemptState.NOT_SENT, Failure.TRANSIENT)
    assert line.sent == []
    assert told(it) == [(Failure.TRANSIENT, FailureScope.ACCOUNT, None)]


# --- cancelled --------------------------------------------------------------------------------------------------------


class SlowToken(Line):
    async def post(self, request: HttpRequest, may_start: Callable[[], bool] = lambda: True) -> Wired:
        if request.url.endswith("/token"):
            await asyncio.sleep(60)
        return await super().post(request, may_start)


async def test_cut_off_while_it_waits_for_a_token_it_was_not_sent() -> None:
    """At shutdown: what has certainly not left is recorded so, and tried again by the next process."""
    line = SlowToken(HttpResponse(200))
    it = provider(line, Scripted(needs_token=True))
    task = asyncio.create_task(sender(Fence(line)).send(job(it)))
    await asyncio.sleep(0.01)
    task.cancel()
    outcome = await task
    assert (outcome.state, outcome.failure, outcome.code) == (AttemptState.NOT_SENT, Failure.TRANSIENT, Wire.CANCELLED)
    assert line.sent == []


async def test_cut_off_between_two_tries_it_was_not_sent() -> None:
    line = Line(NotSent(Wire.REFUSED))

    async def long_wait(_: float) -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(Sender(Fence(line), lambda: NOW, Retries(), sleep=long_wait).send(job(provider(line))))
    await asyncio.sleep(0.01)
    task.cancel()
    assert (await task).state is AttemptState.NOT_SENT
    assert len(line.sent) == 1


async def test_no_outcome_or_job_shows_whom_it_was_for() -> None:
    line = Line(HttpResponse(500))
    it = provider(line)
    outcome, _ = await send(it, line)
    shown = f"{outcome!r} {job(it)!r} {it!r} {line.sent[0]!r}"
    assert PHONE not in shown
    assert "Li Lei" not in shown


def test_the_three_kinds_of_answer_are_all_there_are() -> None:
    """A new one must be given a row in the table above."""
    assert {Accepted, Refused, Ambiguous} == set(_members())


def _members() -> tuple[type, ...]:
    from typing import get_args

    from providers.contract import Outcome as AdapterOutcome

    return get_args(AdapterOutcome)
