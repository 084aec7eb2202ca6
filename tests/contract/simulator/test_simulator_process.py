"""The simulator as a process of its own: killed without warning, nothing it answered is missing from its log."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from gateway.dev.simulator import Credentials
from gateway.dev.simulator.__main__ import main
from gateway.dev.simulator.count import accepted, count


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    command = [sys.executable, "-m", "gateway.dev.simulator", *arguments]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        ready = json.loads(await asyncio.wait_for(child.stdout.readline(), 30))
        yield child, ready
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def send(session: aiohttp.ClientSession, base: str, secrets: Credentials, marker: str) -> str:
    url = f"{base}/2010-04-01/Accounts/{secrets.twilio_account_sid}/Messages.json"
    basic = aiohttp.encode_basic_auth(secrets.twilio_account_sid, secrets.twilio_auth_token)
    headers = {"Authorization": basic, "Content-Type": "application/x-www-form-urlencoded"}
    form = {"To": "+14155550100", "From": "+14155550000", "Body": marker}
    async with session.post(url, data=urlencode(form), headers=headers) as response:
        return str((await response.json())["sid"])


async def test_killed_and_started_again(tmp_path: Path) -> None:
    log, keys = tmp_path / "log.jsonl", tmp_path / "keys.json"
    arguments = ["--log", str(log), "--credentials", str(keys), "--port", "0"]
    told: list[str] = []
    enough = asyncio.Event()

    async def keep_sending(base: str, name: str) -> None:
        async with aiohttp.ClientSession() as session:
            for n in range(10_000):
                told.append(await send(session, base, secrets, f"M-{name}x{n}"))
                if len(told) == 100:
                    enough.set()

    async with process(*arguments) as (child, ready):
        secrets = Credentials.load(keys)
        sending = [asyncio.create_task(keep_sending(ready["urls"]["base"], str(n))) for n in range(8)]
        await asyncio.wait_for(enough.wait(), 30)
        child.send_signal(signal.SIGKILL)
        ended = await asyncio.gather(*sending, return_exceptions=True)
    assert all(isinstance(error, aiohttp.ClientError) for error in ended)
    before = [line["id"] for line in accepted(log)]
    assert set(told) <= set(before)
    assert len(before) <= len(told) + 8, "at most one unanswered message for each connection"

    async with process(*arguments) as (child, ready), aiohttp.ClientSession() as session:
        assert await send(session, ready["urls"]["base"], secrets, "M-again") not in before
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 10) == 0
    assert len({line["id"] for line in accepted(log)}) == len(before) + 1
    assert count(log).duplicates == {}


async def test_a_config_file_and_its_script(tmp_path: Path) -> None:
    config = tmp_path / "simulator.yaml"
    log = tmp_path / "log.jsonl"
    config.write_text(f"log: {log}\nscript: {{rules: [{{action: reset, times: 1}}]}}\n")
    async with process("--config", str(config)) as (_, ready), aiohttp.ClientSession() as session:
        secrets = Credentials.load(Path(ready["credentials"]))
        with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
            await send(session, ready["urls"]["base"], secrets, "M-1")
        assert await send(session, ready["urls"]["base"], secrets, "M-2")
    assert len(list(accepted(log))) == 2


def test_wrong_settings_end_with_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "simulator.yaml"
    config.write_text("host: 192.0.2.1\nmarker: '('\nunknown: 1\nscript: {rules: [{action: error}]}\n")
    assert main(["--config", str(config)]) == 2
    errors = capsys.readouterr().err
    for path in ("host: ", "marker: ", "unknown: ", "script.rules.0: "):
        assert path in errors
    assert main(["--config", str(tmp_path / "absent.yaml")]) == 2
    assert "FileNotFoundError" in capsys.readouterr().err
