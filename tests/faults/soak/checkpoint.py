"""A quiet moment: everything is healed, everything has to end, and the judge looks at the whole ledger."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tests.faults import checker
from tests.faults.evidence import Report
from tests.faults.load import EARLY, heal
from tests.faults.soak import hands
from tests.faults.soak.canaries import Sweep
from tests.faults.soak.measure import Measurements, sample, sizes
from tests.faults.soak.run import Run
from tests.stack.proxy import Link

# After the last fault everything has ended: the longest receipt window, a call's silence, a circuit, a paced release.
ENDS_WITHIN: Final = 180.0
_IN_FORCE: Final = """
select kind, value from "freeze" where until is null or until > clock_timestamp() order by kind, value
"""


@dataclass
class Checkpoints:
    """What the quiet moments have shown so far."""

    ends_within: float = ENDS_WITHIN
    sweep: Sweep = field(default_factory=Sweep)
    healed: list[float] = field(default_factory=list)  # seconds
    checks: Counter[str] = field(default_factory=Counter)
    report: Report = field(default_factory=Report)
    _known: set[str] = field(default_factory=set)

    async def __call__(self, run: Run, measured: Measurements) -> bool:
        """Heals, waits, judges.  False when it does not end: then there is no use in going on."""
        began = time.monotonic()
        await recover(run)
        try:
            await asyncio.sleep(max(0.0, EARLY - (time.monotonic() - began)))
            await hands.redrive(run)
            await heal(run.stage.here, run.load, self.ends_within)
        except (AssertionError, TimeoutError) as error:
            run.blame("I8", f"not everything has ended {self.ends_within:g} s after the last fault\n{error}")
            await self._judge(run)  # what else there is may say why
            return False
        self.healed.append(time.monotonic() - began)
        await self._judge(run)
        await self._old_keys_go(run)
        measured.quiet.append((sample(run), await sizes(run)))
        print(
            f"{run.minutes:5.1f} min  quiet after {self.healed[-1]:.1f} s, {len(run.violations)} violations", flush=True
        )
        return True

    async def _judge(self, run: Run) -> None:
        found = await checker.collect(run.stage.here.evidence())
        self.report = await asyncio.to_thread(checker.judge, found)
        self.checks += checks(found)
        for each in self.report.violations:
            if str(each) not in self._known:  # the ledger stays: what was found once is found again
                self._known.add(str(each))
                run.blame(each.invariant, each.what)
        await self.sweep(run, found)
        self.checks["I7"] = self.sweep.checks

    async def _old_keys_go(self, run: Run) -> None:
        """Nothing is sealed by a former key any more, so it is removed, and everything still opens."""
        stage = run.stage
        trees = [each.settings.tree["sealing"] for each in (stage.victim, stage.survivor, stage.guest)]
        if len(trees[0]["keys"]) == 1:
            return
        status, said = await stage.tool("reseal", "--rows-per-second=0", within=120)
        if status:
            run.blame("I8", f"in the quiet something is left under a former key\n{said}")
            return
        for tree in trees:
            tree["keys"] = {run.sealing_key: tree["keys"][run.sealing_key]}
        stage.save()
        if not await stage.reload():
            run.blame("I8", "in the quiet a reload was not taken")
        status, said = await stage.tool("check-config", "--ledger")
        if status:
            run.blame("I8", f"the ledger needs a key that is gone\n{said}")
        stage.counts["former sealing keys removed"] += 1


async def recover(run: Run) -> None:
    """The last fault ends: everybody is up, every link whole, nothing is frozen."""
    stage = run.stage
    await run.calm()
    for each in stage.links.values():
        each.lose_commits(0)
        each.set(Link.PASSES)
    run.perform()
    await stage.bring_up(stage.victim)
    survives(run)
    await stage.survivor.ready(60)
    for row in await stage.here.fetch(_IN_FORCE):
        status = await hands.lift(run, row["kind"], "" if row["kind"] == "all" else row["value"])
        if status and row in await stage.here.fetch(_IN_FORCE):  # it has not ended by itself meanwhile
            run.blame("I8", f"a freeze of {row['kind']} cannot be lifted")
    run.frozen.clear()


def survives(run: Run) -> None:
    """A process that gave up by itself is a violation, and there is none any more that lived through everything."""
    survivor = run.stage.survivor
    if not survivor.child.alive:
        run.blame("I8", f"the survivor ended with {survivor.child.returncode}\n{survivor.child.tail()}")
        run.stage.spawn(survivor)


def checks(found: checker.Found) -> Counter[str]:
    """How often each invariant was looked at: once for each thing that could break it."""
    ledger = found.ledger
    accepted = sum(line["kind"] == "accepted" for line in found.log)
    return Counter(
        {
            "I1": len(found.requests.records),
            "I2": len(ledger.reminders),
            "I3": accepted,
            "I4": len(ledger.reminder_steps) + len(ledger.attempt_steps) + len(found.events.records),
            "I8": len(ledger.reminders),
            "I9": len(ledger.attempts),
        }
    )
