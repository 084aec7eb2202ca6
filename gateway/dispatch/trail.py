"""What dispatch tells of a claimed reminder: its way through the steps, and each request to a provider below that."""

from __future__ import annotations

from gateway.ids import to_reference
from gateway.ledger.claims import Claimed
from gateway.ledger.outcomes import Outcome
from gateway.tracing import Context, Field, Kind, SpanName, Tracer, is_sampled, read
from schemas.vocabulary import AttemptState

_FAILED = frozenset({AttemptState.NOT_SENT, AttemptState.REJECTED, AttemptState.UNKNOWN})


class Trail:
    """Marks while it is in hand; a span of it when it is out of hand."""

    __slots__ = ("_began", "_claimed", "_context", "_parent", "_steps", "_tracer")

    def __init__(self, tracer: Tracer, claimed: Claimed, parent: Context) -> None:
        self._tracer = tracer
        self._claimed = claimed
        self._parent = parent
        self._context = tracer.below(parent)
        self._began = tracer.now()
        self._steps: list[tuple[str, int]] = []

    def mark(self, step: str) -> None:
        self._steps.append((step, self._tracer.now()))

    def sent(self, outcome: Outcome, seconds: float) -> None:
        """A request to a provider that is over."""
        ended = self._tracer.now()
        self._tracer.tell(
            SpanName.SEND,
            Kind.CLIENT,
            self._tracer.below(self._context),
            self._context,
            ended - int(seconds * 1e9),
            {
                Field.REMINDER: to_reference(outcome.reminder),
                Field.ATTEMPT: to_reference(outcome.attempt),
                Field.PROVIDER: outcome.provider,
                Field.CHANNEL: self._claimed.channel.value,
                Field.OUTCOME: outcome.state.value,
                Field.FAILURE: None if outcome.failure is None else outcome.failure.value,
            },
            failed=outcome.state in _FAILED,
            ended=ended,
        )
        self.mark("answered")

    def ended(self, outcome: str, *, rule: str | None = None, attempt: int = 0, failed: bool = False) -> None:
        """`rule` is that of a verdict other than send."""
        self._tracer.tell(
            SpanName.DISPATCH,
            Kind.INTERNAL,
            self._context,
            self._parent,
            self._began,
            {
                Field.REMINDER: to_reference(self._claimed.id),
                Field.ATTEMPT: to_reference(attempt) if attempt else None,
                Field.OUTCOME: outcome,
                Field.RULE: rule,
            },
            steps=tuple(self._steps),
            failed=failed,
        )


def trail_of(tracer: Tracer, claimed: Claimed) -> Trail | None:
    """None where nobody records the trace of its request."""
    parent = read(claimed.traceparent) if is_sampled(claimed.traceparent) else None
    return None if parent is None else Trail(tracer, claimed, parent)
