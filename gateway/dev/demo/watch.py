"""What an upstream service sees: records go out on one topic, and their fates come back on two others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from gateway.cli.kafka import Listener
from gateway.dev.demo.books import Books
from gateway.dev.demo.cast import SOURCE, Item
from schemas.messages import STATUS
from schemas.vocabulary import FINAL_REMINDER_STATES, AttemptState

# Attempts whose message the provider has not taken, by its own word or by proof.
_NEVER_LEFT: Final = frozenset({AttemptState.REJECTED, AttemptState.NOT_SENT})
_REACHED: Final = frozenset(
    {AttemptState.DELIVERED, AttemptState.ANSWERED, AttemptState.ANSWERED_HUMAN, AttemptState.ANSWERED_MACHINE}
)

# After the last thing that happened: long enough for every poll and timer of the gateway to come round again.
_QUIET: Final = 1.5
_GLANCE_MS: Final = 250


@dataclass(slots=True)
class Fate:
    """What became of one record so far."""

    item: Item
    place: tuple[int, int] | None = None  # partition, offset
    reminder: str | None = None
    seq: int = 0
    state: str = ""
    reason: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list, repr=False)
    been: set[str] = field(default_factory=set)  # states its attempts were told in
    said: list[str] = field(default_factory=list)  # what its borrower said back, by the events' types

    @property
    def ended(self) -> bool:
        return self.state in FINAL_REMINDER_STATES or self.state in ("duplicate", "validated", "dead letter", "stop")

    @property
    def delivered_by(self) -> str | None:
        return next((each["channel"] for each in self.attempts if each["state"] in _REACHED), None)

    @property
    def messages(self) -> int:
        """How many messages a provider has taken for it, as the gateway tells it."""
        return sum(each["state"] not in _NEVER_LEFT for each in self.attempts)

    @property
    def heard(self) -> bool:
        """Whether its borrower has said what he was to say, and nothing else."""
        return self.said == ([] if self.item.expect.said is None else [self.item.expect.said])

    @property
    def as_expected(self) -> bool:
        expect, found = self.item.expect, len(self.attempts)
        if expect.dead_letter is not None:
            return (self.state, self.reason) == ("dead letter", expect.dead_letter)
        if expect.answer is not None:
            return expect.answer in (self.state, self.reason)
        if self.item.stop:
            return (self.state, self.reason) == ("stop", "")
        return (
            (self.state, self.reason or None, found) == (expect.state, expect.reason, expect.attempts)
            and expect.channel == self.delivered_by
            and (expect.was is None or expect.was in self.been)
            and self.heard
        )


class Watch:
    """Follows the records of the cast."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.fates = [Fate(item) for item in items]
        self.others: list[dict[str, Any]] = []  # told about what is not of the cast
        self.published = 0
        self._untold: list[dict[str, Any]] = []

    @property
    def ended(self) -> int:
        return sum(fate.ended for fate in self.fates)

    @property
    def done(self) -> bool:
        return self.published == len(self.fates) == self.ended

    @property
    def acknowledged(self) -> Counter[int]:
        """Records that the broker took, by partition."""
        return Counter(fate.place[0] for fate in self.fates if fate.place is not None)

    async def publish(self, producer: AIOKafkaProducer, topic: str) -> None:
        """Puts everything on the topic, in order; what comes `after` another as soon as that one has ended."""
        waiting = list(self.fates)
        while waiting:
            for fate in [each for each in waiting if self._may_go(each.item.after)]:
                record = await producer.send_and_wait(topic, fate.item.value, key=fate.item.key)
                fate.place = (record.partition, record.offset)
                self.published += 1
                waiting.remove(fate)
            await asyncio.sleep(0.05)

    async def follow(self, listener: Listener, on_news: Callable[[], None]) -> None:
        """Takes in what is told until everything has ended."""
        while not self.done:
            await self._hear(listener, 100)
            on_news()

    async def settle(self, listener: Listener, read: Callable[[], Awaitable[Books]], within: float) -> list[str]:
        """Goes on taking in what is told until nothing is under way and nothing has happened for a while.

        A second message, a correction or a rescue that comes after the last end is seen here.  Returns what was still
        under way when time was up.
        """
        end = time.monotonic() + within
        quiet_since, before = time.monotonic(), await read()
        while True:
            told = await self._hear(listener, _GLANCE_MS)
            books = await read()
            now = time.monotonic()
            if told or books != before or books.under_way:
                quiet_since, before = now, books
            elif now - quiet_since >= _QUIET:
                return []
            if now >= end:
                return books.under_way or ["the gateway goes on telling"]

    async def news(self, listener: Listener) -> AsyncIterator[dict[str, Any]]:
        """What is told afterwards, for ever."""
        while True:
            for told in await listener.more(500):
                yield told

    async def _hear(self, listener: Listener, milliseconds: int) -> bool:
        """Takes in what came meanwhile; whether anything did."""
        news = await listener.more(milliseconds)
        # A fate can be told before we know where its record went.
        self._untold = [told for told in [*self._untold, *news] if not self._take(told)]
        if self.published == len(self.fates):
            self.others += self._untold
            self._untold = []
        return bool(news)

    def _take(self, told: dict[str, Any]) -> bool:
        if "offset" in told:
            return self._take_letter((told["partition"], told["offset"]), told["reason"])
        if told.get("source") != SOURCE:
            return False
        mine = [fate for fate in self.fates if fate.item.id == told["request_id"]]
        if told["type"] != STATUS:
            return any([_take_word(fate, told) for fate in mine])
        match told.get("answer"):
            case None:
                return any([_take_state(fate, told) for fate in mine])
            case "too_late":
                return _settle([fate for fate in mine if fate.item.stop], "stop", "too_late")
            case answer:
                return _settle([fate for fate in mine if fate.item.expect.answer == answer], answer, "")

    def _take_letter(self, place: tuple[int, int], reason: str) -> bool:
        return _settle([fate for fate in self.fates if fate.place == place], "dead letter", reason)

    def _may_go(self, after: str | None) -> bool:
        return after is None or any(
            fate.ended and fate.heard for fate in self.fates if fate.item.id == after and not fate.item.stop
        )


def _take_state(fate: Fate, told: dict[str, Any]) -> bool:
    if fate.item.stop:
        if told["state"] == "cancelled":  # the stop has done what it was for
            fate.state = "stop"
        return False
    if fate.item.expect.state is None:
        return False  # it shares a request's id, but makes no reminder of its own
    if fate.reminder not in (None, told["reminder"]):
        return False  # a second reminder of one request is nothing that anybody expects
    fate.reminder = told["reminder"]
    attempts = told.get("attempts", [])
    fate.been.update(each["state"] for each in attempts)
    if told["seq"] > fate.seq:
        fate.seq, fate.state, fate.reason = told["seq"], told["state"], told.get("reason") or ""
        fate.attempts = attempts
    return True


def _take_word(fate: Fate, told: dict[str, Any]) -> bool:
    mine = not fate.item.stop and fate.item.expect.state is not None and fate.reminder in (None, told["reminder"])
    if mine:
        fate.said.append(told["type"])
    return mine


def _settle(fates: Sequence[Fate], state: str, reason: str) -> bool:
    for fate in fates:
        fate.state, fate.reason = state, reason
    return bool(fates)
