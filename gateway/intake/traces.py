"""What intake tells of the records it has read: one span each, once what they ask for is stored."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from gateway.ids import to_reference
from gateway.intake.decode import Decoded
from gateway.ledger.intake import Result
from gateway.tracing import Field, Kind, SpanName, Tracer, read
from gateway.tracing.spans import Value


def begun(tracer: Tracer, decoded: Decoded) -> Decoded:
    """The command as the first of our spans, where that is recorded: what follows is told below it.

    So it stands on the row before the span is told, and a batch that is tried again tells it once.
    """
    came_in = decoded.command.traceparent
    own = tracer.first(came_in)
    if own is None:
        return decoded
    return Decoded(replace(decoded.command, traceparent=str(own)), decoded.personal, (came_in, tracer.now()))


def told(tracer: Tracer, decoded: Sequence[Decoded], result: Result) -> None:
    """What became of them in the batch that has committed.  What was not in it was read before."""
    accepted = {each.request.id: each for each in result.accepted}
    buried = {each.id: each.reason for each in result.buried}
    for each in decoded:
        if each.begun is None:
            continue
        command = each.command
        came_in, began = each.begun
        own = read(command.traceparent)
        assert own is not None
        attributes: dict[Field, Value | None] = {
            Field.SYSTEM: "kafka",
            Field.TOPIC: command.origin.topic,
            Field.PARTITION: str(command.origin.partition),
            Field.OFFSET: command.origin.offset,
        }
        if (born := accepted.get(command.id)) is not None:
            attributes |= {
                Field.OUTCOME: "accepted",
                Field.REMINDER: to_reference(command.id),
                Field.STATE: born.state.value,
                Field.REASON: None if born.reason is None else born.reason.value,
            }
        elif command.id in buried:
            reason = buried[command.id]
            attributes |= {
                Field.OUTCOME: "deadletter",
                Field.DEADLETTER: to_reference(command.id),
                Field.REASON: reason.value,
            }
        elif command.id in result.duplicates:
            attributes[Field.OUTCOME] = "duplicate"
        elif command.id in result.commands:
            attributes[Field.OUTCOME] = "command"
        else:
            continue
        parent = read(came_in)
        failed = command.id in buried
        tracer.tell(SpanName.INTAKE, Kind.CONSUMER, own, parent, began, attributes, failed=failed)
