"""A day's troubles in a minute: requests of twenty kinds, each kind with a fate of its own at the providers.

The kind is in the request's number (`number % 20`), and so in the recipient's last two digits: the simulator's script
knows them by that.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Iterator
from typing import Any, Final

from tests.faults.harness import WINDOW, Stand
from tests.stack.gateway import cancelled, requested

Event = dict[str, Any]

# Not before its receipts could have come in time.
_LATE: Final = (WINDOW + 4, WINDOW + 4)
# Channels and rule(s) of each kind; without a rule the provider behaves.
_KINDS: Final[dict[int, tuple[tuple[str, ...], tuple[Event, ...]]]] = {
    0: (("sms",), ()),
    1: (("sms", "push"), ({"vendor": "twilio", "receipts": {"outcome": "failed"}},)),
    2: (("sms",), ({"vendor": "twilio", "receipts": {"outcome": "sent"}},)),
    3: (("push",), ()),
    4: (("voice",), ()),
    5: (("sms", "voice"), ({"vendor": "twilio", "receipts": {"outcome": "undelivered"}},)),
    6: (("push", "sms"), ({"vendor": "fcm", "action": "error", "code": "UNREGISTERED"},)),
    7: (("sms",), ({"vendor": "twilio", "action": "error", "code": "21211"},)),
    8: (("sms",), ({"vendor": "twilio", "action": "hang", "receipts": {"delay": [1.6, 1.6]}},)),  # after the timeout
    9: (("sms",), ({"vendor": "twilio", "receipts": {"lost": True}},)),
    10: (("sms",), ({"vendor": "twilio", "action": "stall"},)),
    11: (("sms",), ({"vendor": "twilio", "action": "error", "code": "20429", "times": 1},)),
    12: (("sms",), ()),  # cancelled before its time
    13: (("voice", "sms"), ({"vendor": "aliyun", "receipts": {"outcome": "busy"}},)),
    14: (("sms",), ({"vendor": "twilio", "receipts": {"delay": _LATE}},)),
    15: (("voice",), ({"vendor": "aliyun", "action": "error", "code": "isv.VOICE_CALL_PERIOD_ERROR"},)),  # expires
    16: (("sms",), ({"vendor": "twilio", "action": "error", "code": "21610"},)),
    # Cancelled while it is out, and then undelivered.
    17: (("sms", "voice"), ({"vendor": "twilio", "receipts": {"outcome": "undelivered", "delay": [2, 2]}},)),
    18: (("voice", "push"), ({"vendor": "aliyun", "receipts": {"outcome": "declined"}},)),
    19: (("sms",), ({"vendor": "twilio", "receipts": {"outcome": "undelivered", "delay": _LATE}},)),
}
KINDS: Final = len(_KINDS)
FROZEN_SOURCE: Final = "loan-frozen"


def script(seed: int) -> Event:
    """The simulator's script for this load; every answer takes a moment, so that there is something to interrupt."""
    rules: list[Event] = [{"latency": [0.0, 0.2]}, {"chance": 0.1, "receipts": {"copies": 2}}]
    for kind, (_, fates) in _KINDS.items():
        tens = "02468" if kind < 10 else "13579"
        for fate in fates:
            end = f"[{tens}]{kind % 10}"
            rules.append({**fate, "recipient": f"token-*{end}-*" if fate["vendor"] == "fcm" else f"*{end}"})
    # Fates first: of the rules that speak about receipts the first counts.
    return {"seed": seed, "rules": rules[2:] + rules[:2]}


class Load:
    """Makes requests, repetitions, conflicts, nonsense and cancels; repeatable from its seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._number = 100
        self._cancels: list[tuple[dt.datetime, Event]] = []
        self.reminders = 0

    def burst(self, n: int) -> list[Event | bytes]:
        """The next `n` requests with what comes along, and the cancels that are due."""
        events: list[Event | bytes] = []
        for _ in range(n):
            self._number += 1
            events += self._request(self._number)
        return events + self.cancels()

    def cancels(self) -> list[Event | bytes]:
        """Cancels whose moment has come."""
        now = dt.datetime.now(dt.UTC)
        due = [event for at, event in self._cancels if at <= now]
        self._cancels = [each for each in self._cancels if each[0] > now]
        return list(due)

    @property
    def waiting(self) -> bool:
        return bool(self._cancels)

    def _request(self, number: int) -> Iterator[Event | bytes]:
        kind, now = number % KINDS, dt.datetime.now(dt.UTC)
        changes: Event = {}
        if kind == 12:
            changes["send_at"] = (now + dt.timedelta(seconds=30)).isoformat()
            scope = {"kind": "request", "source": "loan-core", "id": f"request-{number}"}
            self._cancels.append((now + dt.timedelta(seconds=1), cancelled(number, scope)))
        if kind == 15:
            changes["not_after"] = (now + dt.timedelta(seconds=10)).isoformat()
        if kind == 17:
            later = (now + dt.timedelta(seconds=60)).isoformat()
            scope = {"kind": "debt", "ref": f"debt-{number}"}
            self._cancels.append((now + dt.timedelta(seconds=1.5), cancelled(number, scope, as_of=later)))
        event = requested(number, _KINDS[kind][0], **changes)
        self.reminders += 1
        chance = self._random.random()
        if chance < 0.03:  # the stop comes first
            later = (now + dt.timedelta(seconds=60)).isoformat()
            yield cancelled(number, {"kind": "borrower"}, as_of=later)
        yield event
        if chance > 0.94:
            yield event
        elif chance > 0.91:
            yield {
                **event,
                "data": {**event["data"], "priority": "bulk", "debt": {**event["data"]["debt"], "amount": "1"}},
            }
        elif chance > 0.88:
            self.reminders += 1
            yield {**event, "id": f"again-{number}"}  # the same stage of the same debt
        elif chance > 0.85:
            yield self._random.choice([b"{", b"\xff", b'{"specversion":"1.0"}'])

    def frozen(self, n: int, **changes: Any) -> list[Event]:
        """Requests of the source that will be frozen; with what to say about them."""
        found = []
        for _ in range(n):
            self._number += KINDS - self._number % KINDS  # of kind 0: they behave
            self.reminders += 1
            found.append({**requested(self._number, **changes), "source": FROZEN_SOURCE})
        return found

    def stop_of(self, event: Event) -> Event:
        """A cancel of one request."""
        number = int(event["data"]["borrower"]["ref"].partition("-")[2])
        return cancelled(number, {"kind": "request", "source": event["source"], "id": event["id"]})


async def heal(here: Stand, load: Load, within: float = 120) -> float:
    """Nothing is disturbed any more: the last cancels, the last receipts, and everything ends.  The seconds it took."""
    while load.waiting:
        await here.world.publish(load.cancels())
        await asyncio.sleep(0.2)
    await here.quiet(within)
    await asyncio.wait_for(here.world.simulator.settled(), within)
    return await here.quiet(within)
