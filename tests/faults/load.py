"""A day's troubles in a minute: requests of 25 kinds over all five providers, each kind with a fate of its own.

The kind is in the request's number (`number % 25`), and so in the recipient's last two digits: the simulator's script
knows them by that.  What is personal is the same in all of them (`PLANTED`), so that it can be looked for.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
from collections.abc import Iterator
from typing import Any, Final

from gateway.dev.settings import LENDER, LENDER_IN_CHINA, LENDER_THAT_ASKS
from tests.faults.harness import WINDOW, Stand
from tests.stack.gateway import cancelled, requested

Event = dict[str, Any]

NAME, AMOUNT, WORD = "Canaria Vogelsang", "7654321.09", "canaryword"
LINK: Final = "https://pay.example.com/canary-link"
PLANTED: Final = (NAME, NAME.split()[1], LINK, "canary-link", AMOUNT, "7,654,321", WORD)
_PERSONAL: Final = {"borrower": {"name": NAME}, "debt": {"amount": AMOUNT}, "params": {"pay_url": LINK}}
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
    20: (("voice",), ()),  # a call that asks who listens
    21: (("voice", "sms"), ({"vendor": "twilio_voice", "callee": {"pickup": "no_answer"}},)),
    22: (("sms",), ()),
    23: (("sms", "voice"), ({"vendor": "aliyun_sms", "receipts": {"outcome": "undelivered"}},)),
    24: (("push",), ({"vendor": "fcm", "action": "hang", "times": 1},)),  # repeated, where a run says `resend` for d3
}
KINDS: Final = len(_KINDS)
_LENDERS: Final = dict.fromkeys((20, 21, 24), LENDER_THAT_ASKS) | dict.fromkeys((22, 23), LENDER_IN_CHINA)
# Whoever is called and has no fate: he listens, stops us, hangs up, or is a machine.
_CALLEES: Final[tuple[Event, ...]] = (
    {"vendor": "twilio_voice", "chance": 0.15, "callee": {"keys": ["1", "9"]}},
    {"vendor": "twilio_voice", "chance": 0.15, "callee": {"keys": ["1", "2"], "hangs_up": 3}},
    {"vendor": "twilio_voice", "chance": 0.15, "callee": {"pickup": "machine"}},
    {"vendor": "twilio_voice", "chance": 0.15, "callee": {"pickup": "busy"}},
)
FROZEN_SOURCE: Final = "loan-frozen"
EARLY: Final = 6.0


def script(seed: int) -> Event:
    """The simulator's script for this load; every answer takes a moment, so that there is something to interrupt."""
    rules: list[Event] = []
    for kind, (_, fates) in _KINDS.items():
        for fate in fates:
            for end in range(kind, 100, KINDS):
                recipient = f"token-*{end:02d}-*" if fate["vendor"] == "fcm" else f"*{end:02d}"
                rules.append({**fate, "recipient": recipient})
    # Fates first: of the rules that speak about receipts the first counts.
    rules += [{"latency": [0.0, 0.2]}, {"chance": 0.1, "receipts": {"copies": 2}}, *_CALLEES]
    return {"seed": seed, "rules": rules}


class Load:
    """Makes requests, repetitions, conflicts, nonsense and cancels; repeatable from its seed.

    With `early` also what is refused now and good in `EARLY` seconds: somebody has to redrive it, or it holds its
    borrower for hours.
    """

    def __init__(self, seed: int, *, early: bool = False) -> None:
        self._random = random.Random(seed)
        self._early = early
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

    def plain(self, n: int) -> list[Event]:
        """Requests that behave, all alike: to see how fast they are."""
        found = []
        for _ in range(n):
            self._number += KINDS - self._number % KINDS
            self.reminders += 1
            found.append(requested(self._number, **_PERSONAL))
        return found

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
        lender = _LENDERS.get(kind, LENDER)
        changes: Event = {**_PERSONAL, "lender": lender}
        if kind == 24:
            changes["stage"] = "d3"
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
            yield cancelled(number, {"kind": "borrower"}, as_of=later, lender=lender)
        elif self._early and chance < 0.05:
            # From too far ahead, and so refused.  Of the cancel nobody knows what it says: its borrower is held.
            if chance < 0.04:
                event["data"]["debt"]["state_as_of"] = (now + dt.timedelta(minutes=5, seconds=EARLY)).isoformat()
            else:
                ahead = (now + dt.timedelta(days=1, seconds=EARLY)).isoformat()
                yield cancelled(number, {"kind": "borrower"}, as_of=ahead, lender=lender)
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
            yield self._nonsense(event)

    def _nonsense(self, event: Event) -> bytes:
        """Something that nobody can obey, and that is not to be quoted."""

        def changed(**changes: Any) -> bytes:
            return json.dumps({**event, "id": f"{event['id']}-bad", "data": {**event["data"], **changes}}).encode()

        return self._random.choice(
            [
                b"{",
                b"\xff",
                b'{"specversion":"1.0"}',
                b"[" * 2000,
                json.dumps(event).encode()[:-9],
                changed(contacts=[{"channel": "sms", "address": f"{NAME} 13900000000"}]),
                changed(stage=NAME),
                changed(lender="no-such-lender"),
                changed(params={WORD: LINK}),
                changed(not_after="2020-01-01T00:00:00Z"),
                changed(debt={**event["data"]["debt"], "amount": NAME}),
            ]
        )

    def frozen(self, n: int, **changes: Any) -> list[Event]:
        """Requests of the source that will be frozen; with what to say about them."""
        found = []
        for _ in range(n):
            self._number += KINDS - self._number % KINDS  # of kind 0: they behave
            self.reminders += 1
            found.append({**requested(self._number, **{**_PERSONAL, **changes}), "source": FROZEN_SOURCE})
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
