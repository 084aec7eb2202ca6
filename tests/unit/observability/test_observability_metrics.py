"""Every series exists at zero before anything happens, and nothing that happens adds one."""

import datetime as dt
import itertools
from collections.abc import Iterator

import prometheus_client
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from gateway.cli.sums import counted
from gateway.config import Role
from gateway.dispatch.circuit import CircuitState
from gateway.ledger import follow, queueing, waiting
from gateway.ledger.gauges import ReadOutcome
from gateway.ledger.quotas import QuotaRule, VolumeKind
from gateway.ledger.standing import Attempt, Move, Queue, Rules, Situation
from gateway.ledger.states import attempt_moves
from gateway.ledger.sums import Counted
from gateway.observability.labels import Matured, TokenResult
from gateway.observability.metrics import CallbackResult, Door, Metrics, Rescue
from gateway.observability.process import Capacity, show_mode, show_roles
from providers.contract import Refused, Token
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC
from schemas.vocabulary import (
    FINAL_REMINDER_STATES,
    AttemptState,
    Channel,
    Disposition,
    Failure,
    FailureScope,
    Lane,
    Mode,
    Reason,
    Rejection,
    ReminderState,
)

NOW = dt.datetime(2026, 11, 2, 9, tzinfo=dt.UTC)
PROVIDERS = {"one_sms": Channel.SMS, "one_push": Channel.PUSH}
NAMES = (*PROVIDERS, "other")
P = "reminder_gateway_"
NOBODY = dict.fromkeys(FINAL_REMINDER_STATES, 0)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, PROVIDERS)


def series(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample but the times at which counters were made."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    found = registry.get_sample_value(P + name, labels)
    assert found is not None, f"no series {name} {labels}"
    return found


EXPECTED: dict[str, list[dict[str, str]]] = {
    "rescues_total": [{"kind": each} for each in Rescue],
    "records_read_total": [{"outcome": each} for each in ReadOutcome],
    "deadletters_total": [{"reason": each} for each in Rejection],
    "events_published_total": [{"topic": each} for each in (EVENTS_TOPIC, DEADLETTERS_TOPIC)],
    "callbacks_total": [{"provider": p, "outcome": o} for p in NAMES for o in CallbackResult],
    "receipts_total": [{"provider": p, "disposition": d} for p in NAMES for d in Disposition],
    "circuit_state": [{"provider": p, "scope": s} for p in NAMES for s in FailureScope],
    "send_seconds_count": [{"provider": p} for p in NAMES],
    "receipt_lag_seconds_count": [{"provider": p} for p in NAMES],
    "attempts_total": [
        {"provider": p, "channel": PROVIDERS.get(p, "other"), "outcome": o, "failure": f}
        for p in NAMES
        for o in (AttemptState.NOT_SENT, AttemptState.REJECTED, AttemptState.UNDELIVERED, AttemptState.NO_ANSWER)
        for f in ("none", *Failure)
    ]
    + [
        {"provider": p, "channel": PROVIDERS.get(p, "other"), "outcome": o, "failure": "none"}
        for p in NAMES
        for o in AttemptState
    ],
    "reminder_moves_total": [
        {"state": "sending", "reason": "none"},
        {"state": "delivered", "reason": "none"},
        {"state": "held", "reason": "poison"},
    ],
    "attempts_matured_total": [
        {"provider": p, "channel": PROVIDERS.get(p, "other"), "outcome": o} for p in NAMES for o in Matured
    ],
    "attempt_corrections_total": [
        {"provider": p, "channel": PROVIDERS.get(p, "other"), "was": was, "outcome": o}
        for p in NAMES
        for was, o in (("unconfirmed", "undelivered"), ("unconfirmed", "delivered"), ("undelivered", "delivered"))
    ],
    "access_tokens_total": [{"provider": p, "outcome": o} for p in NAMES for o in TokenResult],
    "worker_lease_lost_total": [{}],
    "volume_brakes_total": [{"kind": kind, "rule": rule} for kind in VolumeKind for rule in QuotaRule],
    "intake_paused": [{}],
    "consumer_rebuilds_total": [{}],
    "offset_resets_total": [{}],
    "records_lost_total": [{}],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_exists_at_zero(metrics: Metrics, registry: CollectorRegistry, name: str) -> None:
    for labels in EXPECTED[name]:
        assert value(registry, name, **labels) == 0


def test_everything_is_zero_at_first_and_carries_our_prefix(metrics: Metrics, registry: CollectorRegistry) -> None:
    found = series(registry)
    assert found
    assert set(found.values()) == {0}
    assert all(name.startswith(P) for name, _ in found)


def test_every_state_and_reason_can_be_told(metrics: Metrics, registry: CollectorRegistry) -> None:
    moves = [dict(labels) for name, labels in series(registry) if name == P + "reminder_moves_total"]
    assert {each["state"] for each in moves} == set(ReminderState)
    assert {each["reason"] for each in moves} == {"none", *Reason}


def test_nothing_that_happens_adds_a_series(metrics: Metrics, registry: CollectorRegistry) -> None:
    before = series(registry).keys()
    for name in (*PROVIDERS, "removed_last_week", "../../etc/passwd"):
        for state in AttemptState:
            metrics.attempt(name, state, None)
        for failure in Failure:
            metrics.attempt(name, AttemptState.REJECTED, failure)
            metrics.attempt(name, AttemptState.UNDELIVERED, failure)
        metrics.attempt(name, AttemptState.UNKNOWN, Failure.AMBIGUOUS)
        metrics.sent(name, 0.2)
        metrics.receipt_lag(name, 30)
        for was, state in itertools.product(AttemptState, AttemptState):
            if attempt_moves(was, state):
                metrics.attempt(name, state, None, was)
        metrics.token(name, Token("t", 60))
        for failure in Failure:
            metrics.token(name, Refused(failure, FailureScope.ACCOUNT, "no"))
        for disposition in Disposition:
            metrics.disposed(name, disposition)
        for result in CallbackResult:
            metrics.callback(name, result)
        for state_of in CircuitState:
            metrics.watch_circuits(name, lambda state_of=state_of: dict.fromkeys(FailureScope, state_of))
    for outcome in ReadOutcome:
        metrics.read(outcome.value, 2)
    for rejection in Rejection:
        metrics.deadletter(rejection, 1)
    for kind in Rescue:
        metrics.rescued(kind.value, 1)
    for topic in (EVENTS_TOPIC, DEADLETTERS_TOPIC, "somebody.elses"):
        metrics.published(topic, 1)
    metrics.born(ReminderState.SCHEDULED, None)
    metrics.lease_lost()
    for kind, rule in itertools.product(VolumeKind, QuotaRule):
        metrics.braked(kind, rule)
    metrics.paused(True)
    metrics.rebuilt()
    metrics.commits_lost()
    metrics.offset_reset(True)
    assert series(registry).keys() == before


def test_unknown_words_are_refused(metrics: Metrics) -> None:
    with pytest.raises(ValueError):
        metrics.read("swallowed", 1)
    with pytest.raises(ValueError):
        metrics.rescued("sunday", 1)


def test_unknown_providers_and_topics_count_as_other(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.callback("nobody", CallbackResult.STORED)
    metrics.attempt("nobody", AttemptState.UNKNOWN, Failure.AMBIGUOUS)
    metrics.published("elsewhere", 3)
    assert value(registry, "callbacks_total", provider="other", outcome="stored") == 1
    labels = {"provider": "other", "channel": "other", "outcome": "unknown", "failure": "ambiguous"}
    assert value(registry, "attempts_total", **labels) == 1
    assert value(registry, "events_published_total", topic="other") == 3


def test_gauges_of_the_consumer(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.paused(True)
    metrics.assigned(Door.REPAYMENTS, [1])
    metrics.assigned(Door.REQUESTS, iter([0, 1]))
    assert value(registry, "consumer_lag_records", door="requests", partition="1") == 0
    metrics.consumer_lag(Door.REQUESTS, 1, 42, 1.5)
    assert value(registry, "intake_paused") == 1
    assert value(registry, "consumer_lag_records", door="requests", partition="1") == 42
    assert value(registry, "consumer_lag_seconds", door="requests", partition="1") == 1.5
    metrics.assigned(Door.REQUESTS, [0])
    gone = {"door": "requests", "partition": "1"}
    assert registry.get_sample_value(P + "consumer_lag_records", gone) is None
    assert value(registry, "consumer_lag_records", door="repayments", partition="1") == 0
    metrics.paused(False)
    assert value(registry, "intake_paused") == 0


def test_lost_records_are_told_apart_from_resets(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.offset_reset(False)
    metrics.offset_reset(True)
    assert (value(registry, "offset_resets_total"), value(registry, "records_lost_total")) == (2, 1)


@pytest.mark.parametrize(("state", "number"), [(CircuitState.OPEN, 1), (CircuitState.HALF_OPEN, 2)])
def test_circuits(metrics: Metrics, registry: CollectorRegistry, state: CircuitState, number: int) -> None:
    states = dict.fromkeys(FailureScope, CircuitState.CLOSED) | {FailureScope.ACCOUNT: state}
    metrics.watch_circuits("one_sms", lambda: states)
    assert value(registry, "circuit_state", provider="one_sms", scope="account") == number
    assert value(registry, "circuit_state", provider="one_push", scope="account") == 0
    states[FailureScope.ACCOUNT] = CircuitState.CLOSED
    assert value(registry, "circuit_state", provider="one_sms", scope="account") == 0


@pytest.mark.parametrize("mode", list(Mode))
def test_the_mode_is_one_and_the_others_are_there_too(registry: CollectorRegistry, mode: Mode) -> None:
    show_mode(registry, mode)
    assert series(registry) == {(P + "mode", (("mode", each.value),)): float(each is mode) for each in Mode}


def test_the_roles_are_one_and_the_others_zero(registry: CollectorRegistry) -> None:
    show_roles(registry, {Role.RELAY, Role.INTAKE})
    assert {dict(labels)["role"]: n for (_, labels), n in series(registry).items()} == {
        "intake": 1, "dispatch": 0, "callbacks": 0, "relay": 1,
    }  # fmt: skip


def test_what_a_process_has_is_read_when_it_is_asked(registry: CollectorRegistry) -> None:
    capacity = Capacity(registry)
    assert set(series(registry).values()) == {0}
    names = series(registry).keys()
    busy = [3]
    capacity.watch_pool(10, lambda: (busy[0], 1))
    capacity.watch_lease(lambda: 12.5)
    capacity.watch_slots(512, lambda: 7)
    assert value(registry, "database_connections", state="busy") == 3
    busy[0] = 4
    assert value(registry, "database_connections", state="busy") == 4
    assert value(registry, "database_connections", state="idle") == 1
    assert value(registry, "database_connections_max") == 10
    assert value(registry, "worker_lease_seconds") == 12.5
    assert (value(registry, "dispatch_slots"), value(registry, "dispatch_in_hand")) == (512, 7)
    assert series(registry).keys() == names


# What the provider says of one attempt, in this order; how it matured, and the corrections.
LIVES = [
    (["accepted", "sent", "delivered"], "delivered", []),
    (["unknown", "delivered"], "delivered", []),
    (["accepted", "answered", "answered_human"], "delivered", []),
    (["accepted", "undelivered"], "undelivered", []),
    (["accepted", "undelivered", "delivered"], "undelivered", [("undelivered", "delivered")]),
    (["accepted", "unconfirmed"], "unconfirmed", []),
    (["accepted", "unconfirmed", "undelivered", "delivered"], "unconfirmed",
     [("unconfirmed", "undelivered"), ("undelivered", "delivered")]),
    (["rejected"], "refused", []),
    (["not_sent"], None, []),
    (["accepted", "sent"], None, []),
]  # fmt: skip


@pytest.mark.parametrize(("life", "end", "corrections"), LIVES, ids=["-".join(each[0]) for each in LIVES])
def test_an_attempt_matures_once(
    metrics: Metrics, registry: CollectorRegistry, life: list[str], end: str | None, corrections: list[tuple[str, str]]
) -> None:
    was = AttemptState.INTENDED
    for state in map(AttemptState, life):
        metrics.attempt("one_sms", state, None, was)
        was = state
    found = {name: dict(labels) for (name, labels), n in series(registry).items() if n and "matured" in name}
    labels = {"provider": "one_sms", "channel": "sms"}
    assert found == ({} if end is None else {P + "attempts_matured_total": {**labels, "outcome": end}})
    for before, after in corrections:
        assert value(registry, "attempt_corrections_total", **labels, was=before, outcome=after) == 1
    assert sum(n for (name, _), n in series(registry).items() if "attempt_corr" in name) == len(corrections)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Token("t", 60), "good"),
        (Refused(Failure.BAD_CONFIG, FailureScope.ACCOUNT, "invalid_grant"), "refused"),
        (Refused(Failure.TRANSIENT, FailureScope.ACCOUNT, "token_unreachable"), "failed"),
    ],
)
def test_access_tokens_by_what_came(
    metrics: Metrics, registry: CollectorRegistry, answer: Token | Refused, outcome: str
) -> None:
    metrics.token("one_push", answer)
    assert value(registry, "access_tokens_total", provider="one_push", outcome=outcome) == 1


def test_two_gateways_in_one_process_share_nothing() -> None:
    world = {each.name for each in prometheus_client.REGISTRY.collect()}
    one, other = CollectorRegistry(), CollectorRegistry()
    Metrics(one, PROVIDERS).lease_lost()
    Metrics(other, PROVIDERS)
    assert value(one, "worker_lease_lost_total") == 1
    assert value(other, "worker_lease_lost_total") == 0
    assert world == {each.name for each in prometheus_client.REGISTRY.collect()}


def test_the_command_line_reads_the_same_sums_as_the_process_counts() -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    for n, registry in enumerate(registries):
        metrics = Metrics(registry, PROVIDERS)
        metrics.read(ReadOutcome.ACCEPTED, 3 + n)
        metrics.read(ReadOutcome.COMMAND, 1)
        metrics.born(ReminderState.SCHEDULED, None, 3 + n)
        metrics.born(ReminderState.SUPPRESSED, Reason.DUPLICATE_STAGE)
        metrics.moved([follow.cancel(replace(SCHEDULED, reason=None), Reason.CANCELLED_DEBT, NOW, RULES)[0]])
        metrics.moved([waiting.window_closed(SCHEDULED, NOW), late_word(ReminderState.UNCONFIRMED)][: n + 1])
    texts = [prometheus_client.generate_latest(registry).decode() for registry in registries]
    nothing = dict.fromkeys(ReadOutcome, 0)
    ended = {
        ReminderState.SUPPRESSED: 2, ReminderState.CANCELLED: 2, ReminderState.UNCONFIRMED: 1,
        ReminderState.DELIVERED: 1,
    }  # fmt: skip
    assert counted(texts) == Counted(
        nothing | {ReadOutcome.ACCEPTED: 7, ReadOutcome.COMMAND: 2}, born=9, ended=NOBODY | ended
    )


# --- moves --------------------------------------------------------------------------------------------------------


SCHEDULED = Situation(
    id=1,
    subject=b"s",
    lender="acme",
    source="loans",
    request_id="r",
    stage="due",
    lane=Lane.BULK,
    ladder="spv",
    not_after=NOW + dt.timedelta(days=1),
    state=ReminderState.SCHEDULED,
    reason=None,
    seq=1,
    at=NOW,
    queue=Queue.CLAIM,
    worker=1,
    token=1,
)
RULES = Rules(resend=frozenset({("resending", "due")}), max_tries=2, max_rescues=1)


def attempt(state: AttemptState, provider: str = "one_sms", failure: Failure | None = None, number: int = 1) -> Attempt:
    return Attempt(number, 0, Channel.SMS, provider, state, NOW, failure)


def every_situation() -> Iterator[Situation]:
    attempts = [
        attempt(state, provider, failure)
        for state in AttemptState
        for provider in ("one_sms", "resending")
        for failure in (None, *Failure)
    ]
    tried = [(), *((each,) for each in attempts)]
    tried += [(attempt(AttemptState.UNKNOWN), attempt(state, number=2)) for state in AttemptState]
    queues = {
        ReminderState.SCHEDULED: Queue.CLAIM,
        ReminderState.SENDING: Queue.CLAIM,
        ReminderState.HELD: Queue.TIMER,
        ReminderState.AWAITING: Queue.TIMER,
    }
    for made in tried:
        current = made[-1].id if made else None
        base = replace(SCHEDULED, attempts=made, attempt=current)
        for state, tries, closed, rung in itertools.product(
            ReminderState, (0, 2), (None, Reason.CANCELLED_DEBT), (0, 2)
        ):
            yield replace(
                base, state=state, queue=queues.get(state), tries=tries, rescues=tries, closed=closed, rung=rung
            )


def every_move() -> Iterator[Move]:
    for was in every_situation():
        moves: list[Move | None] = [follow.after_attempt(was, each, NOW, RULES) for each in was.attempts]
        if was.queue is not None:
            for reason in (Reason.CANCELLED_REQUEST, Reason.CANCELLED_DEBT, Reason.CANCELLED_BORROWER):
                moves.append(follow.cancel(was, reason, NOW, RULES)[0])
            for reason in (Reason.FROZEN, Reason.STOP_UNREADABLE, Reason.BUG):
                moves.append(queueing.hold(was, reason, NOW, NOW))
            moves += [
                waiting.window_closed(was, NOW),
                queueing.rescue(was, NOW, RULES),
                queueing.defer(was, NOW, NOW),
                queueing.release(was, NOW),
                follow.expire(was, NOW),
            ]
        yield from (move for move in moves if move is not None)


def test_no_move_that_can_follow_adds_a_series(metrics: Metrics, registry: CollectorRegistry) -> None:
    before = series(registry).keys()
    moves = list(every_move())
    assert {move.state for move in moves} == set(ReminderState)
    metrics.moved(moves)
    found = series(registry)
    assert found.keys() == before
    moved = {dict(labels)["state"] for (name, labels), n in found.items() if name == P + "reminder_moves_total" and n}
    assert moved == set(ReminderState) - {ReminderState.SENDING}  # only intend leads there, and that is no `Move`


def test_a_move_counts_where_it_goes(metrics: Metrics, registry: CollectorRegistry) -> None:
    sending = replace(SCHEDULED, state=ReminderState.SENDING)
    held = replace(SCHEDULED, state=ReminderState.HELD, reason=Reason.FROZEN, queue=Queue.TIMER)
    deferred = replace(SCHEDULED, reason=Reason.DEFERRED)
    metrics.moved(
        [
            queueing.defer(SCHEDULED, NOW, NOW),
            queueing.defer(deferred, NOW, NOW),  # tried again and deferred again: twice worth telling
            queueing.hold(held, Reason.FROZEN, NOW, NOW),  # looked at and still frozen: nothing happened
            replace(follow.expire(sending, NOW), state=ReminderState.SENDING, reason=None, queue=Queue.CLAIM),  # stays
        ]
    )
    metrics.attempt("one_sms", AttemptState.INTENDED, None)
    counts = {labels: n for (name, labels), n in series(registry).items() if name == P + "reminder_moves_total" and n}
    assert counts == {
        (("reason", "deferred"), ("state", "scheduled")): 2,
        (("reason", "none"), ("state", "sending")): 1,
    }


def late_word(state: ReminderState) -> Move:
    """Of a reminder that ended so it is told that it arrived."""
    late = attempt(AttemptState.DELIVERED)
    move = follow.after_attempt(replace(SCHEDULED, state=state, queue=None, attempts=(late,)), late, NOW, RULES)
    assert move is not None
    return move


def test_corrections_are_counted_apart(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.moved([late_word(state) for state in (ReminderState.UNCONFIRMED, ReminderState.CANCELLED)])
    assert value(registry, "reminder_corrections_total", was="unconfirmed", state="delivered") == 1
    assert value(registry, "reminder_corrections_total", was="cancelled", state="cancelled") == 1
    assert value(registry, "reminder_moves_total", state="delivered", reason="none") == 0


def test_counted_adds_up_what_ended_at_birth_or_later(metrics: Metrics) -> None:
    metrics.read("accepted", 5)
    metrics.read("command", 2)
    metrics.born(ReminderState.SCHEDULED, None, 3)
    metrics.born(ReminderState.SUPPRESSED, Reason.DUPLICATE_STAGE, 2)
    metrics.moved([follow.expire(SCHEDULED, NOW), queueing.defer(SCHEDULED, NOW, NOW)])
    read = {
        ReadOutcome.ACCEPTED: 5,
        ReadOutcome.DUPLICATE: 0,
        ReadOutcome.DEADLETTER: 0,
        ReadOutcome.COMMAND: 2,
        ReadOutcome.SKIPPED: 0,
    }
    ended = {ReminderState.SUPPRESSED: 2, ReminderState.EXPIRED: 1}
    assert metrics.counted() == Counted(read=read, born=5, ended=NOBODY | ended)


def test_counted_follows_a_reminder_from_one_ending_to_the_next(metrics: Metrics) -> None:
    """A last word takes it out of the state it was in; one that changes no state changes no sum."""
    metrics.born(ReminderState.SCHEDULED, None, 3)
    metrics.moved([waiting.window_closed(SCHEDULED, NOW)] * 3)
    assert metrics.counted().ended == NOBODY | {ReminderState.UNCONFIRMED: 3}
    metrics.moved([late_word(ReminderState.UNCONFIRMED)])
    assert metrics.counted().ended == NOBODY | {ReminderState.UNCONFIRMED: 2, ReminderState.DELIVERED: 1}
    metrics.moved([late_word(ReminderState.CANCELLED)])
    assert metrics.counted().ended == NOBODY | {ReminderState.UNCONFIRMED: 2, ReminderState.DELIVERED: 1}
