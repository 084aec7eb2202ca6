"""`reminder-gateway demo --once` as a user runs it: every record ends as the cast says, and the sums add up."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import observed
from tests.stack.certificates import Authority
from tests.stack.prometheus import MISSING, there_is_none

COMMAND = (sys.executable, "-m", "gateway", "demo")
ENDS = (
    "undelivered", "unconfirmed", "suppressed", "cancelled", "expired", "dead_letters", "duplicates", "validated"
)  # fmt: skip
STARTED: list[asyncio.subprocess.Process] = []


def cast() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(Path("gateway/dev/demo/cast.yaml").read_text(encoding="utf-8"))
    return found


async def start(*arguments: str | Path, command: Sequence[str] = COMMAND, **environ: str) -> asyncio.subprocess.Process:
    pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=pipe, stderr=both, env={**os.environ, **environ}, process_group=0
    )
    STARTED.append(process)
    return process


@pytest.fixture(autouse=True)
async def none_is_left() -> AsyncIterator[None]:
    """A demo whose test has failed stays up for ever otherwise, with servers and all."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.communicate()


async def test_once_ends_by_itself_and_every_sum_is_right() -> None:
    process = await start("--once")
    output, _ = await process.communicate()
    lines = output.decode().strip().splitlines()
    assert process.returncode == 0, "\n".join(lines[-40:])
    sums = json.loads(lines[-1])

    wanted = [each["expect"] for each in cast() if "stop" not in each]
    delivered = Counter(each["channel"] for each in wanted if each.get("state") == "delivered")
    assert sums["requests"] == len(wanted)
    assert sums["delivered"] == {channel: delivered[channel] for channel in ("sms", "push", "voice")}
    assert sums["dead_letters"] == sum("dead_letter" in each for each in wanted)
    assert sums["suppressed"] == sum(each.get("state") == "suppressed" for each in wanted)
    assert sums["attempts"] == sum(each.get("attempts", 0) for each in wanted)
    assert sum(sums["delivered"].values()) + sum(sums[name] for name in ENDS) == sums["requests"]
    assert sums["messages"] == sums["messages_in_provider_log"] > 0
    assert sums["duplicates_sent"] == 0
    assert sums["unexpected"] == sums["unexpected_events"] == 0
    assert sums["records_published"] == sums["records_read"] == sums["records_counted"] == len(cast())
    assert sum(sums["read_as"].values()) == len(cast())

    table = [" ".join(line.split()) for line in lines[:-1]]
    assert f"= {sums['requests']} requests {sums['attempts']} sum of the above" in table
    assert f"= {len(cast())} records read by the stored offsets" in table
    assert all(any(line.startswith(each["id"]) for line in table) for each in cast() if "id" in each)


# When everything has ended, somebody else's record comes, and a provider takes a message once more.
LATE = """
import asyncio, json, sys
from gateway.cli.kafka import producing
from gateway.dev.demo import run, show

settle = show._settle

async def late(ready, *others):
    async def strike():
        await asyncio.sleep(0.5)
        kafka, log = ready.config.kafka, ready.simulator.journal.path
        async with producing(kafka, kafka.requests_topic) as producer:
            await producer.send_and_wait(kafka.requests_topic, b"{")
        taken = next(line for line in log.read_bytes().splitlines() if json.loads(line)["kind"] == "accepted")
        with log.open("ab") as lines:
            lines.write(taken + b"\\n")
    striking = asyncio.create_task(strike())
    restless = await settle(ready, *others)
    await striking
    return restless

show._settle = late
sys.exit(run(once=True))
"""


async def test_what_comes_after_the_last_end_is_counted_too() -> None:
    pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", LATE, stdout=pipe, stderr=both)
    output, _ = await process.communicate()
    lines = output.decode().strip().splitlines()
    assert process.returncode == 1, "\n".join(lines[-40:])
    sums = json.loads(lines[-1])
    assert sums["unexpected"] == 0
    assert (sums["unexpected_events"], sums["duplicates_sent"]) == (1, 1)
    assert sums["records_read"] == sums["records_counted"] == sums["records_published"] + 1
    table = "\n".join(lines)
    for problem in (
        "nobody expected to be told of a dead letter at ",
        f"{sums['records_published']} records published, but {sums['records_read']} read by the stored offsets",
        f"{sums['records_read']} records read, but {sums['requests']} requests + {sums['stops']} stops",
        f"the gateway tells of {sums['messages']} messages, the providers of {sums['messages'] + 1}",
        "sent twice: 1",
    ):
        assert problem in table


async def printed(process: asyncio.subprocess.Process) -> dict[str, str]:
    """What differs in every run: the configuration's path and the address of the metrics."""
    assert process.stdout is not None
    text = ""
    while "/metrics" not in text:
        line = (await process.stdout.readline()).decode()
        assert line, text[-3000:]
        text += line
    (config,) = re.findall(r"export REMINDER_GATEWAY_CONFIG=(\S+)", text)
    (url,) = re.findall(r"http://\S+/metrics", text)
    return {"/tmp/reminder-gateway-demo-.../gateway.yaml": config, "http://127.0.0.1:.../metrics": url}


async def the_commands_of_the_readme_work(differs: dict[str, str]) -> None:
    """As they are printed, but for the two places that the README leaves open."""
    (block,) = re.findall(r"```sh\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL)
    for placeholder, real in differs.items():
        assert placeholder in block
        block = block.replace(placeholder, real)
    block = block.replace(".venv/bin/reminder-gateway", f"{sys.executable} -m gateway")
    # Reading Kafka takes the gateway a moment; a person is not so fast either.
    block = "set -eu\n" + re.sub(r"^(.* (?:show|list) .*)$", r"sleep 2; \1", block, flags=re.MULTILINE)
    pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    shell = await asyncio.create_subprocess_exec("sh", "-c", block, stdout=pipe, stderr=both)
    output, _ = await shell.communicate()
    text = output.decode()
    assert shell.returncode == 0, text[-3000:]
    for said in (
        "1 requests sent", "2 requests sent", "docs/examples/request.json:1: validated", "csv-1",
        "2 facts told", "1 fact told", "cancelled",
        "# TYPE reminder_gateway_records_read_total counter",
    ):  # fmt: skip
        assert said in text, text[-3000:]


@pytest.fixture
def public() -> Iterator[Path]:
    """The demo's own directory for what is temporary; nothing may be left in it."""
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)  # Postgres may run as another account
    yield home
    shutil.rmtree(home)


async def interrupted(process: asyncio.subprocess.Process, public: Path) -> None:
    """Ctrl-C: it ends in order and leaves nothing."""
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    output = await process.stdout.read()
    assert await process.wait() == 0, output.decode()[-3000:]
    assert b"Traceback" not in output
    assert list(public.iterdir()) == []


async def test_an_interrupt_while_it_starts_leaves_nothing(public: Path) -> None:
    process = await start(TMPDIR=str(public))
    assert process.stdout is not None
    while not list(public.glob("reminder-gateway-postgres-*")):
        assert process.returncode is None, (await process.stdout.read()).decode()[-3000:]
        await asyncio.sleep(0.02)
    await interrupted(process, public)


# The demo as it is, and its gateway has a certificate to tell of: nobody's own overrides reach it from outside.
WITH_AN_AUTHORITY = """
import sys
from gateway.dev.demo import run, stage

stage._IMPATIENT["outbound"] = {"ca_file": sys.argv[1]}
sys.exit(run(once=False))
"""


async def test_while_it_stays_up_the_readme_is_right_and_prometheus_sees_it(public: Path, tmp_path: Path) -> None:
    """One run for both.  Without a Prometheus the README is tried all the same, before that is told."""
    authority = Authority(tmp_path).file
    process = await start(authority, command=(sys.executable, "-c", WITH_AN_AUTHORITY), TMPDIR=str(public))
    if there_is_none():
        await the_commands_of_the_readme_work(await printed(process))
        await interrupted(process, public)
        pytest.skip(MISSING)
    async with observed.prometheus_of_the_demo(public) as prometheus:
        differs = await printed(process)
        await the_commands_of_the_readme_work(differs)
        config = next(iter(differs.values()))
        await observed.some_records_are_refused(prometheus, config)
        await observed.what_must_fire_fires_and_nothing_else(prometheus)
        await observed.everything_selected_is_there(prometheus)
        await observed.the_metrics_are_named_as_they_should_be(prometheus)
        await observed.every_rule_is_evaluated_and_every_panel_answered(prometheus)
        await observed.a_freeze_is_seen(prometheus, partial(on_the_demo, config))
        await interrupted(process, public)


async def on_the_demo(config: str, *arguments: str) -> None:
    """The command line, by the demo's configuration."""
    pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, "--config", config, stdout=pipe, stderr=both
    )
    output, _ = await command.communicate()
    assert command.returncode == 0, output.decode()


def test_every_record_of_the_cast_says_how_it_must_end() -> None:
    for each in cast():
        expect = each.get("expect", {})
        assert "stop" in each or len({"state", "answer", "dead_letter"} & set(expect)) == 1
        assert ("channel" in expect) == (expect.get("state") == "delivered")
