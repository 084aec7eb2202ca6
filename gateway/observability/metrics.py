"""What happens, counted.  Every label set exists at zero from the start: closed enums and the configured providers.

References, recipients, addresses, URLs and error texts are never labels, and nothing is kept outside the registry that
is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from gateway.dispatch.circuit import CircuitState
from gateway.dispatch.question import Asked
from gateway.ledger.gauges import ReadOutcome
from gateway.ledger.quotas import QuotaRule, VolumeKind
from gateway.ledger.standing import Move, Queue
from gateway.ledger.sums import Counted, counted
from gateway.observability.counts import Counts, Durations, Key
from gateway.observability.labels import (
    BIRTHS,
    CORRECTIONS,
    FOR_PEOPLE,
    OTHER,
    REASONS,
    RIPENED,
    CallbackResult,
    Door,
    Matured,
    Rescue,
    TokenResult,
    failures_of,
    matured,
)
from providers.contract import Refused, Token
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC
from schemas.vocabulary import (
    AttemptState,
    Channel,
    Disposition,
    Failure,
    FailureScope,
    Reason,
    Rejection,
    ReminderState,
)

__all__ = ["CIRCUIT_VALUE", "NAMESPACE", "CallbackResult", "CircuitState", "Door", "Metrics", "Rescue"]

NAMESPACE: Final = "reminder_gateway"

CIRCUIT_VALUE: Final = {CircuitState.CLOSED: 0, CircuitState.OPEN: 1, CircuitState.HALF_OPEN: 2}
_TOPICS: Final = (EVENTS_TOPIC, DEADLETTERS_TOPIC, OTHER)
_SEND_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RECEIPT_BUCKETS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0, 72 * 3600.0)


class Metrics:
    """The counters of this process and the gauges it knows by itself; those of the whole ledger are in `gauges`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        providers: Mapping[str, Channel],
        on_held: Callable[[Move], None] = lambda move: None,
    ) -> None:
        """`providers` are the configured ones; every other name is counted as `other`.

        `on_held` hears of each reminder that will not go on before somebody has looked.
        """
        self._on_held = on_held

        def counts(name: str, text: str, labels: Sequence[str] = (), keys: Iterable[Key] = ((),)) -> Counts:
            return Counts(registry, f"{NAMESPACE}_{name}", text, labels, keys)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace=NAMESPACE, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Durations:
            return Durations(registry, f"{NAMESPACE}_{name}", text, "provider", channels, buckets)

        channels = {name: str(channel) for name, channel in providers.items()} | {OTHER: OTHER}
        self._channel = channels

        state_and_reason = ("state", "reason")
        moves = ((state, reason) for state, reasons in REASONS.items() for reason in reasons)
        self._born = counts("reminders_born", "Reminders made, by first state.", state_and_reason, BIRTHS)
        self._moves = counts("reminder_moves", "Moves of reminders into a state.", state_and_reason, moves)
        self._corrections = counts("reminder_corrections", "Last words after the end.", ("was", "state"), CORRECTIONS)
        self._attempts = counts(
            "attempts",
            "Attempts that reached a state.",
            ("provider", "channel", "outcome", "failure"),
            (
                (*name, state, failure)
                for name in channels.items()
                for state in AttemptState
                for failure in failures_of(state)
            ),
        )
        of_provider = ("provider", "channel", "outcome")
        self._matured = counts(
            "attempts_matured",
            "Attempts that have ended, each once: by a last word, or because the receipt window closed.",
            of_provider,
            ((*name, each) for name in channels.items() for each in Matured),
        )
        self._ripened = counts(
            "attempt_corrections",
            "Last words of attempts that had ended; a share of what was delivered counts these too.",
            ("provider", "channel", "was", "outcome"),
            ((*name, *each) for name in channels.items() for each in RIPENED),
        )
        self._tokens = counts(
            "access_tokens",
            "Access tokens asked for.",
            ("provider", "outcome"),
            product(channels, TokenResult),
        )
        self._sent = histogram("send_seconds", "Time of one send, retries included.", _SEND_BUCKETS)
        self._questions = counts("questions", "Questions to lenders' own services.", ("outcome",), _each(Asked))
        self._question_seconds = Durations(
            registry, f"{NAMESPACE}_question_seconds", "From a question to what came of it.", "outcome", Asked,
            _SEND_BUCKETS,
        )  # fmt: skip
        self._rescued = counts("rescues", "Claims taken back from workers.", ("kind",), _each(Rescue))
        self._brakes = counts(
            "volume_brakes",
            "Slices frozen because a quota had run out.",
            ("kind", "rule"),
            product(VolumeKind, QuotaRule),
        )
        self._lease_lost = counts("worker_lease_lost", "Times this process lost its lease.")
        self._circuits: dict[str, Callable[[], Mapping[FailureScope, CircuitState]]] = {}
        circuits = gauge("circuit_state", "0 closed, 1 open, 2 half open; the worst of the scope.", "provider", "scope")
        for name, scope in product(channels, FailureScope):
            circuits.labels(name, scope).set_function(partial(self._circuit, name, scope))

        self._receipt_lag = histogram("receipt_lag_seconds", "From intent to the receipt.", _RECEIPT_BUCKETS)
        self._receipts = counts(
            "receipts", "Receipts by what became of them.", ("provider", "disposition"), product(channels, Disposition)
        )
        self._callbacks = counts(
            "callbacks", "Calls of providers, by answer.", ("provider", "outcome"), product(channels, CallbackResult)
        )

        self._read = counts("records_read", "Kafka records, by what became of them.", ("outcome",), _each(ReadOutcome))
        self._deadletters = counts("deadletters", "Dead letters.", ("reason",), _each(Rejection))
        self._published = counts("events_published", "Events on Kafka.", ("topic",), _each(_TOPICS))
        self._rebuilt = counts("consumer_rebuilds", "Kafka clients rebuilt.")
        self._resets = counts("offset_resets", "Partitions whose stored offset the log did not have.")
        self._lost = counts("records_lost", "Offset resets below the log start: records were lost unread.")
        self._commits_lost = counts(
            "commits_lost", "Times the ledger had forgotten what it had committed: a failover has lost commits."
        )
        self._doors = gauge("intake_door", "1 where this process reads, whether or not it has a partition.", "door")
        self._assigned: dict[Door, frozenset[int]] = {}
        self._paused = gauge("intake_paused", "1 while intake pauses for back-pressure.")
        self._lag_records = gauge("consumer_lag_records", "Records not read yet.", "door", "partition")
        self._lag_seconds = gauge(
            "consumer_lag_seconds", "Age of the newest record read while more wait.", "door", "partition"
        )

    # --- reminders and attempts -----------------------------------------------------------------------------------

    def born(self, state: ReminderState, reason: Reason | None, n: int = 1) -> None:
        """New reminders in their first state."""
        self._born[state, reason] += n

    def moved(self, moves: Iterable[Move]) -> None:
        """Committed moves.  One that changes neither state nor reason counts only if it leaves a claim."""
        for move in moves:
            was = move.was
            if move.correction:
                self._corrections[was.state, move.state] += 1
            elif (
                move.state is not was.state
                or move.reason is not was.reason
                or (was.queue is Queue.CLAIM and move.queue is not Queue.CLAIM)
            ):
                self._moves[move.state, move.reason] += 1
                if move.reason in FOR_PEOPLE and move.reason is not was.reason:
                    self._on_held(move)

    def attempt(
        self, provider: str, outcome: AttemptState, failure: Failure | None, was: AttemptState | None = None
    ) -> None:
        """An attempt reached a state.  Intended also is its reminder's move to sending, which is no `Move`.

        `was` is where it stood, told where it may have ended already.
        """
        name = self._name(provider)
        self._attempts[name, self._channel[name], outcome, failure] += 1
        ended, before = matured(outcome), matured(was)
        if ended is not None and before is None:
            self._matured[name, self._channel[name], ended] += 1
        elif ended is not None and ended is not before:
            self._ripened[name, self._channel[name], before, ended] += 1
        if outcome is AttemptState.INTENDED:
            self._moves[ReminderState.SENDING, None] += 1

    def asked(self, outcome: Asked, seconds: float) -> None:
        """A lender's own service was asked whether a reminder may leave."""
        self._questions[outcome,] += 1
        self._question_seconds.observe(outcome, seconds)

    def sent(self, provider: str, seconds: float) -> None:
        self._sent.observe(self._name(provider), seconds)

    def token(self, provider: str, answer: Token | Refused) -> None:
        """The answer to a request for an access token."""
        result = TokenResult.GOOD
        if isinstance(answer, Refused):
            result = TokenResult.REFUSED if answer.failure is Failure.BAD_CONFIG else TokenResult.FAILED
        self._tokens[self._name(provider), result] += 1

    def rescued(self, kind: str, n: int) -> None:
        """`kind` is a `Rescue`."""
        self._rescued[(Rescue(kind),)] += n

    def braked(self, kind: VolumeKind, rule: QuotaRule) -> None:
        """This process has frozen a slice, by this quota."""
        self._brakes[kind, rule] += 1

    def lease_lost(self) -> None:
        self._lease_lost[()] += 1

    def watch_circuits(self, provider: str, states: Callable[[], Mapping[FailureScope, CircuitState]]) -> None:
        """Where the states of a provider's circuits are read when somebody asks: they change by themselves in time."""
        self._circuits[self._name(provider)] = states

    def _circuit(self, provider: str, scope: FailureScope) -> float:
        states = self._circuits.get(provider)
        return 0 if states is None else CIRCUIT_VALUE[states()[scope]]

    # --- receipts -------------------------------------------------------------------------------------------------

    def callback(self, provider: str, outcome: CallbackResult) -> None:
        self._callbacks[self._name(provider), outcome] += 1

    def disposed(self, provider: str, disposition: Disposition) -> None:
        self._receipts[self._name(provider), disposition] += 1

    def receipt_lag(self, provider: str, seconds: float) -> None:
        self._receipt_lag.observe(self._name(provider), seconds)

    # --- Kafka ----------------------------------------------------------------------------------------------------

    def read(self, outcome: str, n: int) -> None:
        """Records committed with this outcome, a `ReadOutcome`."""
        self._read[(ReadOutcome(outcome),)] += n

    def deadletter(self, reason: Rejection, n: int) -> None:
        self._deadletters[(reason,)] += n

    def published(self, topic: str, n: int) -> None:
        self._published[(topic if topic in _TOPICS else OTHER,)] += n

    def paused(self, paused: bool) -> None:
        self._paused.set(paused)

    def reads(self, door: Door) -> None:
        """From its start on, before anything is assigned."""
        self._doors.labels(door).set(1)

    def assigned(self, door: Door, partitions: Iterable[int]) -> None:
        """The partitions this process reads from now on; the lag of any other is its new owner's to tell."""
        was, self._assigned[door] = self._assigned.get(door, frozenset()), frozenset(partitions)
        for lag in (self._lag_records, self._lag_seconds):
            for partition in was:
                lag.remove(door, partition)
            for partition in self._assigned[door]:
                lag.labels(door, partition)

    def consumer_lag(self, door: Door, partition: int, records: int, seconds: float) -> None:
        self._lag_records.labels(door, partition).set(records)
        self._lag_seconds.labels(door, partition).set(seconds)

    def rebuilt(self) -> None:
        self._rebuilt[()] += 1

    def commits_lost(self) -> None:
        self._commits_lost[()] += 1

    def offset_reset(self, lost: bool) -> None:
        """A partition's stored offset was not in the log; `lost` when it was below the log start."""
        self._resets[()] += 1
        if lost:
            self._lost[()] += 1

    # --- sums -----------------------------------------------------------------------------------------------------

    def counted(self) -> Counted:
        """What this process has counted since it started, for the conservation sums."""
        return counted(
            {outcome: self._read[(outcome,)] for outcome in ReadOutcome},
            born=[(state, n) for (state, _), n in self._born.items()],
            moved=[(state, n) for (state, _), n in self._moves.items()],
            corrected=[(was, state, n) for (was, state), n in self._corrections.items()],
        )

    def _name(self, provider: str) -> str:
        return provider if provider in self._channel else OTHER


def _each(values: Iterable[str]) -> Iterable[Key]:
    return ((value,) for value in values)
