"""Intake: records become rows, one transaction per batch; the watchdog rebuilds a client that went silent."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka.errors import KafkaConnectionError

from gateway.clock import Clock
from gateway.intake import traces
from gateway.intake.consumer import Consumer
from gateway.intake.decode import Decoded, Decoder, Record
from gateway.ledger import deadletters, freezes, intake, offsets
from gateway.ledger.accept import Slots
from gateway.ledger.claims import Claimed
from gateway.ledger.commands import Command, Request
from gateway.ledger.database import Database
from gateway.ledger.follow import Move, Rules
from gateway.ledger.intake import Result
from gateway.observability.logs import get_logger
from gateway.personal import Sealed
from gateway.tracing import Tracer
from gateway.worker import Worker
from schemas.vocabulary import Reason, Rejection, ReminderState

log = get_logger(__name__)

# How much is decoded before the loop gets its turn: some milliseconds' worth.
_BYTES_AT_ONCE: Final = 128 * 1024
_RECORD_COST: Final = 1024
# A silent client is rebuilt once; a broken one a few times, ever more slowly.
_SILENT_ENOUGH: Final = 1
_FAILED_ENOUGH: Final = 8
_FAILING_SECONDS: Final = 10.0
_LONG_AGO: Final = 10  # in times of the watchdog's patience
# So often the ledger is asked whether it still has what it had committed.
_LOOK_SECONDS: Final = 5.0


class IntakeObserver(Protocol):
    def moved(self, moves: Sequence[Move]) -> None: ...
    def born(self, state: ReminderState, reason: Reason | None, n: int = 1) -> None: ...
    def read(self, outcome: str, n: int) -> None: ...
    def deadletter(self, reason: Rejection, n: int) -> None: ...
    def rebuilt(self) -> None: ...
    def commits_lost(self) -> None: ...


class Brokers(Protocol):
    """Who finds out why they cannot be reached, and says it as a code."""

    why: str | None

    def trouble(self) -> None: ...


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
    """Keeps a consumer running.  `fatal` is called when even a rebuilt client stays silent."""

    def __init__(
        self,
        database: Database,
        worker: Worker,
        clock: Clock,
        decoder: Decoder,
        topic: str,
        rules: Rules,
        freeze_rule: FreezeRule,
        make_consumer: Callable[[Callable[[Sequence[Record], Mapping[int, int]], object]], Consumer],
        fast_path: FastPath | None,
        on_due: Callable[[], None],
        on_events: Callable[[], None],
        metrics: IntakeObserver,
        fatal: Callable[[str], None],
        watchdog_seconds: float,
        rebalance_seconds: float,
        tracer: Tracer | None = None,
        brokers: Brokers | None = None,
    ) -> None:
        self._database = database
        self._worker = worker
        self._clock = clock
        self._decoder = decoder
        self._topic = topic
        self._rules = rules
        self._freeze_rule = freeze_rule
        self._make_consumer = make_consumer
        self._fast_path = fast_path
        self._on_due = on_due
        self._on_events = on_events
        self._metrics = metrics
        self._fatal = fatal
        self._tracer = tracer
        self._watchdog_seconds = watchdog_seconds
        self._silent_after = watchdog_seconds + rebalance_seconds
        self._consumer: Consumer | None = None
        self._loop: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._brokers = brokers
        self._stopping = False
        self._renewing = asyncio.Event()

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name="intake")
        self._keeper.add_done_callback(self._kept)

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        """Nobody else would notice: a keeper that ends by itself takes the process with it."""
        if self._stopping or (not keeper.cancelled() and keeper.exception() is None):
            return
        log.error("intake_ended", exc_info=None if keeper.cancelled() else keeper.exception())
        self._fatal("intake_ended")

    async def stop(self, seconds: float) -> None:
        """Finishes the batch in hand if it can in time."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._end(seconds)

    def renew(self) -> None:
        """Goes on with a client made anew: a living one logs in with what it was made with.  Safe to call again."""
        self._renewing.set()

    def trouble(self) -> str | None:
        """What keeps records from being read, None when nothing does; to have no partition is no trouble."""
        consumer, now = self._consumer, time.monotonic()
        if consumer is None or self._loop is None:
            return self._unreached() or "no_consumer"
        progress = consumer.progress
        if now - progress.polled_at > self._watchdog_seconds:
            return "silent"
        if progress.failing_since is not None and now - progress.failing_since > _FAILING_SECONDS:
            return "not_writing"
        if progress.unanswered_since is not None and now - progress.unanswered_since > _FAILING_SECONDS:
            return self._unreached() or "unanswered"
        return None

    def _unreached(self) -> str | None:
        """Has the brokers looked at; what was seen the last time."""
        if self._brokers is None:
            return None
        self._brokers.trouble()
        return self._brokers.why

    async def _keep(self) -> None:
        """Runs a consumer; rebuilds one that is silent or broken, and gives the process up when that does not help.

        A broker that is away is waited for: receipts and what is due do not need it, and a restart would not bring it
        back.
        """
        silent = failed = away = 0
        while True:
            began = time.monotonic()
            why = await self._run_one()
            progress = None if self._consumer is None else self._consumer.progress
            worked = progress is not None and progress.written_at is not None
            # What went wrong long ago, or was mended since, is not held against it.
            if worked or time.monotonic() - began > _LONG_AGO * self._watchdog_seconds:
                silent = failed = away = 0
            await self._end(5.0)
            if why in ("renewed", "commits_lost"):
                log.info("consumer_renewed", why=why)
                continue
            silent += why == "silent"
            failed += why == "failed"
            away += why == "unreachable"
            if silent > _SILENT_ENOUGH or failed > _FAILED_ENOUGH:
                self._fatal(f"consumer_{why}")
                return
            self._metrics.rebuilt()
            log.error("consumer_rebuilt", why=why)
            self._unreached()
            with contextlib.suppress(TimeoutError):  # another login is tried at once
                await asyncio.wait_for(self._renewing.wait(), min(0.5 * 2 ** min(failed + away, 5), 15.0))

    async def _run_one(self) -> str:
        """Why it came to its end."""
        try:
            async with asyncio.timeout(self._silent_after):
                await self._begin()
            return await self._watch()
        except TimeoutError:
            # A link on which even connecting hangs: there is no client yet that could be silent.
            reached = self._consumer is not None and self._consumer.reached
            return "silent" if reached else "unreachable"
        except (KafkaConnectionError, ConnectionError) as error:
            log.warning("kafka_unreachable", exc_info=error)
            return "unreachable"
        except Exception as error:
            log.warning("consumer_failed", exc_info=error)
            return "failed"

    async def _begin(self) -> None:
        self._renewing.clear()
        self._consumer = self._make_consumer(self.write)
        await self._consumer.start()
        self._loop = asyncio.create_task(self._consumer.run(), name="consume")

    async def _watch(self) -> str:
        consumer, loop = self._consumer, self._loop
        assert consumer is not None
        assert loop is not None
        looked_at = time.monotonic()
        while True:
            await asyncio.wait([loop], timeout=min(1.0, self._watchdog_seconds / 4))
            if loop.done():
                loop.result()
                return "ended"
            if self._renewing.is_set():
                return "renewed"
            progress, now = consumer.progress, time.monotonic()
            if now - looked_at > _LOOK_SECONDS:
                looked_at = now
                if await self._commits_lost():
                    return "commits_lost"
            # A rebalance holds a round up for as long as it may take.
            stuck = now - progress.polled_at > self._silent_after
            silent = progress.behind and now - progress.heard_at > self._watchdog_seconds
            if stuck or silent:
                return "silent"
            asked_since = progress.unanswered_since
            if asked_since is not None and now - asked_since > _FAILING_SECONDS:
                self._unreached()
            if asked_since is not None and now - asked_since > _LONG_AGO * self._watchdog_seconds:
                return "unreachable"  # that is for the broker to mend, but perhaps not with this client

    def _known(self) -> Mapping[int, int]:
        return {} if self._consumer is None else self._consumer.known

    async def _commits_lost(self) -> bool:
        """Whether the ledger has forgotten what it had committed, as after a failover to a standby that lagged.

        What it has forgotten is read again, as it would be by any other process, and what of it had been sent is sent
        again: nobody here can know.  Somebody has to hear of it.
        """
        before = self._known()
        if not before:
            return False
        try:
            async with self._database.connection() as connection:
                stored = await offsets.read(connection, self._topic, list(before))
        except Exception:  # a ledger that is away is not this one's to tell
            return False
        # Not what was given away meanwhile, or found to stand elsewhere: a log may begin anew.
        still = self._known()
        lost = offsets.lost(stored, {each: n for each, n in before.items() if still.get(each, -1) >= n})
        if lost:
            self._metrics.commits_lost()
            log.error("commits_lost", records=lost)
        return lost > 0

    async def _end(self, seconds: float) -> None:
        consumer, loop = self._consumer, self._loop
        self._consumer = self._loop = None
        if consumer is None:
            return
        consumer.ask_to_stop()
        if loop is not None:
            await asyncio.wait([loop], timeout=seconds)
            if not loop.done():
                loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
        await consumer.stop(min(seconds, 5.0))

    # --- one batch ------------------------------------------------------------------------------------------------

    async def write(self, records: Sequence[Record], following: Mapping[int, int]) -> None:
        """Decodes and writes one batch; afterwards it may be forgotten."""
        now = self._clock.now()
        decoded = await self._decode(records, now)
        slots = self._fast_path.offer() if self._fast_path is not None else None
        kept = {(each.partition, each.offset): each for each in records}

        def seal(command: Command) -> tuple[bytes, bytes]:
            origin = command.origin
            return self._decoder.seal(kept[origin.partition, origin.offset], command.id)

        result, suspects = await self._commit(decoded, dict(following), now, slots, seal)
        if slots is not None and result.claimed:
            self._hand_over(decoded, result, slots)
        if len(result.accepted) > len(result.claimed):
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
                known=self._known(),
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
        for each in result.accepted:
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
        request.send_at, token, traceparent=request.traceparent,
    )  # fmt: skip
