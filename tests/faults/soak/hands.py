"""What people do while everything breaks, by the command line: brakes, dead letters, unknowns, secrets, keys.

A command may fail while its ledger is away: then it says so, exits with 1 and is repeated another time.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
import time
from typing import Any, Final

from gateway.dev.settings import console_urls
from tests.faults.evidence import lines
from tests.faults.soak.run import Run
from tests.faults.soak.stage import sealing_key

# How long an operator lets a message be before he says that it never left: what hung in a link has passed or is dead.
_SETTLE_AFTER: Final = 6.0
_SLICES: Final = (
    ("source", "loan-core"), ("lender", "acme"), ("lender", "jinhe"), ("stage", "due"), ("channel", "sms"),
    ("channel", "voice"), ("provider", "twilio"), ("provider", "fcm"), ("template", "repayment"), ("all", ""),
)  # fmt: skip
# Statuses of the command line: what was asked for is not so (any more), and something cannot be reached.
_DONE, _FAILED = 0, 1
_TRUTHS: Final = ("delivered", "undelivered", "unconfirmed")


async def freeze(run: Run) -> str:
    """A slice, for some seconds or until somebody lifts it."""
    kind, value = run.chance.choice(_SLICES)
    named = [kind, value] if value else [kind]
    span = ["--until", _until(run)] if run.chance.random() < 0.3 else []
    status, _ = await run.stage.tool("freeze", *named, "--reason", "soak", *span)
    if status == _DONE and not span:
        run.frozen.add((kind, value))
    return _told("slice frozen", status)


def _until(run: Run) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=run.chance.uniform(4, 10))).isoformat()


async def unfreeze(run: Run) -> str:
    if not run.frozen:
        return await freeze(run)
    kind, value = run.chance.choice(sorted(run.frozen))
    status = await lift(run, kind, value)
    return _told("slice unfrozen", status)


async def lift(run: Run, kind: str, value: str) -> int:
    status, _ = await run.stage.tool("unfreeze", *([kind, value] if value else [kind]), "--reason", "soak")
    if status == _DONE:
        run.frozen.discard((kind, value))
    return status


async def redrive(run: Run) -> str:
    """What was refused because it came too early."""
    status = _DONE
    for reason in ("bad_date", "unreadable_stop"):
        status = max(status, (await run.stage.tool("deadletters", "redrive", "--reason", reason, "--yes"))[0])
    return _told("dead letters redriven", status)


async def settle(run: Run) -> str:
    """By the truth, as the provider's console tells it."""
    try:
        unknown = await run.stage.listed("unknowns", "list", "--limit", "40")
    except AssertionError:
        return _told("unknowns settled", _FAILED)
    log = lines(run.stage.here.world.simulator.config.log)
    taken = {line["reference"] for line in log if line["kind"] == "accepted"}
    for each in run.chance.sample(unknown, min(3, len(unknown))):
        if each["attempt"] in taken:
            found = run.chance.choice(_TRUTHS)
        elif _is_over(run, each):
            found = "not-sent"
        else:
            continue
        status, _ = await run.stage.tool(
            "unknowns", "settle", each["attempt"], "--as", found, "--reason", "soak", "--yes"
        )
        run.stage.counts[f"settled {found}" if status == _DONE else "settled by somebody else first"] += 1
    return "unknowns settled"


def _is_over(run: Run, unknown: dict[str, Any]) -> bool:
    """Whether a message that no provider has will never reach one."""
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(unknown["intended_at"])
    passed = time.monotonic() > run.providers_since + _SETTLE_AFTER
    return passed and not run.under_way and age.total_seconds() > _SETTLE_AFTER


async def rotate(run: Run) -> str:
    """New tokens beside the old ones, by SIGHUP; the vendors turn to the new ones when everybody has them."""
    stage, files = run.stage, run.stage.vault.files
    old = {name: files[name].split()[0] for name in ("callback", "twilio")}
    new = {"callback": secrets.token_urlsafe(24), "twilio": secrets.token_hex(16)}
    simulator = stage.here.world.simulator
    simulator.promote_twilio_token(old["twilio"], new["twilio"])
    stage.vault.put(**{name: f"{new[name]}\n{old[name]}\n" for name in new})
    if not await stage.reload():
        return _told("tokens rotated", _FAILED)
    simulator.promote_twilio_token(new["twilio"], old["twilio"])
    stage.victim.settings.environ["GATEWAY_CALLBACK_TOKEN"] = new["callback"]
    simulator.console(**console_urls(stage.victim.settings))
    return "tokens rotated"


async def reseal(run: Run) -> str:
    """The next sealing key, and everything sealed anew by it; what is in the way waits for the next time."""
    stage, old = run.stage, run.sealing_key
    new = old + 1
    trees = [each.settings.tree["sealing"] for each in (stage.victim, stage.survivor, stage.guest)]
    name = f"sealing_{new}"
    if name not in stage.vault.files:
        stage.vault.put(**{name: sealing_key()})
    for tree in trees:
        tree["keys"][new] = stage.vault.at(name)
    stage.save()
    if not await stage.reload():
        return _told("sealing key rotated", _FAILED)
    for tree in trees:
        tree["current"] = new
    stage.save()
    run.sealing_key = new
    if not await stage.reload():
        return _told("sealing key rotated", _FAILED)
    status, _ = await stage.tool("reseal", "--rows-per-second=0", within=120)
    return _told("sealing key rotated, everything resealed", status)


async def look(run: Run) -> str:
    """Reads what there is to read."""
    status = _DONE
    for command in (["reminders", "list"], ["deadletters", "list"], ["freezes"]):
        with contextlib.suppress(AssertionError):
            status = max(status, (await run.stage.tool(*command))[0])
    return _told("lists read", status)


def _told(what: str, status: int) -> str:
    return what if status == _DONE else f"{what}: in vain"
