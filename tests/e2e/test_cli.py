"""The command line against a live stack: files in, answers and timelines out, and refusals that say where."""

import asyncio
import base64
import csv
import datetime as dt
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from gateway.dev.simulator.script import Script
from schemas.messages import REPLIED
from tests.conftest import Topics
from tests.stack.certificates import Authority
from tests.stack.gateway import GatewayProcess, World, requested, world
from tests.stack.postgres import PostgresServer
from tests.stack.scene import rule, until

EXAMPLES = Path("docs/examples")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


async def run(*arguments: str | Path, environ: Mapping[str, str] | None = None) -> Ran:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *map(str, arguments), stdout=pipe, stderr=pipe,
        env={**os.environ, **(environ or {})},
    )  # fmt: skip
    out, err = await process.communicate()
    assert b"Traceback" not in err, err.decode()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@dataclass
class Live:
    """One gateway that is ready, and the command line with its configuration."""

    world: World
    gateway: GatewayProcess
    home: Path

    async def run(self, command: str, *arguments: str | Path) -> Ran:
        config = self.home / "gateway.yaml"
        return await run(*command.split(), "--config", config, *arguments, environ=self.gateway.settings.environ)

    def write(self, name: str, text: str) -> Path:
        path = self.home / name
        path.write_text(text, encoding="utf-8")
        return path

    def sent(self) -> int:
        """How many messages the vendors took."""
        return len([each for each in self.world.simulator.journal.since(0)[0] if each["kind"] == "accepted"])

    async def sql(self, query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.world.dsn)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def read_as(self, **wanted: int) -> None:
        """Waits until just so many records have been read, by outcome."""
        query = "select outcome, sum(n)::int from intake_count group by 1"
        found: dict[str, int] = {}
        try:
            async with asyncio.timeout(30):
                while (found := {row[0]: row[1] for row in await self.sql(query)}) != wanted:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{found}, not {wanted}") from None

    async def told(self, topic: str, least: int) -> list[dict[str, Any]]:
        """At least so many events of a topic."""
        async with asyncio.timeout(30):
            while len(found := await self.world.read(topic)) < least:
                await asyncio.sleep(0.2)
        return found

    async def ended(self, *ids: str) -> dict[str, str]:
        """The state of each request's reminder, once all have ended."""
        connection = await asyncpg.connect(self.world.dsn)
        query = """select request_id, state, source from ending join reminder on id = reminder
                   where request_id = any($1::text[])"""
        try:
            while len(rows := await connection.fetch(query, ids)) < len(ids):
                await asyncio.sleep(0.1)
        finally:
            await connection.close()
        return {row["request_id"]: row["state"] for row in rows}


@pytest.fixture
async def live(database: str, kafka: Any, topics: Topics, tmp_path: Path) -> AsyncIterator[Live]:
    async with world(database, kafka.bootstrap, topics, tmp_path) as here:
        # What is unknown stays so until a test settles it, however slow its commands are.
        gateway = here.gateway({"providers": {"twilio": {"receipt_window_hours": 1}}})
        gateway.spawn()
        try:
            await gateway.ready()
            yield Live(here, gateway, tmp_path)
        finally:
            assert await gateway.child.stop() == 0


def row(number: int, **changes: Any) -> dict[str, Any]:
    """The data of a request with its id beside it, as a line of a file holds it."""
    data: dict[str, Any] = requested(number, **changes)["data"]
    return {"id": f"row-{number}", **data}


async def test_requests_of_every_kind_of_file_arrive(live: Live) -> None:
    array = live.write("array.json", json.dumps([row(1), row(2)], indent=2))
    lines = live.write("lines.jsonl", "\n".join(json.dumps(each) for each in (row(3), requested(4))) + "\n\n")
    with (EXAMPLES / "requests.csv").open(encoding="utf-8") as file:
        ids = [each["id"] for each in csv.DictReader(file)]
    sent = await live.run("request", "--source", "cli-test", array, lines, EXAMPLES / "requests.csv")
    assert sent.code == 0, sent.err
    assert sent.out.startswith(
        f"{4 + len(ids)} requests sent to {live.world.topics.requests}\nrelative times count from"
    )
    states = await live.ended("row-1", "row-2", "row-3", "request-4", *ids)
    assert set(states.values()) == {"delivered"}

    # A file sent twice reaches nobody twice.
    before = live.sent()
    again = await live.run("request", "--source", "cli-test", array)
    assert (again.code, again.out) == (0, f"2 requests sent to {live.world.topics.requests}\n")
    await live.read_as(accepted=4 + len(ids), duplicate=2)
    assert live.sent() == before


async def test_the_examples_sent_again_reach_nobody_twice(live: Live) -> None:
    """Their times are relative: by another moment they are other requests, by the same one the same."""
    files = EXAMPLES / "request.json", EXAMPLES / "requests.csv"
    first = await live.run("request", *files)
    await live.read_as(accepted=3)
    sent = re.fullmatch(r"3 requests .*\nrelative times count from (\S+); --now \1 sends the same again\n", first.out)
    assert sent is not None, first.out
    (made,) = await live.sql("select to_char(state_as_of at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS') "
                             "from reminder where request_id like 'file-%'")  # fmt: skip
    assert f"{made[0]}+00:00" == sent[1]

    # The same moment: three duplicates, whatever their ids are made of.
    assert (await live.run("request", "--now", sent[1], *files)).out == first.out
    await live.read_as(accepted=3, duplicate=3)

    # Another moment: under its own id another request about the same stage; under a known id a changed one.
    assert (await live.run("request", *files)).code == 0
    await live.read_as(accepted=4, duplicate=3, deadletter=2)
    told = [each["data"] for each in await live.told(live.world.topics.events, 10)]
    (owner,) = {each["reminder"] for each in told if each["request_id"].startswith("file-") and "answer" in each}
    (repeat,) = (each for each in told if each.get("reason") == "duplicate_stage")
    assert (repeat["state"], repeat["duplicate_of"]) == ("suppressed", owner)
    letters = [each["data"] for each in await live.told(live.world.topics.deadletters, 2)]
    assert [each["reason"] for each in letters] == ["conflict", "conflict"]
    await live.ended("csv-1", "csv-2")
    assert live.sent() == 3


async def test_validate_only_prints_each_answer_and_sends_nothing(live: Live) -> None:
    good, bad = row(1), row(2, debt={"currency": "XXQ"})
    file = live.write("mixed.jsonl", f"{json.dumps(good)}\n{json.dumps(bad)}\n{json.dumps(requested(3))}\n")
    told = await live.run("request", "--validate-only", file)
    assert told.code == 1, told.err
    assert f"{file}:1: validated" in told.out
    assert f"{file}:2: refused: unknown_currency (data.debt.currency)" in told.out
    assert f"{file}:3: validated" in told.out
    assert told.out.endswith("2 validated, 1 refused, 0 without an answer\n")
    example = await live.run("request", "--validate-only", EXAMPLES / "request.json")
    assert (example.code, example.err.count("no answer")) == (0, 0), example.out
    assert not [each for each in live.world.simulator.journal.since(0)[0] if each["kind"] == "accepted"]
    connection = await asyncpg.connect(live.world.dsn)
    assert await connection.fetchval("select count(*) from inbox") == 0
    await connection.close()


async def test_show_tells_the_story_without_personal_data(live: Live) -> None:
    assert (await live.run("request", live.write("one.json", json.dumps(row(7))))).code == 0
    await live.ended("row-7")
    by_request = await live.run("show", "--source", "command-line", "--id", "row-7")
    assert by_request.code == 0, by_request.err
    for word in (
        "delivered", "accepted", "decided: send", "rule none", "intended", "sms by twilio", "receipt sent", ": applied",
        "held by this reminder", "all on Kafka", "state_as_of", "borrower-7",
    ):  # fmt: skip
        assert word in by_request.out
    for secret in ("Li Lei", "13900000007", "1234.50", "pay.example.com"):
        assert secret not in by_request.out
    name = re.search(r"reminder ([0-9a-z]{13})", by_request.out)
    assert name is not None
    assert (await live.run("show", name[1])).out == by_request.out
    unknown = (["0000000000000"], ["nonsense"], ["--source", "command-line", "--id", "row-8"])
    unclear: tuple[list[str], ...] = ([], [name[1], "--source", "x", "--id", "y"], ["--source", "x"])
    refused = await asyncio.gather(*(live.run("show", *each) for each in (*unknown, *unclear)))
    assert [each.code for each in refused] == [1, 1, 1, 2, 2, 2]


async def test_reply_opens_what_a_borrower_wrote_back(live: Live) -> None:
    assert (await live.run("request", live.write("one.json", json.dumps(row(8))))).code == 0
    await live.ended("row-8")
    letter = {
        "vendor": "twilio",
        "number": "+8613900000008",
        "content": "已还 [bold]谢谢[/]",
        "dest_code": "+15005550006",
    }
    async with aiohttp.ClientSession() as session:
        await session.post(f"{live.world.simulator.urls.control}/reply", json=letter)

    async def told() -> str | None:
        events = await live.world.read(live.world.topics.events)
        return next((each["data"]["reply"] for each in events if each["type"] == REPLIED), None)

    name = await until(told, "the event of the reply")
    read = await live.run("reply", name)
    assert read.code == 0, read.err
    for word in (letter["number"], letter["content"], letter["dest_code"], "twilio", "reminder "):
        assert word in read.out
    shown = await live.run("show", "--source", "command-line", "--id", "row-8")
    assert "engaged: replied" in shown.out
    assert "谢谢" not in shown.out
    refused = await asyncio.gather(*(live.run("reply", each) for each in ("0000000000000", "nonsense")))
    assert [(each.code, each.err) for each in refused] == [(1, "no such reply\n")] * 2
    # Without the key nothing is read.
    other = {"GATEWAY_SEAL_KEY_1": base64.b64encode(os.urandom(32)).decode()}
    environ = live.gateway.settings.environ | other
    closed = await run("reply", "--config", live.home / "gateway.yaml", name, environ=environ)
    assert (closed.code, closed.err) == (1, "the reply cannot be opened: does_not_open\n")


async def test_hands_on_the_brakes(live: Live) -> None:
    """Frozen, nothing leaves; lifted, it does; and who did what and why stands there for good."""
    by = ("--author", "ann", "--reason", "wrong amounts")
    frozen = await live.run("freeze", "lender", "acme", *by, "--for", "2h")
    assert (frozen.code, frozen.err) == (0, "")
    assert re.match(r"lender acme is frozen until \S+ \S+ UTC: nothing of it leaves", frozen.out)
    await live.world.publish([requested(1), requested(2)])
    await live.read_as(accepted=2)
    assert {row[0] for row in await live.sql("select state || ' ' || reason from live")} == {"held frozen"}

    again = await live.run("freeze", "lender", "acme", "--reason", "me too", "--author", "bob", "--for", "1h")
    assert again.code == 1
    assert re.match(r"lender acme is frozen already, since \S+ \S+ by ann until \S+ \S+ UTC: wrong amounts", again.err)
    forever = await live.run("freeze", "lender", "acme", "--reason", "for longer", "--author", "bob")
    assert (forever.code, forever.out) == (0, "lender acme is frozen: nothing of it leaves that is not on its way\n")
    shown = await live.run("freezes")
    assert re.search(r"lender acme +│ [-0-9]+ [:0-9]+ │ lifted +│ bob │ for longer │ 2 ", shown.out), shown.out

    lifted = await live.run("unfreeze", "lender", "acme", "--author", "cid", "--reason", "amounts are right")
    assert lifted.out == "lender acme is not frozen any more; it held 2, which leave at 50 a second\n"
    assert set((await live.ended("request-1", "request-2")).values()) == {"delivered"}
    assert live.sent() == 2
    refused, unheard, over, shown = await asyncio.gather(
        live.run("unfreeze", "lender", "acme", *by),
        live.run("freeze", "source", "//nobody", *by),
        live.run("freeze", "all", *by, "--until", "2020-11-02T10:00Z"),
        live.run("freezes"),
    )
    assert (refused.code, refused.err) == (1, "lender acme is not frozen\n")
    assert (unheard.code, "is that its name?" in unheard.err) == (0, True)
    assert (over.code, over.err) == (2, "--until: that is over\n")
    acts = re.findall(r"│ (\w+) +│ (freeze|unfreeze) lender acme[^│]*│ ([a-z ]+[a-z]) *│", shown.out)
    assert acts == [("cid", "unfreeze", "amounts are right"), ("bob", "freeze", "for longer"),
                    ("ann", "freeze", "wrong amounts")]  # fmt: skip


REFUSES = "alter table reminder add constraint refuses_for_a_test check (debt <> 'debt-2') not valid"


async def test_what_people_do_by_hand(live: Live) -> None:
    """A letter that is redriven, an unknown message that is settled; found by lists, told by `show`, in the sums."""
    rules = [rule(3, "twilio", action="reset", receipts={"lost": True})]
    live.world.simulator.perform(Script.model_validate({"rules": rules}))
    await live.sql(REFUSES)
    rows = [row(number) for number in (1, 2, 3)] + [{**row(1), "debt": row(9)["debt"]}]
    file = live.write("rows.jsonl", "\n".join(map(json.dumps, rows)))
    assert (await live.run("request", file)).code == 0
    await live.read_as(accepted=2, deadletter=2)
    await live.ended("row-1")
    async with asyncio.timeout(30):
        while not await live.sql("select 1 from unsettled"):
            await asyncio.sleep(0.1)

    listed, lines, unknown, by_borrower, told = await asyncio.gather(
        live.run("deadletters list", "--since", "1h", "--limit", "1"),
        live.run("deadletters list", "--reason", "conflict", "--json"),
        live.run("unknowns list", "--json"),
        live.run("reminders list", "--borrower", "borrower-3", "--json"),
        live.run("providers", "--metrics", f"{live.gateway.url}/metrics"),
    )
    assert ("conflict" in listed.out, "refused_by_ledger" in listed.out) == (True, False)  # the newest
    assert re.fullmatch(r"1 dead letter\nmore: --before [0-9a-z]{13}\n", listed.err)
    [conflict] = map(json.loads, lines.out.splitlines())
    assert (conflict["reason"], conflict["field"], conflict["redriven"]) == ("conflict", "data", None)
    [sent] = map(json.loads, unknown.out.splitlines())
    assert (sent["provider"], sent["channel"], sent["state"]) == ("twilio", "sms", "awaiting")
    [waits] = map(json.loads, by_borrower.out.splitlines())
    assert (waits["id"], waits["state"], waits["request_id"]) == (sent["reminder"], "awaiting", "row-3")
    assert re.search(r"twilio +│ twilio_sms +│ acme .* closed", told.out)
    for secret in live.gateway.settings.environ.values():
        assert secret not in told.out

    await live.sql(REFUSES.replace("add", "drop").partition(" check")[0])
    # What is sealed stays so, unless it is asked for.
    shown, opened, dry = await asyncio.gather(
        live.run("deadletters show", conflict["id"]),
        live.run("deadletters show", "--open", conflict["id"]),
        live.run("deadletters redrive", "--since", "1h"),
    )
    assert (shown.code, "Li Lei" in shown.out, "Li Lei" in opened.out) == (0, False, True)
    assert "its record is sealed; --open prints it: personal data" in shown.err
    assert dry.err == "2 dead letters\n1 accepted, 1 refused (conflict)\nnothing was done; --yes does it\n"
    assert not await live.sql("select 1 from redrive")
    done = await live.run("deadletters redrive", "--since", "1h", "--yes", "--author", "ann")
    assert (done.code, done.err) == (0, "2 dead letters\n1 accepted, 1 refused (conflict)\n")
    assert re.search(
        r"refused_by_ledger +│ accepted, scheduled .*\n.*│ conflict +│ refused +│ conflict \(data\)", done.out
    )
    assert await live.ended("row-2") == {"row-2": "delivered"}

    settle = ("unknowns settle", sent["attempt"], "--reason", "SM-1 in the console")
    dry = await live.run(*settle, "--as", "not-sent")
    assert "THE BORROWER IS CONTACTED AGAIN: sms, the same contact again, from" in dry.out
    assert dry.out.endswith("nothing was done; --yes does it\n")
    assert not await live.sql("select 1 from settlement")
    settled = await live.run(*settle, "--as", "delivered", "--yes", "--author", "ann")
    assert f"reminder {sent['reminder']}, awaiting (outcome_unknown), became delivered" in settled.out
    story, sums = await asyncio.gather(
        live.run("show", sent["reminder"]),
        live.run("sums", "--metrics", f"{live.gateway.url}/metrics"),
    )
    assert re.search(r"settled by hand: delivered +│ by ann", story.out)
    assert (sums.code, sums.out.splitlines()[-1]) == (0, "everything adds up"), sums.out
    assert re.search(r"dead letters redriven: accepted +│ 1 ", sums.out)
    for each in (listed, lines, unknown, by_borrower, shown, dry, done, story, settled):
        for personal in ("Li Lei", "13900000", "1234.50", "pay.example.com"):
            assert personal not in each.out


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": \n', "a.jsonl:3: is not JSON"),
        ("b.jsonl", '{"a": 1, "a": 2}', "b.jsonl:1: has a key twice in one object"),
        ("c.json", '[\n {"stage": "d3"},\n 7\n]', "c.json:3: is not a JSON object"),
        ("d.json", '[{"lender": "acme"}', "d.json:1: is not JSON"),
        ("e.csv", "lender,stage\nacme\n", "e.csv:2: has 1 cells, the header 2"),
        ("f.csv", "lender,lender\nacme,acme\n", "f.csv:1: every column needs a name of its own"),
        ("g.txt", "{}", "g.txt:0: must end in .json"),
        ("h.json", '{"lender": "acme"}', "h.json:1: missing_field (data.borrower)"),
        ("i.jsonl", json.dumps({**row(1), "stage": "d5"}), "i.jsonl:1: unknown_stage (data.stage)"),
    ],
)
async def test_a_bad_row_stops_everything_and_is_named(name: str, text: str, problem: str, live_config: Path) -> None:
    good, bad = live_config.parent / "good.json", live_config.parent / name
    good.write_text(json.dumps(row(1)))
    bad.write_text(text)
    ran = await run("request", "--config", live_config, good, bad, environ=ENVIRON)
    assert ran.code == 2
    assert f"{live_config.parent}/{problem}" in ran.err
    assert "nothing was sent" in ran.err


ENVIRON = {"DSN": "postgresql://nobody@127.0.0.1:9/none", "KEY": "A" * 43 + "=", "INDEX": "B" * 43 + "="}


@pytest.fixture
def live_config(tmp_path: Path) -> Path:
    """A valid configuration of a stack that is not there."""
    path = tmp_path / "gateway.yaml"
    path.write_text(
        """
mode: live
database: {dsn: env:DSN}
kafka: {bootstrap: "127.0.0.1:9"}
http: {public_url: https://reminders.example.com}
sealing: {keys: {1: env:KEY}, current: 1, index_key: env:INDEX}
lenders: {acme: {name: Acme Finance, routes: {sms: twilio}}}
providers:
  twilio:
    adapter: twilio_sms
    settings: {account_sid: AC1, auth_tokens: [env:KEY], sender: "+15005550006"}
    callback_tokens: [env:TOKEN]
""".replace("env:TOKEN", "env:CALLBACK")
    )
    ENVIRON["CALLBACK"] = "c" * 32
    return path


async def test_check_config_tells_every_problem_at_its_key(live_config: Path) -> None:
    good = await run("check-config", "--config", live_config, environ=ENVIRON)
    assert good.code == 0, good.err
    assert "kafka.bootstrap" in good.out
    assert "*** (env:DSN)" in good.out
    assert good.out.endswith("mode live: REAL PEOPLE are reached, every borrower a request names\n")
    assert ENVIRON["DSN"] not in good.out
    assert good.err == ""
    elsewhere = {**ENVIRON, "GATEWAY__KAFKA__BOOTSTRAP": "kafka.example.com:9092"}
    warned = await run("check-config", "--config", live_config, environ=elsewhere)
    told = "kafka.security.protocol: every message travels in the clear; use SASL_SSL or SSL (a warning)\n"
    assert (warned.code, warned.err) == (0, told)

    text = live_config.read_text().replace("routes: {sms: twilio}", "routes: {sms: nobody}").replace("AC1", '"?"')
    live_config.write_text(text + "dispatch: {slots: 0, slott: 1}\n")
    bad = await run("check-config", "--config", live_config, environ={**ENVIRON, "DSN": ""})
    assert bad.code == 2
    paths = {line.partition(": ")[0] for line in bad.err.splitlines()}
    assert {
        "database.dsn", "dispatch.slots", "dispatch.slott", "lenders.acme.routes.sms",
        "providers.twilio.settings.account_sid",
    } <= paths  # fmt: skip
    assert "5 problems" in bad.err


async def test_without_a_mode_nothing_starts(live_config: Path) -> None:
    text = live_config.read_text()
    for mode, problem in {
        "": "mode: Field required (missing)",
        "mode: lvie": "mode: Input should be 'simulate', 'allowlist' or 'live' (wrong_value)",
        "mode: simulate": "providers.twilio.settings.base_url: is not on loopback",
    }.items():
        live_config.write_text(text.replace("mode: live", mode))
        commands = [run(each, "--config", live_config, environ=ENVIRON) for each in ("run", "check-config")]
        for refused in await asyncio.gather(*commands):
            assert (refused.code, refused.out) == (2, "")
            assert refused.err.startswith(problem)


async def test_simulate_with_a_proxy_elsewhere_does_not_start(live_config: Path) -> None:
    text = live_config.read_text().replace("mode: live", "mode: simulate")
    live_config.write_text(text.replace("{account_sid", "{base_url: 'http://127.0.0.1:4010', account_sid"))
    proxies = ("http://proxy.example.com:3128", "http://127.0.0.1:3128")
    away, here = ({**ENVIRON, "GATEWAY__OUTBOUND__PROXY_URL": each} for each in proxies)
    commands = [("run", away), ("check-config", away), ("check-config", here)]
    started, checked, near = await asyncio.gather(
        *(run(each, "--config", live_config, environ=environ) for each, environ in commands)
    )
    for refused in (started, checked):
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.startswith("outbound.proxy_url: is not on loopback, as mode simulate needs it")
    assert (near.code, near.err) == (0, "outbound.proxy_url: is not used in mode simulate (a warning)\n")


async def test_check_config_says_what_is_wrong_with_certificates(live_config: Path) -> None:
    authority = Authority(live_config.parent)
    pair, other = authority.pair("client", until=-dt.timedelta(hours=1)), authority.pair("other")
    security = {"protocol": "SSL", "ca_file": str(authority.file), "cert_file": str(pair.cert)}

    async def check(name: str, key: Path, ca: Path) -> Ran:
        kafka = json.dumps({**security, "key_file": str(key)})
        path = live_config.with_name(name)
        path.write_text(live_config.read_text().replace("kafka: {", f"kafka: {{security: {kafka}, "))
        environ = {**ENVIRON, "GATEWAY__OUTBOUND__CA_FILE": str(ca)}
        return await run("check-config", "--config", path, environ=environ)

    wrong, ended = await asyncio.gather(
        check("wrong.yaml", other.key, Path("/nowhere/ca.pem")), check("ended.yaml", pair.key, authority.file)
    )
    assert wrong.code == 2
    assert wrong.err.splitlines()[:2] == [
        "kafka.security.key_file: is not the key of the certificate (bad_certificate)",
        "outbound.ca_file: cannot be read: No such file or directory (unreadable_file)",
    ]
    assert ended.code == 0, ended.err
    assert re.fullmatch(r"kafka\.security\.cert_file: expired at [-0-9]+ [:0-9]+ UTC \(a warning\)\n", ended.err)


async def test_allowlist_prints_an_index_for_each_address_and_never_an_address(live_config: Path) -> None:
    addresses = live_config.parent / "addresses.txt"
    addresses.write_text("# +86 139 1234 5677\n+86 139 1234 5678  # Ann\n+8613912345678\nsome-device-token\n")
    listed = await run("allowlist", addresses, "--config", live_config, environ=ENVIRON)
    assert (listed.code, listed.err) == (0, "")
    indexes = listed.out.splitlines()
    assert [len(each) for each in indexes] == [32 + len("  # Ann"), 32, 32]
    assert indexes[0] == f"{indexes[1]}  # Ann" != f"{indexes[2]}  # Ann"
    live_config.write_text(live_config.read_text().replace("mode: live", "mode: allowlist"))
    kept = live_config.parent / "allowlist.txt"
    kept.write_text(listed.out)
    environ = {**ENVIRON, "GATEWAY__ALLOWLIST__FILE": str(kept)}
    shown = await run("check-config", "--config", live_config, environ=environ)
    assert shown.out.endswith("mode allowlist: only the addresses listed are reached, 2 of them\n"), shown.err
    assert indexes[1] not in shown.out

    addresses.write_text("+86 139 1234 5678\n139 1234 5678\n")
    refused = await run("allowlist", addresses, "--config", live_config, environ=environ)
    assert (refused.code, refused.out) == (2, "")
    assert f"{addresses}:2: looks like a phone number" in refused.err
    kept.write_text("+86 139 1234 5678\n")
    refused = await run("check-config", "--config", live_config, environ=environ)
    assert (refused.code, refused.out) == (2, "")
    assert "allowlist.file: line 1 is no index of an address" in refused.err
    assert "139" not in refused.err


async def test_nothing_that_needs_a_server_hangs_or_spills_without_one(live_config: Path) -> None:
    good = live_config.parent / "good.json"
    good.write_text(json.dumps(row(1)))
    commands: list[list[str | Path]] = [
        ["migrate"],
        ["show", "0000000000000"],
        ["request", good],
        ["deadletters", "redrive", "0000000000000"],
    ]
    every = await asyncio.gather(*(run(*each, "--config", live_config, environ=ENVIRON) for each in commands))
    for ran in every:
        assert ran.code == 1, ran
        assert "cannot be" in ran.err


async def test_migrate_twice_and_a_schema_nobody_knows(postgres: PostgresServer, live_config: Path) -> None:
    await postgres.heal()
    dsn = await postgres.create_database("test_cli_migrate")
    environ = {**ENVIRON, "DSN": dsn}
    empty = await run("run", "--config", live_config, environ=environ)
    assert empty.code == 1
    assert "UnknownSchema" in empty.out
    first, second = [await run("migrate", "--config", live_config, environ=environ) for _ in range(2)]
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out
    assert first.out.startswith("schema ")
    connection = await asyncpg.connect(dsn)
    # Somebody looks at a table that changes, and does not let go of it.
    await connection.execute(
        "drop table outbox; create table outbox (); update alembic_version set version_num = '0001'"
    )
    async with connection.transaction():
        await connection.execute("select from outbox")
        stuck = await run("migrate", "--wait", "0.1", "--config", live_config, environ=environ)
    assert (stuck.code, "nothing was done" in stuck.err) == (1, True)
    await connection.execute("update alembic_version set version_num = '9999'")
    await connection.close()
    newer = await run("show", "0000000000000", "--config", live_config, environ=environ)
    assert newer.code == 1
    assert "the schema is at 9999" in newer.err
    refused = await run("run", "--config", live_config, environ=environ)
    assert (refused.code, "UnknownSchema" in refused.out) == (1, True)
    await postgres.drop_database("test_cli_migrate")


async def test_help_and_run_load_no_development_tool() -> None:
    for code in ("import gateway.cli", "import gateway.cli, gateway.app"):
        loads = f"{code}; import sys; print([each for each in sys.modules if each.startswith('gateway.dev')])"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", loads, stdout=asyncio.subprocess.PIPE
        )  # fmt: skip
        out, _ = await process.communicate()
        assert out.strip() == b"[]"
    assert (await run("--help")).code == 0
