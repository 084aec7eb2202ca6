"""The account: one row a request, sums that must add up, and what the providers' own log says against them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from gateway.dev.demo.books import Books
from gateway.dev.demo.watch import Fate
from gateway.ledger.gauges import ReadOutcome
from schemas.vocabulary import Channel, ReminderState

# Run as a file by an interpreter that cannot see the gateway: it judges by the log alone.
_COUNT: Final = Path(__file__).parents[1] / "simulator" / "count.py"
_ENDS: Final = {
    "undelivered": ReminderState.UNDELIVERED,
    "unconfirmed": ReminderState.UNCONFIRMED,
    "suppressed": ReminderState.SUPPRESSED,
    "cancelled": ReminderState.CANCELLED,
    "expired": ReminderState.EXPIRED,
    "dead_letters": "dead letter",
    "duplicates": "duplicate",
    "validated": "validated",
}


@dataclass(frozen=True, slots=True)
class Account:
    """Everything counted.  `log` is what count.py says of the simulator's log; `books` what the ledger and the
    counters say; `others` what was told about nothing of the cast; `restless` what was still under way at the end.
    """

    fates: Sequence[Fate]
    log: dict[str, int]
    books: Books
    others: Sequence[dict[str, Any]] = ()
    restless: Sequence[str] = ()

    @property
    def requests(self) -> list[Fate]:
        return [fate for fate in self.fates if not fate.item.stop]

    @property
    def unexpected(self) -> list[Fate]:
        return [fate for fate in self.fates if not fate.as_expected]

    def sums(self) -> dict[str, Any]:
        """The last line of the demo.  requests = all of delivered + the next eight."""
        delivered = Counter(fate.delivered_by for fate in self._of(ReminderState.DELIVERED))
        sums = self.books.sums
        return {
            "requests": len(self.requests),
            "delivered": {channel.value: delivered[channel] for channel in Channel},
            **{name: len(self._of(state)) for name, state in _ENDS.items()},
            "stops": len(self.fates) - len(self.requests),
            "records_published": self.books.published,
            "records_read": sums.read,
            "records_counted": self.books.counted,
            "read_as": {outcome.value: sums.outcome(outcome) for outcome in ReadOutcome},
            "attempts": sum(len(fate.attempts) for fate in self.fates),
            "messages": sum(fate.messages for fate in self.fates),
            "messages_in_provider_log": self.log["messages"],
            "duplicates_sent": self.log["duplicates_sent"],
            "unexpected": len(self.unexpected),
            "unexpected_events": len(self.others),
        }

    def problems(self) -> list[str]:
        """What keeps the demo from ending with 0."""
        sums = self.sums()
        found = [f"{fate.item.id}: expected {_wish(fate)}" for fate in self.unexpected]
        found += [f"nobody expected to be told of {_name(told)}" for told in self.others]
        found += [f"still under way: {each}" for each in self.restless]
        found += self.books.gaps
        ends = sum(sums["delivered"].values()) + sum(sums[name] for name in _ENDS)
        if ends != sums["requests"]:
            found.append(f"{sums['requests']} requests, but {ends} ends")
        if sums["records_read"] != sums["requests"] + sums["stops"]:
            found.append(
                f"{sums['records_read']} records read, but {sums['requests']} requests + {sums['stops']} stops"
            )
        told = self._told_as()
        for name, n in sums["read_as"].items():
            if n != told[ReadOutcome(name)]:
                found.append(f"{n} records read as {name}, but {told[ReadOutcome(name)]} told so")
        if sums["messages"] != self.log["messages"]:
            found.append(f"the gateway tells of {sums['messages']} messages, the providers of {self.log['messages']}")
        if self.log["duplicates_sent"] or self.log["unmarked"]:
            found.append(f"sent twice: {self.log['duplicates_sent']}; without a marker: {self.log['unmarked']}")
        return found

    def table(self) -> Table:
        """One row for each request, and below them every sum of the last line."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in ("request", "channel", "provider", "attempts", "state", "reason"):
            table.add_column(name, overflow="fold", justify="right" if name == "attempts" else "left")
        for fate in self.requests:
            path = [(each["channel"], each["provider"]) for each in fate.attempts]
            steps = [step for at, step in enumerate(path) if at == 0 or step != path[at - 1]]
            table.add_row(
                escape(fate.item.id),
                " → ".join(channel for channel, _ in steps),
                " → ".join(provider for _, provider in steps),
                str(len(fate.attempts)),
                _colour(fate),
                fate.reason if fate.as_expected else f"{fate.reason} [red]expected {_wish(fate)}[/]",
            )
        for section in self._sections():
            table.add_section()
            for what, channel, attempts, state, source in section:
                table.add_row(what, channel, "", attempts, state, source, style="bold")
        return table

    def _sections(self) -> list[list[tuple[str, str, str, str, str]]]:
        """The sums as rows: how many, delivered by which channel, in how many attempts, state, and by whose word."""
        sums = self.sums()
        requests = [self._end(state, "") for state in _ENDS.values()]
        by_channel = ", ".join(f"{channel} {n}" for channel, n in sums["delivered"].items())
        requests.insert(0, self._end(ReminderState.DELIVERED, by_channel))
        requests.append((f"= {sums['requests']} requests", "", f"{sums['attempts']}", "", "sum of the above"))

        def row(n: int | str, state: str, source: str) -> tuple[str, str, str, str, str]:
            return f"{n}", "", "", state, source

        records = [row(n, name, "by the ledger's counts") for name, n in sums["read_as"].items()]
        records += [
            row(f"= {sums['records_read']} records", "read", "by the stored offsets"),
            row(sums["records_counted"], "read", "by the metrics"),
            row(sums["records_published"], "published", f"{sums['requests']} requests, {sums['stops']} stops"),
        ]
        messages = [
            row(f"{sums['messages']} messages", "taken", "as the events tell"),
            row(sums["messages_in_provider_log"], "taken", "by the providers' own log"),
            row(sums["duplicates_sent"], "sent twice", "by the providers' own log"),
        ]
        return [requests, records, messages]

    def _end(self, state: str, channels: str) -> tuple[str, str, str, str, str]:
        fates = self._of(state)
        return f"{len(fates)}", channels, f"{sum(len(fate.attempts) for fate in fates)}", f"{state}", ""

    def _of(self, state: str) -> list[Fate]:
        return [fate for fate in self.requests if fate.state == state]

    def _told_as(self) -> dict[ReadOutcome, int]:
        """What intake must have made of the records, by what was told about each."""
        answers = {state: len(self._of(state)) for state in ("duplicate", "dead letter", "validated")}
        stops = len(self.fates) - len(self.requests)
        return {
            ReadOutcome.ACCEPTED: sum(fate.reminder is not None for fate in self.requests),
            ReadOutcome.DUPLICATE: answers["duplicate"],
            ReadOutcome.DEADLETTER: answers["dead letter"],
            ReadOutcome.COMMAND: answers["validated"] + stops,
            ReadOutcome.SKIPPED: 0,
        }


async def count(log: Path, resends: Collection[str]) -> dict[str, int]:
    """What the providers accepted, counted from their log by a program that knows nothing of the gateway.

    `resends` are the providers that are configured to be sent to again; the stage names them as the simulator does.
    """
    command = [sys.executable, "-I", "-S", str(_COUNT), str(log), *sorted(resends)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    counted: dict[str, int] = json.loads(output)
    return counted


def _name(told: dict[str, Any]) -> str:
    """An event or a dead letter in a few words; ids and states only."""
    if "offset" in told:
        return f"a dead letter at {told['partition']}/{told['offset']}: {told['reason']}"
    what = told.get("answer") or told.get("state") or told["type"]
    return f"{told['source']} {told['request_id']}: {what}" if "source" in told else f"{what}"


def _colour(fate: Fate) -> str:
    colour = "green" if fate.state == ReminderState.DELIVERED else "yellow"
    return f"[{colour if fate.as_expected else 'red'}]{fate.state or 'nothing was told'}[/]"


def _wish(fate: Fate) -> str:
    expect = fate.item.expect
    if expect.dead_letter or expect.answer:
        return f"{expect.dead_letter or expect.answer}"
    wish = [
        expect.state or "stop",
        expect.reason,
        expect.channel and f"by {expect.channel}",
        f"{expect.attempts} tries",
        expect.said and f"told {expect.said}",
    ]
    return ", ".join(part for part in wish if part)
