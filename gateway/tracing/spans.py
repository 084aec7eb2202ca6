"""Spans as values: whoever has done something tells it afterwards, in the trace of the request it was done for.

A reminder lives for days, so no span stays open for it: the place in the trace stands on its row, each span is made
when what it tells is over, and a restart loses none but those.  Attributes are those of `Field`: ids of ours, words of
closed sets, names that the configuration gives.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from gateway.tracing.context import Context, is_sampled, read

_RANDOM: Final = 0b10  # how we make trace ids: consumers may sample by them
_RATIO_BITS: Final = 56  # of a trace id, those that are random by W3C Trace Context level 2

Value: TypeAlias = str | int | bool


class SpanName(StrEnum):
    """Every span there is."""

    INTAKE = "intake"  # from the record to the commit that stores what it asks for
    DISPATCH = "dispatch"  # from the claim to the commit of the verdict or the outcome
    SEND = "send"  # the provider's request, with its repeats inside the lease
    RECEIPT = "receipt"  # from the callback to the commit that applies it
    PUBLISH = "publish"  # to Kafka


class Kind(StrEnum):
    """Which side of a call it is, as OpenTelemetry has it."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Field(StrEnum):
    """Every attribute there is: ids, places, words of closed sets, and names that the configuration gives."""

    REMINDER = "reminder.id"
    ATTEMPT = "reminder.attempt"
    DEADLETTER = "reminder.deadletter"
    PROVIDER = "reminder.provider"
    CHANNEL = "reminder.channel"
    OUTCOME = "reminder.outcome"
    STATE = "reminder.state"
    REASON = "reminder.reason"
    FAILURE = "reminder.failure"
    RULE = "reminder.rule"
    RECEIPT = "reminder.receipt"
    EVENT = "cloudevents.event_id"
    EVENT_TYPE = "cloudevents.event_type"
    SYSTEM = "messaging.system"
    TOPIC = "messaging.destination.name"
    PARTITION = "messaging.destination.partition.id"
    OFFSET = "messaging.kafka.offset"


@dataclass(frozen=True, slots=True)
class Span:
    """One thing done.  Times are nanoseconds since 1970; `steps` are moments within it."""

    name: SpanName
    kind: Kind
    context: Context
    parent: Context | None
    began: int
    ended: int
    attributes: Mapping[Field, Value]
    steps: Sequence[tuple[str, int]] = ()
    failed: bool = False


Sink = Callable[[Span], None]


class Tracer:
    """Makes spans for `sink`.  Who is asked about a trace that nobody records does nothing.

    A request that comes in a trace is recorded where its sender records it; of those without one, a share of `ratio`
    begins a trace of ours.
    """

    def __init__(
        self,
        sink: Sink,
        ratio: float = 1.0,
        chance: Callable[[int], bytes] = os.urandom,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._sink = sink
        self._bound = round(ratio * (1 << _RATIO_BITS))
        self._chance = chance
        self.now = now

    def below(self, parent: Context) -> Context:
        """A new place below another one."""
        return Context(parent.trace, _not_zero(self._chance(8)), parent.flags)

    def first(self, traceparent: str | None) -> Context | None:
        """The place of what is the first we do for a request; None where it is not recorded."""
        if traceparent is not None:
            parent = read(traceparent) if is_sampled(traceparent) else None
            return None if parent is None else self.below(parent)
        trace = self._chance(16)
        if int.from_bytes(trace[-7:]) >= self._bound:
            return None
        return self.below(Context(_not_zero(trace), "", 1 | _RANDOM))

    def tell(
        self,
        name: SpanName,
        kind: Kind,
        context: Context,
        parent: Context | None,
        began: int,
        attributes: Mapping[Field, Value | None],
        *,
        steps: Sequence[tuple[str, int]] = (),
        failed: bool = False,
        ended: int | None = None,
    ) -> None:
        """What has no value is left out."""
        known = {field: value for field, value in attributes.items() if value is not None}
        end = max(self.now() if ended is None else ended, began)
        self._sink(Span(name, kind, context, parent, began, end, known, steps, failed))

    def tell_below(
        self,
        name: SpanName,
        kind: Kind,
        traceparent: str | None,
        began: int,
        attributes: Mapping[Field, Value | None],
        *,
        failed: bool = False,
    ) -> None:
        """Something that nothing else is told below; nothing where the trace is not recorded."""
        parent = read(traceparent) if is_sampled(traceparent) else None
        if parent is not None:
            self.tell(name, kind, self.below(parent), parent, began, attributes, failed=failed)


def _not_zero(chance: bytes) -> str:
    """All zeros means none."""
    return chance.hex() if any(chance) else f"{1:0{2 * len(chance)}x}"
