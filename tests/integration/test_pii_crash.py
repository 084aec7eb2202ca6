"""A thousand names, numbers and tokens, faults, and a process that is aborted: nothing of it in what is left behind."""

import os
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.ids import to_reference
from tests.stack.canaries import every_cell, found, secret
from tests.stack.gateway import address, requested
from tests.stack.scene import Scene, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIRST, N = 7_654_000, 1000
NAME: Final = "Vogelsang Canaria"
CHANNELS: Final = ("sms", "voice", "push")
OVERRIDES = {
    "log_level": "debug",
    "dispatch": {"lease_seconds": 8, "heartbeat_seconds": 1},
    "providers": {
        name: {"receipt_window_hours": 3 / 3600, "read_timeout_seconds": 1}
        for name in ("twilio", "aliyun", "fcm", "aliyun_sms", "twilio_voice")
    },
}
# Every planted number and token by what is the same in all of them: one look finds any of a thousand.
_NUMBERS: Final = re.compile(rb"(?<![0-9])(?:\+?86|%2B86|0086)?13[89]07654[0-9]{3}(?![0-9])|token-07654[0-9]{3}-")


def planted(text: bytes) -> list[bytes]:
    """What of the planted stands here: as it is, packed for JSON or a URL, in base64 or in hex."""
    hits = [each.group() for each in _NUMBERS.finditer(text)][:3]
    words = [NAME, "+86139076540", "+86138076540", "token-076540", "pay.example.com/vogelsang"]
    return hits + [each.encode() for each in found(words, text)]


def requests() -> Iterable[dict[str, Any]]:
    for n in range(N):
        event = requested(FIRST + n, [CHANNELS[n % 3], CHANNELS[(n + 1) % 3]])
        event["data"]["borrower"]["name"] = f"{NAME} {n}"
        event["data"]["params"]["pay_url"] = f"https://pay.example.com/vogelsang/{n}"
        yield event


@pytest.mark.timeout(600)
async def test_a_thousand_people_faults_and_an_abort_leave_nothing_of_them_behind(scene: Scene) -> None:
    await scene.gateway.child.kill()
    scene.gateway.spawn(PYTHONFAULTHANDLER="1")
    await scene.gateway.ready(60)
    scene.perform(
        *({"vendor": vendor, "chance": 0.03, "action": action, "receipts": {"lost": True}}
          for vendor in ("twilio", "aliyun", "fcm") for action in ("reset", "truncate", "drop")),
        {"vendor": "twilio", "chance": 0.1, "action": "error", "code": "21211"},
        {"vendor": "fcm", "chance": 0.1, "action": "error", "status": 502},
        {"chance": 0.3, "receipts": {"copies": 2, "reorder": True}},
    )  # fmt: skip
    await scene.world.publish(list(requests()))
    await scene.world.publish([b'{"name": "' + NAME.encode() + b'", "to": "' + address("sms", FIRST).encode() + b'"']
                              * 5)  # fmt: skip

    async def busy() -> bool:
        return bool(await scene.value("select count(*) > 20 from ending"))

    await until(busy, "work under way", 180)
    metrics = (await scene.gateway.metrics()).encode()
    os.kill(scene.gateway.child.pid, signal.SIGABRT)
    assert await scene.gateway.child.wait(within=30) == -signal.SIGABRT
    left = await scene.value("select count(*) from live")
    assert left > 0, "nothing was in hand"
    dump = scene.gateway.log.read_bytes()
    assert b"Fatal Python error: Aborted" in dump
    assert not [each for each in scene.world.home.iterdir() if each.name.startswith("core")]

    scene.gateway.spawn()
    await scene.gateway.ready(60)

    async def all_ended() -> bool:
        rows = await scene.sql(
            "select (select count(*) from ending) as ended, (select count(*) from live where state <> 'held') as live"
        )
        return bool(rows[0]["ended"] >= N - 50 and rows[0]["live"] == 0)

    await until(all_ended, "end of all", 300, every=0.5)
    await scene.relayed(30)
    metrics += (await scene.gateway.metrics()).encode()

    secrets = secret(scene)
    # It was there to be leaked: the vendors have it.
    assert len(_NUMBERS.findall((scene.world.home / "simulator.jsonl").read_bytes())) > N / 2
    for what, text in {"log": scene.gateway.log.read_bytes(), "metrics": metrics}.items():
        assert (what, planted(text), found(secrets, text)) == (what, [], [])
    for topic in (scene.world.topics.events, scene.world.topics.deadletters):
        whole = b"\n".join(
            b" ".join([record.key or b"", record.value, *(value for _, value in record.headers)])
            for record in await scene.world.records(topic)
        )
        assert len(whole) > 100
        assert (planted(whole), found(secrets, whole)) == ([], [])
    columns: dict[str, bytearray] = {}
    for place, cell in await every_cell(scene):
        columns.setdefault(place, bytearray()).extend(cell + b"\n")
    assert [place for place, cells in columns.items() if planted(bytes(cells))] == []


async def test_a_command_that_fails_quotes_nothing(scene: Scene) -> None:
    """The database refuses a row and quotes it, with what somebody has typed as his reason."""
    attempt = await scene.value("select id from attempt limit 1")
    await scene.sql("update attempt set state = 'unknown' where id = $1", attempt)
    await scene.sql("alter table settlement add constraint t check (author <> 'ops') not valid")
    reason = f"{NAME} has called"
    command = ["unknowns", "settle", to_reference(attempt), "--as", "delivered", "--author", "ops", "--reason", reason]
    code, said = await scene.gateway.command(*command, "--yes")
    assert (code, "CheckViolationError" in said) == (1, True), said
    assert "Traceback" not in said
    assert planted(said.encode()) == []


async def test_the_look_would_find_them(tmp_path: Path) -> None:
    number, token = address("sms", FIRST + 123), address("push", FIRST + 999)
    for text in (number, number[1:], number[3:], f"a{token}b", f"%2B86{number[3:]}", f"x {NAME} 7"):
        assert planted(text.encode()) != [], text
    assert planted(b"251744139076541239785 2026-11-26T13:90:76.541239") == []
