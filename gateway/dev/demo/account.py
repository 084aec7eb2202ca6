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

from gateway.dev.demo.watch import Fate
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
    """Everything counted.  `log` is what count.py says of the simulator's log."""

    fates: Sequence[Fate]
    log: dict[str, int]

    @property
    def requests(self) -> list[Fate]:
        return [fate for fate in self.fates if not fate.item.stop]

    @property
    def unexpected(self) -> list[Fate]:
        return [fate for fate in self.fates if not fate.as_expected]

    def sums(self) -> dict[str, Any]:
        """The last line of the demo.  requests = all of delivered + the next eight."""
        delivered = Counter(fate.delivered_by for fate in self.requests if fate.state == ReminderState.DELIVERED)
        states = Counter(fate.state for fate in self.requests)
        return {
            "requests": len(self.requests),
            "delivered": {channel.value: delivered[channel] for channel in Channel},
            **{name: states[state] for name, state in _ENDS.items()},
            "stops": len(self.fates) - len(self.requests),
            "attempts": sum(len(fate.attempts) for fate in self.fates),
            "messages": sum(fate.messages for fate in self.fates),
            "messages_in_provider_log": self.log["messages"],
            "duplicates_sent": self.log["duplicates_sent"],
            "unexpected": len(self.unexpected),
        }

    def problems(self) -> list[str]:
        """What keeps the demo from ending with 0."""
        sums = self.sums()
        found = [f"{fate.item.id}: expected {_wish(fate)}" for fate in self.unexpected]
        ends = sum(sums["delivered"].values()) + sum(sums[name] for name in _ENDS)
        if ends != sums["requests"]:
            found.append(f"{sums['requests']} requests, but {ends} ends")
        if sums["messages"] != self.log["messages"]:
            found.append(f"the gateway tells of {sums['messages']} messages, the providers of {self.log['messages']}")
        if self.log["duplicates_sent"] or self.log["unmarked"]:
            found.append(f"sent twice: {self.log['duplicates_sent']}; without a marker: {self.log['unmarked']}")
        return found

    def table(self) -> Table:
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
        return table

    def sentence(self) -> str:
        """The sums, for people."""
        sums = self.sums()
        by_channel = ", ".join(f"{channel} {n}" for channel, n in sums["delivered"].items())
        parts = [f"{sum(sums['delivered'].values())} delivered ({by_channel})"]
        parts += [f"{sums[name]} {name.replace('_', ' ')}" for name in _ENDS]
        return (
            f"{sums['requests']} requests = {' + '.join(parts)}\n"
            f"{sums['requests'] + sums['stops']} records read = {sums['requests']} requests + {sums['stops']} stops\n"
            f"{sums['attempts']} attempts, {sums['messages']} messages taken by a provider; by the providers' own log "
            f"{self.log['messages']}, of which {self.log['duplicates_sent']} should not have left"
        )


async def count(log: Path, resends: Collection[str]) -> dict[str, int]:
    """What the providers accepted, counted from their log by a program that knows nothing of the gateway.

    `resends` are the providers that are configured to be sent to again; the stage names them as the simulator does.
    """
    command = [sys.executable, "-I", "-S", str(_COUNT), str(log), *sorted(resends)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    counted: dict[str, int] = json.loads(output)
    return counted


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
    ]
    return ", ".join(part for part in wish if part)
