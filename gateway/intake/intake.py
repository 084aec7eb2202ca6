"""Intake: records become rows, one transaction per batch."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.clock import Clock
from gateway.ids import IdSource
from gateway.intake import traces
from gateway.intake.decode import Decoded, Record
from gateway.ledger import deadletters, freezes, intake
from gateway.ledger.accept import Slots
from gateway.ledger.claims import Claimed
from gateway.ledger.commands import Command, Request
from gateway.ledger.database import Database
from gateway.ledger.intake import Result
from gateway.ledger.standing import Move, Rules
from gateway.ledger.wanted import Planner
from gateway.observability.logs import get_logger
from gateway.personal import Sealed
from gateway.tracing import Tracer
from gateway.worker import Worker
from schemas.vocabulary import Reason, Rejection, ReminderState

log = get_logger(__name__)

# How much is decoded before the loop gets its turn: some milliseconds' worth.
_BYTES_AT_ONCE: Final = 128 * 1024
_RECORD_COST: Final = 1024


class Decodes(Protocol):
    """From records to commands, and from a record to what is kept of it."""

    def decode(self, record: Record, ids: IdSource, now: dt.datetime) -> Decoded: ...
    def seal(self, record: Record, identifier: int) -> tuple[bytes, bytes]: ...


class IntakeObserver(Protocol):
    def moved(self, moves: Sequence[Move]) -> None: ...
    def born(self, state: ReminderState, reason: Reason | None, n: int = 1) -> None: ...
    def read(self, outcome: str, n: int) -> None: ...
    def deadletter(self, reason: Rejection, n: int) -> None: ...


class FastPath(Protocol):
    """Where new rows may go without the queue."""

    def offer(self) -> Slots | None: ...
    def take(self, lease_id: int, claimed: Sequence[tuple[Claimed, Sealed]]) -> None: ...


@dataclass(frozen=True, slots=True)
class FreezeRule:
    """A source whose share of dead letters passes `share` is frozen, once it has `least` of them in the window."""

    share: float = 0.5
    least: int = 100
    window: dt.timedelta = dt.timedelta(minutes=10)


class Intake:
    """What a consumer gives its batches to."""

    def __init__(
        self,
        database: Database,
        worker: Worker,
        clock: Clock,
        decoder: Decodes,
        topic: str,
        rules: Rules,
        freeze_rule: FreezeRule,
        fast_path: FastPath | None,
        on_due: Callable[[], None],
        on_events: Callable[[], None],
        metrics: IntakeObserver,
        tracer: Tracer | None = None,
        planner: Planner | None = None,
    ) -> None:
        """Facts need the `planner`."""
        self._database = database
        self._worker = worker
        self._clock = clock
        self._decoder = decoder
        self._topic = topic
        self._rules = rules
        self._freeze_rule = freeze_rule
        self._fast_path = fast_path
        self._on_due = on_due
        self._on_events = on_events
        self._metrics = metrics
        self._tracer = tracer
        self._planner = planner

    async def write(self, records: Sequence[Record], following: Mapping[int, int], known: Mapping[int, int]) -> None:
        """Decodes and writes one batch; afterwards it may be forgotten.

        `known` are the next offsets that the ledger is known to have had.
        """
        now = self._clock.now()
        decoded = await self._decode(records, now)
        slots = self._fast_path.offer() if self._fast_path is not None else None
        kept = {(each.partition, each.offset): each for each in records}

        def seal(command: Command) -> tuple[bytes, bytes]:
            origin = command.origin
            return self._decoder.seal(kept[origin.partition, origin.offset], command.id)

        result, suspects = await self._commit(decoded, dict(following), known, now, slots, seal)
        if slots is not None and result.claimed:
            self._hand_over(decoded, result, slots)
        if result.planned or len(result.accepted) > len(result.claimed):
            self._on_due()
        self._on_events()
        self._observe(result)
        if self._tracer is not None:
            traces.told(self._tracer, decoded, result)
        for source in suspects:
            await self._freeze(source, now)

    async def _decode(self, records: Sequence[Record], now: dt.datetime) -> list[Decoded]:
        """The loop gets its turn between the records: a large batch must not keep heartbeats and sends waiting."""
        decoded: list[Decoded] = []
        size = 0
        for each in records:
            made = self._decoder.decode(each, self._worker.ids, now)
            decoded.append(made if self._tracer is None else traces.begun(self._tracer, made))
            size += _RECORD_COST + len(each.value or b"")
            if size > _BYTES_AT_ONCE:
                size = 0
                await asyncio.sleep(0)
        return decoded

    async def _commit(
        self,
        decoded: Sequence[Decoded],
        following: dict[int, int],
        known: Mapping[int, int],
        now: dt.datetime,
        slots: Slots | None,
        seal: intake.Seal,
    ) -> tuple[Result, list[str]]:
        """The result, and sources that send too much we cannot take and are not frozen yet."""
        commands = [each.command for each in decoded]
        rule = self._freeze_rule

        async def work(connection: object, careful: bool = False) -> tuple[Result, list[str]]:
            result = await intake.write(
                connection, self._topic, commands, following, now, self._rules, slots, careful=careful, seal=seal,
                known=known, planner=self._planner,
            )  # fmt: skip
            read = {source: (n, result.refused[source]) for source, n in result.heard.items()}
            health = await deadletters.health(connection, read, now, rule.window) if read else {}
            bad = [
                source
                for source, (records, letters) in health.items()
                if letters >= rule.least and letters > rule.share * records and source not in result.frozen
            ]
            return result, bad

        try:
            return await self._database.transaction(work)
        except Exception as error:
            if not intake.blames_record(error):
                raise
            log.warning("batch_bisected", n=len(commands), exc_info=error)
            return await self._database.transaction(lambda connection: work(connection, careful=True))

    def _hand_over(self, decoded: Sequence[Decoded], result: Result, slots: Slots) -> None:
        assert self._fast_path is not None
        personal = {each.command.id: each.personal for each in decoded if each.personal is not None}
        self._fast_path.take(
            slots.worker, [(claimed_of(each, slots.token), personal[each.id]) for each in result.claimed]
        )

    def _observe(self, result: Result) -> None:
        for (_, outcome), n in result.outcomes.items():
            self._metrics.read(outcome, n)
        for reason, n in result.letters.items():
            self._metrics.deadletter(Rejection(reason), n)
        if unreadable := result.letters[Rejection.UNREADABLE_STOP]:
            log.error("stop_unreadable", n=unreadable)  # somebody has to read it
        self._metrics.moved(result.moves)
        for each in (*result.accepted, *result.planned):
            self._metrics.born(each.state, each.reason)

    async def _freeze(self, source: str, now: dt.datetime) -> None:
        """In a transaction of its own: a freeze excludes intake, whose own transaction shares that lock."""

        async def freeze(connection: object) -> bool:
            return await freezes.add(
                connection, "source", source, reason="dead_letter_share", author=freezes.INTAKE, now=now
            )

        if await self._database.transaction(freeze):
            log.error("source_frozen", source=source.replace("://", ":"))


def claimed_of(request: Request, token: int) -> Claimed:
    """What a claim of the request just written would return."""
    return Claimed(
        request.id, request.subject, request.lender, request.source, request.request_id, request.product,
        request.stage, request.template, request.lane, request.ladder, 0, 0, 0, request.not_after, request.sealed,
        request.send_at, token, traceparent=request.traceparent, borrower=request.borrower, debt=request.debt,
        instalment=request.instalment,
    )  # fmt: skip
