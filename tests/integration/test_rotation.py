"""Secrets that rotate while messages flow: nothing lost, and nothing refused but what should be."""

import asyncio
import base64
import datetime as dt
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio

from gateway.dev.simulator.twilio_account import sign
from tests.stack.gateway import requested
from tests.stack.scene import QUICK, SOURCE, Scene, empty_world, fetch, name_of, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_ENDED: Final = """
select e.state::text as state, e.reason, count(*) as n from reminder r join ending e on e.reminder = r.id
where r.source = $1 and r.request_id = any($2) group by 1, 2
"""
_LEFT: Final = "select count(*) from {} where sealed is not null and get_byte(sealed, 4) <> 2"


@dataclass
class Vault:
    """The secrets of one gateway as files that are swapped as the kubelet does it: all at once, by one link."""

    home: Path
    files: dict[str, str] = field(default_factory=dict)
    version: int = 0

    def at(self, name: str) -> str:
        return f"file:{self.home}/..data/{name}"

    def put(self, **files: str) -> None:
        self.files |= files
        self.version += 1
        folder = self.home / f"v{self.version}"
        folder.mkdir()
        for name, content in self.files.items():
            (folder / name).write_text(content)
        link = self.home / "..new"
        link.symlink_to(folder.name)
        link.rename(self.home / "..data")


@dataclass
class Rotating:
    """A gateway whose secrets are in a vault, and requests that come without a pause."""

    scene: Scene
    vault: Vault
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 100_000)))
    asked: list[int] = field(default_factory=list)
    enough: bool = False

    @property
    def tree(self) -> dict[str, Any]:
        return self.scene.gateway.settings.tree

    def save(self) -> None:
        self.scene.gateway.settings.write(self.scene.gateway.config)

    async def reloaded(self, since: float, within: float = 10) -> None:
        async def done() -> bool:
            return await self.scene.metric("secrets_reloads_total", outcome="good") > since

        await until(done, "reload", within)

    async def reload(self) -> None:
        """By a signal, as an operator asks for it."""
        since = await self.scene.metric("secrets_reloads_total", outcome="good")
        os.kill(self.scene.gateway.child.pid, signal.SIGHUP)
        await self.reloaded(since)

    async def refused(self, times: int) -> None:
        """By a signal, too; what was refused is counted."""
        os.kill(self.scene.gateway.child.pid, signal.SIGHUP)

        async def so_often() -> bool:
            return await self.scene.metric("secrets_reloads_total", outcome="failed") == times

        await until(so_often, "refusal", 10)
        assert await self.scene.metric("secrets_reload_failed") == 1

    async def flow(self) -> None:
        """Until it is enough; never in the middle of a batch, of which nobody would know whether it was asked."""
        while not self.enough:
            batch = [next(self.numbers) for _ in range(3)]
            await self.scene.world.publish([requested(number) for number in batch])
            self.asked += batch
            await asyncio.sleep(0.1)

    async def some_more(self) -> None:
        """Until what was asked for from now on has been answered for, too."""
        have = len(self.asked)

        async def more() -> bool:
            return len(self.asked) >= have + 10

        await until(more, "requests")
        await self.scene.ended(self.asked[have + 9])

    async def ended(self, numbers: list[int]) -> dict[tuple[str, str | None], int]:
        """How all of these have ended: (state, reason), and how many."""
        names = [name_of(each) for each in numbers]

        async def all_of_them() -> list[Any] | None:
            rows = await self.scene.sql(_ENDED, SOURCE, names)
            return rows if sum(row["n"] for row in rows) == len(names) else None

        rows = await until(all_of_them, f"end of {len(names)} reminders", 30)
        return {(row["state"], row["reason"]): row["n"] for row in rows}

    async def call_back(self, path_token: str, auth_token: str) -> int:
        """A receipt of Twilio's for no message of ours, in this path and under this signature."""
        url = f"{self.tree['http']['public_url']}/callbacks/twilio/{path_token}"
        form = {"MessageSid": f"SM{secrets.token_hex(16)}", "MessageStatus": "delivered"}
        headers = {
            "X-Twilio-Signature": sign(url, form.items(), auth_token),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return await self._post(url, urlencode(form), headers)

    async def push(self, bearer: str) -> int:
        url = f"{self.tree['http']['public_url']}/events/push"
        return await self._post(url, "{}", {"Authorization": f"Bearer {bearer}"})

    async def _post(self, url: str, body: str, headers: dict[str, str]) -> int:
        async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
            return response.status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rotating(postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rotating]:
    """One gateway for all of this; it looks at its secrets only when it is asked to."""
    home = tmp_path_factory.mktemp("rotation")
    vault = Vault(home / "vault")
    vault.home.mkdir()
    async with empty_world(postgres, kafka, home) as here:
        vault.put(
            twilio=here.simulator.credentials.twilio_auth_token,
            callback=secrets.token_urlsafe(24),
            app=secrets.token_urlsafe(24),
            dsn=here.dsn,
            sealing_1=_key(),
            sealing_2=_key(),
        )
        tree: dict[str, Any] = {
            **{key: dict(value) for key, value in QUICK.items()},
            "secrets": {"reload_seconds": 600},
            "database": {"dsn": vault.at("dsn")},
            "http": {"app_tokens": [vault.at("app")]},
            "sealing": {"keys": {1: vault.at("sealing_1")}},
            "providers": {
                "twilio": {
                    "settings": {"auth_tokens": [vault.at("twilio")]},
                    "callback_tokens": [vault.at("callback")],
                }
            },
        }
        gateway = here.gateway(tree)
        gateway.spawn()
        try:
            await gateway.ready(60)
            rotating = Rotating(Scene(here, gateway), vault)
            await rotating.reloaded(0)  # the look at the start
            yield rotating
        finally:
            await gateway.child.kill()


def _key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


async def test_what_is_wrong_is_kept_out_until_it_is_good(rotating: Rotating) -> None:
    scene, vault = rotating.scene, rotating.vault
    first, second, sealing = vault.files["callback"], secrets.token_urlsafe(24), vault.files["sealing_1"]
    auth = vault.files["twilio"]
    vault.put(callback=second[:10])
    await rotating.refused(1)
    assert await rotating.call_back(first, auth) == 204
    assert await rotating.call_back(second[:10], auth) == 404
    good = await scene.metric("secrets_reloaded_timestamp_seconds")
    vault.put(callback=second, sealing_1=_key())  # a good token, and a key that would lose what is sealed
    await rotating.refused(2)
    assert await rotating.call_back(second, auth) == 404
    vault.put(sealing_1=sealing)
    await rotating.reload()
    assert await scene.metric("secrets_reload_failed") == 0
    assert await scene.metric("secrets_reloaded_timestamp_seconds") > good
    assert [await rotating.call_back(each, auth) for each in (first, second)] == [404, 204]
    log = scene.gateway.log.read_text()
    assert log.count('"secrets_not_reloaded"') == 2
    assert "providers.twilio.callback_tokens.0: weak_secret" in log
    assert "sealing.keys.1: bad_key" in log
    await _assert_silent(rotating, [first, second, second[:10]])


@dataclass(frozen=True)
class Login:
    """A second login to the same database."""

    user: str
    dsn: str


@pytest_asyncio.fixture(loop_scope="module")
async def login(rotating: Rotating) -> AsyncIterator[Login]:
    dsn, user, password = rotating.scene.world.dsn, f"rotated_{secrets.token_hex(4)}", secrets.token_hex(16)
    await fetch(dsn, f"create role {user} superuser login password '{password}'")
    yield Login(user, f"postgresql://{user}:{password}@{dsn.rpartition('@')[2]}")
    await rotating.scene.gateway.child.kill()
    await fetch(dsn, f"drop role {user}")


async def test_everything_rotates_while_messages_flow(rotating: Rotating, login: Login) -> None:
    scene, vault = rotating.scene, rotating.vault
    old = {name: vault.files[name] for name in ("twilio", "callback", "app")}
    new = {"twilio": secrets.token_hex(16), "callback": secrets.token_urlsafe(24), "app": secrets.token_urlsafe(24)}
    later = requested(90_001, send_at=_in_seconds(6))
    await scene.world.publish([later])
    flow = asyncio.create_task(rotating.flow())
    try:
        await rotating.some_more()

        # Old and new together.  Twilio knows both tokens, and signs with the new one once the gateway knows it too.
        scene.world.simulator.promote_twilio_token(old["twilio"], new["twilio"])
        vault.put(dsn=login.dsn, **{name: f"{new[name]}\n{old[name]}\n" for name in new})
        rotating.tree["sealing"]["keys"][2] = vault.at("sealing_2")
        rotating.save()
        await rotating.reload()
        scene.world.simulator.promote_twilio_token(new["twilio"], old["twilio"])
        assert await scene.metric("sealing_keys_known") == 2
        for path in (old["callback"], new["callback"]):
            for auth in (old["twilio"], new["twilio"]):
                assert await rotating.call_back(path, auth) == 204
        assert await rotating.call_back(new["callback"], secrets.token_hex(16)) == 401
        assert [await rotating.push(each) for each in (old["app"], new["app"], "x" * 30)] == [400, 400, 401]

        # The new sealing key becomes current.
        rotating.tree["sealing"]["current"] = 2
        rotating.save()
        await rotating.reload()
        assert await scene.metric("sealing_key_current") == 2
        await rotating.some_more()
        assert await scene.value(_LEFT.format("reminder")) > 0

        # Everything that the old one sealed is sealed anew, in a process of its own, while this one goes on.
        code, said = await rotating.scene.gateway.command("reseal")
        assert code == 0, said
        assert [await scene.value(_LEFT.format(each)) for each in ("reminder", "decision", "receipt")] == [0, 0, 0]

        # The old ones go.
        await rotating.ended(list(rotating.asked))  # an operator waits for the receipt window
        scene.world.simulator.promote_twilio_token(new["twilio"])
        vault.put(**new)
        del rotating.tree["sealing"]["keys"][1]
        rotating.save()
        await rotating.reload()
        assert await scene.metric("sealing_keys_known") == 1
        assert await rotating.call_back(old["callback"], new["twilio"]) == 404
        assert await rotating.call_back(new["callback"], old["twilio"]) == 401
        assert await rotating.call_back(new["callback"], new["twilio"]) == 204
        assert [await rotating.push(each) for each in (old["app"], new["app"])] == [401, 400]
        await rotating.some_more()
    finally:
        rotating.enough = True
        await flow
    # Connections that stand have been kept; new ones log in with what is new.
    mine = "from pg_stat_activity where application_name = 'reminder-gateway' and datname = current_database()"
    assert await scene.value(f"select count(*) {mine} and usename <> '{login.user}'") > 0
    await fetch(scene.world.dsn, f"select pg_terminate_backend(pid) {mine}")
    await scene.world.publish([requested(90_002)])
    # A receipt in a path that is no longer open would have left its reminder unconfirmed.
    numbers = [*rotating.asked, 90_001, 90_002]
    assert await rotating.ended(numbers) == {("delivered", None): len(numbers)}
    sent = Counter(each["marker"] for each in scene.log())
    assert sent == {f"M-{number}": 1 for number in numbers}
    assert await scene.value("select count(*) from attempt where failure is not null") == 0
    assert await scene.metric("sealing_key_unknown_total") == 0
    assert [row[0] for row in await scene.sql(f"select distinct usename {mine}")] == [login.user]
    await _assert_silent(rotating, [*old.values(), *new.values(), login.dsn])


def _in_seconds(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


async def _assert_silent(rotating: Rotating, canaries: list[str]) -> None:
    """In no log and no metric."""
    told = rotating.scene.gateway.log.read_text() + await rotating.scene.gateway.metrics()
    keys = [rotating.vault.files[name] for name in ("sealing_1", "sealing_2")]
    assert not [each for each in [*canaries, *keys] if each in told]
