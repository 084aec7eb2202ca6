"""The durable log: before the answer, across restarts and kills, and what can be counted from it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from simulator_bench import Bench, Start
from simulator_clients import aliyun_call, fcm_send, google_token

from gateway.dev.simulator import Action, Credentials, Kind, Rule, Simulator, SimulatorConfig, Vendor, count
from gateway.dev.simulator.count import count as count_log
from gateway.dev.simulator.journal import Journal, read


async def test_no_line_no_answer(start: Start) -> None:
    bench = await start()
    assert (await bench.sms())[0] == 201
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, bench.simulator.journal._fd)  # the disk is full from here on
    os.close(full)
    assert (await bench.sms())[0] == 500
    assert len(bench.lines("accepted")) == 1


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    assert list(journal.open()) == []
    size = journal.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))  # room for half a line
    try:
        with pytest.raises(OSError):
            journal.write(Kind.ACCEPTED, id="half")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.path.stat().st_size == size + 20
    journal.write(Kind.ACCEPTED, id="whole")
    journal.close()
    assert [line.get("id") for line in read(journal.path)] == [None, "whole"]
    assert journal.accepted == 1


async def test_a_client_that_has_an_answer_finds_it_in_the_log(start: Start) -> None:
    bench = await start()

    async def one(n: int) -> None:
        _, answer = await bench.sms(body=f"M-{n}")
        assert answer["sid"].encode() in bench.log.read_bytes()

    await asyncio.gather(*(one(n) for n in range(50)))


async def test_a_restart_goes_on(start: Start) -> None:
    rule = Rule(vendor=Vendor.TWILIO, action=Action.ERROR, code="20429", times=2)
    first = await start(rule)
    assert (await first.sms())[0] == 429
    assert (await first.sms("+14155550199"))[0] == 429
    await aliyun_call(first, nonce="n1")
    token = await google_token(first)
    await fcm_send(first, "device-1", token=token)
    await first.simulator.stop()
    with first.log.open("ab") as log:
        log.write('{"kind":"accepted","recipient":"torn 中'.encode()[:-1])

    second = await start(rule)
    assert (await second.sms())[0] == 429, "the rule was met once before the restart"
    assert (await second.sms())[0] == 201
    assert (await aliyun_call(second, nonce="n1"))[1]["Code"] == "SignatureNonceUsed"
    assert (await fcm_send(second, "device-1", token=token))[0] == 200, "the access token is still good"
    accepted = second.lines("accepted")
    assert len({line["id"] for line in accepted}) == len(accepted) == 4
    assert [line["turn"] for line in accepted if line["vendor"] == "twilio"] == [3]
    assert second.simulator.journal.accepted == 4


async def test_one_log_has_one_simulator(start: Start, credentials: Credentials) -> None:
    bench = await start()
    other = Simulator(SimulatorConfig(log=bench.log), credentials)
    with pytest.raises(BlockingIOError):
        await other.start()
    await other.stop()
    assert (await bench.sms())[0] == 201


async def test_the_log_is_its_owners_and_holds_no_secret(start: Start) -> None:
    bench = await start()
    await bench.sms(callback="http://127.0.0.1:1/callbacks/twilio/PATHTOKEN/REF")
    await aliyun_call(bench)
    token = await google_token(bench)
    await fcm_send(bench, "device-1", token=token)
    await bench.simulator.settled()
    assert stat.S_IMODE(bench.log.stat().st_mode) == 0o600
    text = bench.log.read_text()
    secrets = bench.simulator.credentials
    for secret in (
        secrets.twilio_auth_token, secrets.aliyun_access_key_secret, secrets.google_token_key,
        secrets.app_events_token, token, "PATHTOKEN", "Authorization",
    ):  # fmt: skip
        assert secret not in text


async def test_the_log_and_the_totals_can_be_read_over_http(start: Start) -> None:
    bench = await start(Rule(vendor=Vendor.TWILIO, recipient="+1999*", action=Action.ERROR, code="21610"))
    await bench.sms()
    await bench.sms("+19995550100")

    async def get(path: str) -> Any:
        async with bench.session.get(f"{bench.simulator.urls.control}/{path}") as response:
            return await response.json()

    page = await get("log")
    assert page["lines"] == bench.lines()
    await bench.sms(body="M-2")
    rest = await get(f"log?since={page['next']}")
    assert rest["lines"] == bench.lines()[len(bench.lines()) - 1 :]
    assert (await get(f"log?since={rest['next']}"))["lines"] == []
    totals = (await get("stats"))["totals"]
    assert {"kind": "refused", "vendor": "twilio", "detail": "21610", "lines": 1} in totals
    assert {"kind": "accepted", "vendor": "twilio", "detail": "answer", "lines": 2} in totals


async def test_duplicates_are_counted_by_recipient_and_marker(start: Start) -> None:
    bench = await start()
    for to, body in [("+14155550100", "M-1"), ("+14155550100", "M-2"), ("+14155550101", "M-1"), ("+14155550101", "-")]:
        await bench.sms(to, body)
    assert count_log(bench.log).duplicates == {}
    await bench.sms("+14155550100", "once more M-1.")
    token = await google_token(bench)
    for tag in ("a", "a", "b", None, None):
        await fcm_send(bench, "device-1", body="M-3", tag=tag, token=token)
    # Five pushes.  Where nothing may be sent again, four are too many.
    result = count_log(bench.log)
    assert result.duplicates == {("+14155550100", "M-1"): 1, ("device-1", "M-3"): 4}
    assert result.replaced.total() == 0
    assert result.unmarked == 1
    # Where a push may, the second replaces the first on the screen, and three others are seen beside it.
    result = count_log(bench.log, ["fcm"])
    assert result.duplicates == {("+14155550100", "M-1"): 1, ("device-1", "M-3"): 3}
    assert result.replaced["device-1", "M-3"] == 1
    assert count_log(bench.log, ["twilio"]).duplicates == count_log(bench.log).duplicates


def test_counting_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    line = {"kind": "accepted", "recipient": "+1", "marker": "M-1", "replaces": None}
    log.write_text(json.dumps(line) + "\n" + json.dumps(line) + '\n{"kind":"acc')
    ran = subprocess.run([sys.executable, "-I", "-S", count.__file__, log], capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stderr
    assert json.loads(ran.stdout) == {"messages": 2, "duplicates_sent": 1, "replaced": 0, "unmarked": 0}


@pytest.mark.parametrize(("resends", "replaced"), [([], 0), (["fcm"], 1), (["twilio"], 0)])
def test_a_second_push_is_a_duplicate_unless_its_vendor_is_sent_to_again(
    resends: list[str], replaced: int, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    line = {"kind": "accepted", "vendor": "fcm", "recipient": "device-1", "marker": "M-1", "replaces": "key"}
    log.write_text(2 * (json.dumps(line) + "\n"))
    command = [sys.executable, "-I", "-S", count.__file__, str(log), *resends]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1 - replaced, ran.stderr
    found = {"messages": 2, "duplicates_sent": 1 - replaced, "replaced": replaced, "unmarked": 0}
    assert json.loads(ran.stdout) == found


async def test_refusals_count_as_nothing(start: Start) -> None:
    bench: Bench = await start(Rule(action=Action.DROP, times=1), Rule(action=Action.ERROR, status=500, times=1))
    with pytest.raises(aiohttp.ClientError):
        await bench.sms()
    assert (await bench.sms())[0] == 500
    assert (await bench.sms())[0] == 201
    assert sum(count_log(bench.log).sent.values()) == 1
