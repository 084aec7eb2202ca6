"""The gateway killed at each named point, and what the world sees: Kafka, Postgres and the provider's own log.

K1..K6 name the faults of docs/guarantees.md.  Every test ends with the checker's verdict on the healed run.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Stand, eventually, fresh_topics, stand, until_paused
from tests.stack.gateway import address, requested
from tests.stack.postgres import PostgresServer

QUEUE_ONLY: Mapping[str, Any] = {"dispatch": {"fast_path": False}}
# Receipts may take as long as the provider takes to repeat them.
PATIENT: Mapping[str, Any] = {"providers": {"twilio": {"receipt_window_hours": 30 / 3600}}}
RESEND: Mapping[str, Any] = {"providers": {"fcm": {"on_unknown": "resend"}}}
SILENT_PHONE: Mapping[str, Any] = {"vendor": "fcm", "receipts": {"outcome": "none"}}
DELIVERED = ("scheduled", "awaiting", "delivered")
LOST = ("scheduled", "awaiting", "unconfirmed")


@dataclass(frozen=True)
class Kill:
    """One point: what must be seen while the gateway is dead, and what must have become of the request."""

    point: str
    at_kill: Mapping[str, int]  # states of the living, and how many messages the provider has
    told: tuple[str, ...] = DELIVERED
    attempts: tuple[str, ...] = ("delivered",)  # oldest first
    messages: int = 1
    overrides: Mapping[str, Any] = field(default_factory=dict)
    channel: str = "sms"
    rules: tuple[Mapping[str, Any], ...] = ()  # of the simulator's script
    name: str = ""
    or_told: tuple[str, ...] = ()  # where it depends on how close together the receipts come

    @property
    def id(self) -> str:
        return self.name or self.point


KILLS = (
    Kill("after_fetch", {"reminders": 0}),  # K1: read again
    Kill("after_intake", {"reminders": 1, "claimed": 1}),  # K2: read again, known already
    Kill("after_claim", {"reminders": 1, "claimed": 1}, overrides=QUEUE_ONLY),  # K3: claimed again
    Kill("after_reserve", {"reminders": 1, "claimed": 1}),
    # K4: nobody can know that no byte left, so it is never sent again and ends unconfirmed.
    Kill("after_intend", {"sending": 1, "attempt intended": 1}, LOST, ("unconfirmed",), 0),
    Kill("before_first_byte", {"sending": 1, "attempt intended": 1}, LOST, ("unconfirmed",), 0),
    # K5: the provider has it, and its receipts say so: two moves, or one where both come in one group.
    Kill(
        "after_answer", {"sending": 1, "attempt intended": 1, "messages": 1}, overrides=PATIENT,
        or_told=("scheduled", "delivered"),
    ),
    Kill("after_record", {"awaiting": 1, "attempt accepted": 1, "messages": 1}, overrides=PATIENT),
    # Stored and applied in one commit; the repeat that follows the missing answer is a copy.
    Kill("after_store", {"awaiting": 1, "attempt sent": 1, "messages": 1, "parked": 0}, overrides=PATIENT),
    # K5 with a push under `wait`: every push carries a collapse key, and still none is sent again.
    Kill(
        "after_answer", {"sending": 1, "attempt intended": 1, "messages": 1}, LOST, ("unconfirmed",),
        channel="push", rules=(SILENT_PHONE,), name="push_after_answer",
    ),
    # K4 and K5 where the configuration says `resend`: sent again, in the first one's place.
    Kill(
        "after_intend", {"sending": 1, "attempt intended": 1}, DELIVERED, ("unknown", "delivered"), 1, RESEND,
        channel="push", name="resend_after_intend",
    ),
    Kill(
        "after_answer", {"sending": 1, "attempt intended": 1, "messages": 1}, LOST, ("unconfirmed", "unconfirmed"), 2,
        RESEND, channel="push", rules=(SILENT_PHONE,), name="resend_after_answer",
    ),
)  # fmt: skip


async def seen(here: Stand) -> Counter[str]:
    """What stands there while nobody is at work."""
    found = await here.states()
    found["reminders"] = await here.value("select count(*) from reminder")
    found["parked"] = await here.value("select count(*) from parked")
    found["messages"] = len(here.accepted())
    return found


# Three at a time: most of a kill's life is waiting for leases and windows.
TRIPLES = [KILLS[n : n + 3] for n in range(0, len(KILLS), 3)]


@pytest.mark.parametrize("kills", TRIPLES, ids=["-".join(each.id for each in triple) for triple in TRIPLES])
async def test_kills(kills: tuple[Kill, ...], postgres: PostgresServer, kafka: Any, tmp_path: Path) -> None:
    await postgres.heal()
    await kafka.heal()
    names = [await postgres.fresh_database() for _ in kills]
    async with asyncio.TaskGroup() as group:
        for kill, name in zip(kills, names, strict=True):
            home = tmp_path / kill.id
            home.mkdir()
            group.create_task(killed_and_healed(kill, postgres.dsn(name), kafka, home), name=kill.id)
    for name in names:
        await postgres.drop_database(name)


async def killed_and_healed(kill: Kill, dsn: str, kafka: Any, home: Path) -> None:
    """One kill in a world of its own, from the request to the verdict."""
    topics = await fresh_topics(kafka)
    script = {"rules": list(kill.rules)}
    async with stand(dsn, kafka.bootstrap, topics, home, kill.overrides, script=script) as here:
        await here.world.publish([requested(1, [kill.channel])])
        here.gateway.spawn(REMINDER_GATEWAY_CRASH_AT=kill.point)
        await here.killed()
        assert {"reminders": 1, **kill.at_kill}.items() <= (found := await seen(here)).items(), (kill.id, found)
        assert found["messages"] == kill.at_kill.get("messages", 0), kill.id
        assert found["awaiting"] == kill.at_kill.get("awaiting", 0), kill.id

        await here.up()
        await here.quiet()
        attempts = await here.fetch("select state::text, code from attempt order by id")
        assert tuple(row[0] for row in attempts) == kill.attempts, (kill.id, attempts)
        messages = here.accepted()
        assert len(messages) == kill.messages, kill.id
        # Each repeat is a message of its own, and the screen shows one.
        assert len({each["reference"] for each in messages}) == kill.messages, kill.id
        assert len({each["replaces"] for each in messages}) == min(kill.messages, 1), kill.id
        assert all((each["replaces"] is not None) == (kill.channel == "push") for each in messages), kill.id
        # A kill may repeat an event, and what was unknown is told again once it is known to be out.
        told = tuple(dict.fromkeys(state for _, _, state in await here.told()))
        assert told in (kill.told, kill.or_told or kill.told), kill.id
        reason = "outcome_unknown" if kill.told is LOST else None
        assert await here.value("select reason from ending") == reason, kill.id
        report = await here.check()
        assert not report.violations, (kill.id, report)
        assert report.counts["replaced on the screen"] == max(kill.messages - 1, 0), kill.id


async def test_kill_after_publish(database: str, kafka: Any, topics: Any, tmp_path: Path) -> None:
    """Kafka has the event and the outbox too: it is told again under the same id, and the story goes on."""
    async with stand(database, kafka.bootstrap, topics, tmp_path) as here:
        later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=8)
        await here.world.publish([requested(1, send_at=later.isoformat())])
        here.gateway.spawn(REMINDER_GATEWAY_CRASH_AT="after_publish")
        await here.killed()
        assert await here.told() == [("request-1", 1, "scheduled")]
        assert await here.value("select count(*) from outbox") == 1
        assert here.accepted() == []

        await here.up()
        await here.quiet()
        assert [seq for _, seq, _ in await here.told()] == [1, 1, 2, 3]
        assert len(here.accepted()) == 1
        report = await here.check()
        assert not report.violations, report
        assert report.counts["events repeated"] == 1


async def test_an_answer_that_never_comes(database: str, kafka: Any, topics: Any, tmp_path: Path) -> None:
    """K6: it accepts, then hangs, resets or truncates.  The receipt settles it; without one it ends unconfirmed."""
    actions = ("hang", "reset", "truncate")
    to = {action: [address("sms", 10 * n + lost) for lost in (0, 1)] for n, action in enumerate(actions, start=1)}
    rules: list[dict[str, Any]] = [{"recipient": "*1", "receipts": {"lost": True}}]
    rules += [{"recipient": each, "action": action} for action, both in to.items() for each in both]
    async with stand(database, kafka.bootstrap, topics, tmp_path, script={"rules": rules}) as here:
        await here.up()
        numbers = [10 * n + lost for n in (1, 2, 3) for lost in (0, 1)]
        await here.world.publish([requested(number) for number in numbers])
        await eventually(lambda: _settled(here, 6))
        await here.quiet()
        ends = await here.fetch(
            "select r.request_id, e.state, e.reason from ending e join reminder r on r.id = e.reminder"
        )
        assert {tuple(row) for row in ends} == {
            (f"request-{n}", *(("unconfirmed", "outcome_unknown") if n % 2 else ("delivered", None))) for n in numbers
        }
        assert len(here.accepted()) == 6
        report = await here.check()
        assert not report.violations, report
        assert report.attempt_moves["unknown", "unconfirmed"] == 3


async def _settled(here: Stand, n: int) -> bool:
    return len(here.accepted()) == n


async def test_kill_while_the_provider_is_silent(database: str, kafka: Any, topics: Any, tmp_path: Path) -> None:
    """K5 and K6 at once: it has accepted and never answers, and the gateway dies waiting."""
    async with stand(database, kafka.bootstrap, topics, tmp_path, script={"rules": [{"action": "hang"}]}) as here:
        await here.up()
        await here.world.publish([requested(1)])
        await eventually(lambda: _settled(here, 1))
        await here.gateway.child.kill()
        assert (await here.states())["attempt intended"] == 1
        await here.up()
        await here.quiet()
        assert await here.value("select state::text from ending") == "delivered"
        assert len(here.accepted()) == 1
        assert not (report := await here.check()).violations, report


@dataclass(frozen=True)
class Pause:
    """Where a worker sleeps past its lease, and the moves its attempts have made when all is over."""

    point: str
    unknown: bool
    first: str


PAUSES = (
    Pause("after_reserve", False, ""),  # its claim is gone: it drops what it had
    Pause("after_intend", True, "not_sent"),  # its lease is over: no byte leaves, and it can prove it
    Pause("before_first_byte", True, "not_sent"),  # the same, with the next step that of writing
)


@pytest.mark.parametrize("pause", PAUSES, ids=[pause.point for pause in PAUSES])
async def test_worker_wakes_after_its_lease(
    pause: Pause, database: str, kafka: Any, topics: Any, tmp_path: Path
) -> None:
    """Meanwhile a second process has rescued what it held: the reminder reaches its provider once."""
    windows = {name: {"receipt_window_hours": 30 / 3600} for name in ("twilio", "fcm", "aliyun")}
    async with stand(database, kafka.bootstrap, topics, tmp_path, {"providers": windows}) as here:
        sleeper, other = here.gateway, here.twin("other")
        await here.world.publish([requested(1)])
        sleeper.spawn(REMINDER_GATEWAY_PAUSE_AT=pause.point)
        await until_paused(sleeper)
        other.spawn()
        await other.ready()
        rescued = "select count(*) from attempt where state in ('unknown', 'accepted', 'sent', 'delivered')"
        await eventually(lambda: _is(here, rescued, 1))
        assert len(here.accepted()) == (0 if pause.unknown else 1)
        sleeper.child.resume()
        await here.quiet()
        assert len(here.accepted()) == 1
        attempts = await here.fetch("select state::text from attempt order by id")
        assert [row[0] for row in attempts] == [*([pause.first] if pause.first == "not_sent" else []), "delivered"]
        report = await here.check()
        assert not report.violations, report
        assert report.attempt_moves["intended", "unknown"] == int(pause.unknown)


async def test_a_worker_sleeps_past_its_lease_while_a_send_is_on_its_way(
    database: str, kafka: Any, topics: Any, tmp_path: Path
) -> None:
    """Another rescues what it held.  Awake, it hears the answer, and moves its own attempt and nothing else."""
    times = {"connect_timeout_seconds": 0.8, "read_timeout_seconds": 2.9, "total_timeout_seconds": 3.8}
    windows = {"twilio": {"receipt_window_hours": 30 / 3600, **times}}
    slow = {"rules": [{"latency": [2.0, 2.0], "receipts": {"outcome": "none"}}]}
    overrides = {"providers": windows, "dispatch": {"lease_seconds": 7}}
    async with stand(database, kafka.bootstrap, topics, tmp_path, overrides, script=slow) as here:
        sleeper, other = here.gateway, here.twin("other")
        await here.up()
        await here.world.publish([requested(1)])
        await taken(here)  # the provider has it; its answer is seconds away
        sleeper.child.pause()
        token = await here.value("select token from live")
        other.spawn()
        await other.ready()
        await eventually(lambda: _is(here, "select count(*) from attempt where state = 'unknown'", 1))
        assert await here.value("select state::text from live") == "awaiting"
        sleeper.child.resume()
        await eventually(lambda: _is(here, "select count(*) from attempt where state = 'accepted'", 1))
        assert (await here.value("select state::text from live"), len(here.accepted())) == ("awaiting", 1)
        assert token is not None
        await here.quiet()
        report = await here.check()
        assert not report.violations, report
        assert report.attempt_moves["unknown", "accepted"] == 1
        assert report.endings == {"unconfirmed": 1}


async def taken(here: Stand) -> None:
    async def one() -> bool:
        return len(here.accepted()) == 1

    await eventually(one)


async def _is(here: Stand, sql: str, n: int) -> bool:
    return bool(await here.value(sql) == n)
