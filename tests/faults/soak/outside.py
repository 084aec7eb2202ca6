"""Faults of links, of providers and of the load.  Each does its worst, notes nothing, and says what it did.

What has a length ends by itself within seconds, beside the faults that follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

import aiohttp

from tests.faults.load import NAME, PLANTED
from tests.faults.soak.run import Run
from tests.stack.gateway import address
from tests.stack.proxy import Link, Proxy

_MODES: Final = tuple(each for each in Link if each is not Link.PASSES)


# --- links ------------------------------------------------------------------------------------------------------------


async def link(run: Run) -> str:
    """One of the links in one of the ways in which links break, for some seconds."""
    name = run.chance.choice(list(run.stage.links))
    how = run.chance.choice(_MODES)
    run.meanwhile(_broken(run, name, how, run.chance.uniform(0.5, 9.0)))
    await asyncio.sleep(run.chance.uniform(0.0, 1.5))
    return f"link to {name.partition(',')[0]} {how}"


async def _broken(run: Run, name: str, how: Link, seconds: float) -> None:
    try:
        run.stage.links[name].set(how)
        await asyncio.sleep(seconds)
    finally:
        run.stage.links[name].set(Link.PASSES)
        if name == "providers":
            run.providers_since = time.monotonic()


async def cut(run: Run) -> str:
    """Every connection of one link at once; the next ones work."""
    name = run.chance.choice(list(run.stage.links))
    run.stage.links[name].reset()
    return f"link to {name.partition(',')[0]} cut"


async def lost_commits(run: Run) -> str:
    """The ledger has committed, and the answer does not come."""
    over = run.chance.choice(_ledgers(run))
    before = over.lost
    over.lose_commits(run.chance.randint(1, 12))
    await run.stage.here.world.publish(run.load.burst(10))
    await asyncio.sleep(run.chance.uniform(0.5, 2.0))
    over.lose_commits(0)
    run.stage.counts["commits whose answer was lost"] += over.lost - before
    return "answers of COMMIT lost"


def _ledgers(run: Run) -> Sequence[Proxy]:
    return [each for name, each in run.stage.links.items() if name.startswith("postgres")]


# --- providers --------------------------------------------------------------------------------------------------------

_MISBEHAVIOUR: Final[dict[str, dict[str, Any]]] = {
    "errors": {"action": "error", "status": 503},
    "throttling": {"action": "error", "status": 429, "retry_after": 1},
    "errors after taking it": {"action": "error", "status": 500, "after_accept": True},
    "taken and silent": {"action": "hang", "seconds": 3},
    "not taken and silent": {"action": "stall", "seconds": 3},
    "taken and reset": {"action": "reset"},
    "reset": {"action": "drop"},
    "half an answer": {"action": "truncate"},
    "slow": {"latency": [0.5, 1.5]},
    "receipts repeated and turned round": {"receipts": {"copies": 4, "reorder": True, "delay": [0, 1]}},
    "receipts lost": {"receipts": {"lost": True}},
    "receipts at once": {"receipts": {"delay": [0, 0]}},
}


async def providers_gone(run: Run) -> str:
    run.stage.here.world.simulator.refuse(run.chance.uniform(0.5, 4.0))
    return "providers gone"


async def providers_misbehave(run: Run) -> str:
    """A third of what they get, for some seconds."""
    what = run.chance.choice(list(_MISBEHAVIOUR))
    run.perform({**_MISBEHAVIOUR[what], "chance": 0.33})
    run.meanwhile(_behaving_after(run, run.chance.uniform(1.0, 8.0)))
    return f"providers: {what}"


async def _behaving_after(run: Run, seconds: float) -> None:
    await asyncio.sleep(seconds)
    run.perform()


# --- the load itself --------------------------------------------------------------------------------------------------


async def rush(run: Run) -> str:
    await run.stage.here.world.publish(run.load.burst(run.chance.randint(150, 400)))
    return "rush"


async def replies(run: Run) -> str:
    """Borrowers write back, twice each."""
    control = f"{run.stage.here.world.simulator.urls.control}/reply"
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            number = address("sms", run.chance.randint(101, 100 + max(1, run.load.reminders)))
            letter = {
                "vendor": run.chance.choice(["twilio", "aliyun_sms"]), "number": number, "content": " ".join(PLANTED),
                "copies": 2,
            }  # fmt: skip
            with contextlib.suppress(aiohttp.ClientError):  # the providers are gone
                async with session.post(control, json=letter) as answer:
                    run.answers[f"reply {answer.status}"] += 1
    return "borrowers write back"


async def strangers(run: Run) -> str:
    """Whatever comes to a public port: nothing of it may be taken, and none is an error of ours."""
    tree = run.stage.survivor.settings.tree
    base, token = tree["http"]["public_url"], run.stage.vault.files["callback"].split()[0]
    bodies: Sequence[Any] = (
        b"", b"\xff" * 100, NAME.encode(), b"[" * 20_000, b"[]", b"{}", b"x" * 400_000,
        b"MessageSid=SM1&MessageStatus=delivered",
    )  # fmt: skip
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for where in ("twilio", "aliyun", "aliyun_sms", "twilio_voice", "nobody"):
            for body in bodies:
                path = run.chance.choice([token, "wrong" * 6])
                try:
                    async with session.post(f"{base}/callbacks/{where}/{path}", data=body) as answer:
                        run.answers[f"stranger {answer.status}"] += 1
                        if answer.status == 500:
                            run.blame("I8", f"a stranger's callback to {where} was answered 500")
                except (aiohttp.ClientError, TimeoutError):
                    run.answers["stranger cut off"] += 1
    return "strangers call"
