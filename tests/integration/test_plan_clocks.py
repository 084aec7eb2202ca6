"""Plans over nights when clocks change, over a move to another zone, over a cadence's new version, and a long one."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.cadence import loading
from gateway.cadence.loading import PACKAGED
from gateway.dispatch.pipeline import Job
from gateway.ids import IdSource
from gateway.intake.planner import Planner
from gateway.ledger.freezes import Freezes
from gateway.policy import Defer
from gateway.worker import Lease
from schemas.vocabulary import Channel
from tests.integration.plan_machine.model import STEPS
from tests.integration.plans_by_hand import SEALER, USUAL, Plans, plans
from tests.unit.cadence.facts import DUE, EARLY, at, moved, paid, planned, rescheduled

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
DAY = dt.timedelta(days=1)
NIGHT = 'window: {opens: "02:15", closes: "02:45", spread: 1m}'


async def local(it: Plans, zone: str, stage: str = "d7") -> dt.datetime:
    moment = await it.hand.value("select at from live where stage = $1 and state = 'scheduled'", stage)
    return moment.astimezone(ZoneInfo(zone))  # type: ignore[no-any-return]


@pytest.mark.parametrize("changes", [dt.date(2026, 3, 29), dt.date(2026, 10, 25)])
async def test_what_waits_over_a_change_of_the_clocks_goes_by_the_hours_of_its_day(
    changes: dt.date, database: str
) -> None:
    async with plans(database) as it:
        it.ids = IdSource(61)
        it.hand.now = dt.datetime.combine(changes - 5 * DAY, dt.time(8), dt.UTC)
        # Of one debt it is planned for the day before, of the other for the day itself.
        for debt, due in (("loan-1", changes + 6 * DAY), ("loan-2", changes + 7 * DAY)):
            await it.tell(planned(due, as_of=it.hand.now, debt=debt, zone=BERLIN), now=it.hand.now)
        rows = await it.hand.connection.fetch("select debt, send_at from reminder where stage = 'd7' order by debt")
        before, on = [row["send_at"].astimezone(ZoneInfo(BERLIN)) for row in rows]
        assert (before.date(), on.date()) == (changes - DAY, changes)
        assert {dt.time(9) <= each.time() < dt.time(13) for each in (before, on)} == {True}
        assert before.utcoffset() != on.utcoffset()
        # What was not told on the evening before waits for the morning, an hour sooner or later.
        late = dt.datetime.combine(changes - DAY, dt.time(20, 30), ZoneInfo(BERLIN)).astimezone(dt.UTC)
        it.hand.now = late
        [claimed] = [each for each in await it.hand.claim(await it.hand.worker()) if each.stage == "d7"]
        verdict = STEPS.decide(Job(claimed, Lease(0, 0.0)), late, Freezes({}))
        opens = dt.datetime.combine(changes, dt.time(9), ZoneInfo(BERLIN)).astimezone(dt.UTC)
        assert isinstance(verdict, Defer)
        assert verdict.rule == "outside_hours"
        assert opens <= verdict.until < opens + dt.timedelta(minutes=10)
        assert opens - late in (dt.timedelta(hours=11.5), dt.timedelta(hours=13.5))


@pytest.mark.parametrize(
    ("changes", "goes", "until"),
    [
        # From 02:00 on it is 03:00: what lies within the gap has no moment, and it is good for the next day.
        (dt.date(2026, 3, 29), "2026-03-30 02:15 +0200", "2026-03-31 02:45 +0200"),
        # 02:15 comes twice, and the first is meant; so is the first 02:45.
        (dt.date(2026, 10, 25), "2026-10-25 02:15 +0200", "2026-10-27 02:45 +0100"),
    ],
)
async def test_hours_within_the_night_itself(
    changes: dt.date, goes: str, until: str, database: str, tmp_path: Path
) -> None:
    async with plans(database) as it:
        it.planner = other(it, versions(tmp_path, NIGHT, "2026-02-01"))
        it.ids = IdSource(61)
        it.hand.now = dt.datetime.combine(changes - 5 * DAY, dt.time(8), dt.UTC)
        await it.tell(planned(changes + 7 * DAY, as_of=it.hand.now, zone=BERLIN), now=it.hand.now)
        waits = await local(it, BERLIN)
        assert f"{waits:%F %H:%M %z}" == goes
        over = await it.hand.value("select not_after from live where stage = 'd7'")
        assert f"{over.astimezone(ZoneInfo(BERLIN)):%F %H:%M %z}" == until


async def test_who_moves_is_told_by_his_new_clock(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned(zone=BERLIN))
        before = {stage: await local(it, BERLIN, stage) for stage in ("d7", "d3", "due")}
        n = await it.reminders()
        await it.tell(moved(at("2026-12-01"), NEW_YORK))
        for stage, was in before.items():
            now = await local(it, NEW_YORK, stage)
            assert now.replace(tzinfo=None) == was.replace(tzinfo=None)
            assert now - was == dt.timedelta(hours=6)
        # Each once more, and what had waited for the old clock is none any more.
        live = await it.hand.value("select count(*) from live")
        assert await it.reminders() == 2 * n
        assert live == n


async def test_who_moves_while_it_is_in_hand_is_not_told_by_his_old_clock(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned(zone=BERLIN))
        worker = await it.hand.worker()
        it.hand.now = (await local(it, BERLIN)).astimezone(dt.UTC)
        [claimed] = await it.hand.claim(worker)
        await it.tell(moved(it.hand.now, NEW_YORK), now=it.hand.now)
        assert (await it.hand.intend(worker, it.hand.intent(claimed))).sendable == frozenset()
        assert (await local(it, NEW_YORK)).hour >= 9


AFTERNOON = 'window: {opens: "15:00", closes: "18:00", spread: 1m}'


def versions(path: Path, window: str = AFTERNOON, since: str = "2026-12-01") -> loading.Cadences:
    """The packaged cadence, and a second version of it with one other window for all reminders."""
    shutil.copytree(PACKAGED / "default", path / "default")
    text = (PACKAGED / "default" / "1.yaml").read_text()
    start = text.index("  - name: d7")
    lines = [f"    {window}" if line.strip().startswith("window:") else line for line in text[start:].splitlines()]
    text = text[:start] + "\n".join(lines) + "\n"
    text = text.replace("version: 1\n", "version: 2\n").replace("effective: 2026-01-01", f"effective: {since}")
    (path / "default" / "2.yaml").write_text(text)
    return loading.load(path)


def other(it: Plans, cadences: loading.Cadences) -> Planner:
    """A planner that takes for a new plan the version in force."""
    return Planner(
        SEALER, cadences, lambda lender, product, at: cadences.in_force("default", at.date()),
        {"harbour": frozenset(Channel)}, lambda: it.ids,
    )  # fmt: skip


async def test_a_plan_keeps_its_version_and_a_new_one_has_the_new(database: str, tmp_path: Path) -> None:
    async with plans(database) as it:
        it.planner = other(it, versions(tmp_path))
        later = DUE + 10 * DAY
        await it.tell(planned(later, debt="loan-1"))
        december = at("2026-12-02")
        await it.tell(planned(later, debt="loan-2", as_of=december), now=december)
        # The plan that runs is told again by the next version's time, and still goes by its own.
        await it.tell(rescheduled(later + DAY, as_of=december + dt.timedelta(hours=1), debt="loan-1"))
        rows = await it.hand.connection.fetch(
            "select r.debt, r.occasion, r.send_at from reminder r join live l on l.id = r.id where r.stage = 'd7'"
            " order by r.debt"
        )
        hours = [
            (row["debt"], row["occasion"], row["send_at"].astimezone(ZoneInfo("Asia/Shanghai")).hour) for row in rows
        ]
        assert [each[:2] for each in hours] == [("loan-1", "default/1/d7"), ("loan-2", "default/2/d7")]
        assert 9 <= hours[0][2] < 13
        assert hours[1][2] == 15


async def test_a_plan_of_thirty_years_changes_by_what_differs(database: str) -> None:
    async with plans(database) as it:
        dates = [dt.date(2027 + n // 12, n % 12 + 1, 10) for n in range(360)]
        made = await it.tell(planned(*dates))
        each = len(made.planned) // 360
        assert len(made.planned) == await it.reminders() == 360 * each
        assert each == len(USUAL)
        moved_on = [*dates[:200], dates[200] + DAY, *dates[201:]]
        result = await it.tell(rescheduled(*moved_on, as_of=EARLY + dt.timedelta(hours=1)))
        assert len(result.planned) == each
        ended = await it.hand.value("select count(*) from ending where reason = 'replanned'")
        assert (ended, await it.hand.value("select count(*) from live")) == (each, 360 * each)
        result = await it.tell(paid(EARLY + dt.timedelta(hours=2), 7, "40.00"))
        assert (len(result.planned), await it.hand.value("select count(*) from revision")) == (0, each)
