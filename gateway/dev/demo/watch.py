"""What an upstream service sees: records go out on one topic, and their fates come back on two others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from gateway.cli.kafka import Listener
from gateway.dev.demo.cast import SOURCE, Item
from schemas.vocabulary import FINAL_REMINDER_STATES, AttemptState

# Attempts whose message the provider has not taken, by its own word or by proof.
_NEVER_LEFT: Final = frozenset({AttemptState.REJECTED, AttemptState.NOT_SENT})
_REACHED: Final = frozenset(
    {AttemptState.DELIVERED, AttemptState.ANSWERED, AttemptState.ANSWERED_HUMAN, AttemptState.ANSWERED_MACHINE}
)


@dataclass(slots=True)
class Fate:
    """What became of one record so far."""

    item: Item
    place: tuple[int, int] | None = None  # partition, offset
    seq: int = 0
    state: str = ""
    reason: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list, repr=False)
    been: set[str] = field(default_factory=set)  # states its attempts were told in

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
        )


class Watch:
    """Follows the records of the cast."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.fates = [Fate(item) for item in items]
        self.others: list[dict[str, Any]] = []  # told about requests that are not of the cast
        self.published = 0

    @property
    def ended(self) -> int:
        return sum(fate.ended for fate in self.fates)

    @property
    def done(self) -> bool:
        return self.published == len(self.fates) == self.ended

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
        untold: list[dict[str, Any]] = []
        while not self.done:
            # A fate can be told before we know where its record went.
            untold = [told for told in [*untold, *await listener.more(100)] if not self._take(told)]
            on_news()
            if self.published == len(self.fates):
                self.others += untold
                untold = []

    async def news(self, listener: Listener) -> AsyncIterator[dict[str, Any]]:
        """What is told afterwards, for ever."""
        while True:
            for told in await listener.more(500):
                yield told

    def _take(self, told: dict[str, Any]) -> bool:
        if "offset" in told:
            return self._take_letter((told["partition"], told["offset"]), told["reason"])
        if told["source"] != SOURCE:
            return False
        mine = [fate for fate in self.fates if fate.item.id == told["request_id"]]
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
        return after is None or any(fate.ended for fate in self.fates if fate.item.id == after and not fate.item.stop)


def _take_state(fate: Fate, told: dict[str, Any]) -> bool:
    if fate.item.stop:
        if told["state"] == "cancelled":  # the stop has done what it was for
            fate.state = "stop"
        return False
    if fate.item.expect.state is None:
        return False  # it shares a request's id, but makes no reminder of its own
    attempts = told.get("attempts", [])
    fate.been.update(each["state"] for each in attempts)
    if told["seq"] > fate.seq:
        fate.seq, fate.state, fate.reason = told["seq"], told["state"], told.get("reason") or ""
        fate.attempts = attempts
    return True


def _settle(fates: Sequence[Fate], state: str, reason: str) -> bool:
    for fate in fates:
        fate.state, fate.reason = state, reason
    return bool(fates)
