"""TLS to a real Postgres: by the address alone, for the service and every command, and what is said when it fails."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from click.testing import Result
from cryptography import x509
from typer.testing import CliRunner

from gateway.cli import app
from tests.stack import scene as stage
from tests.stack.certificates import Authority, swap
from tests.stack.gateway import requested
from tests.stack.postgres import TlsPostgres
from tests.stack.scene import Scene, until
from tests.stack.tools import required

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

_OURS = "from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'reminder-gateway'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TlsPostgres]:
    if not TlsPostgres.installed() and not required("java", "mvn"):
        pytest.skip("Java or Maven is missing: no Postgres with TLS here")
    async with TlsPostgres(tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(guarded: TlsPostgres, kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with stage.scene(guarded, kafka, tmp_path_factory.mktemp("tls-postgres")) as it:
        yield it


async def invoke(scene: Scene, arguments: list[str], **environ: str) -> Result:
    """A command that needs no process of its own."""
    given = [*arguments, "--config", str(scene.gateway.config)]
    return await asyncio.to_thread(CliRunner().invoke, app, given, env=scene.gateway.environ | environ)


async def test_a_request_travels_and_every_connection_is_encrypted(scene: Scene) -> None:
    await scene.world.publish([requested(1)])
    assert await scene.ended(1, within=60) == ("delivered", None)
    assert [tuple(row) for row in await scene.sql(f"select distinct ssl {_OURS}")] == [(True,)]
    for each in (["migrate"], ["check-config", "--ledger"], ["reminders", "list"], ["freezes"], ["sums"]):
        done = await invoke(scene, each)
        assert done.exit_code == 0, done.output


async def test_renewed_certificates_are_read_by_new_connections(scene: Scene, guarded: TlsPostgres) -> None:
    guarded.authority.pair("client")
    serial = x509.load_pem_x509_certificate(guarded.client.cert.read_bytes()).serial_number
    await scene.sql(f"select pg_terminate_backend(pid) {_OURS}")
    await scene.world.publish([requested(2)])
    assert await scene.ended(2, within=60) == ("delivered", None)

    async def renewed() -> bool:
        serials = [int(row[0]) for row in await scene.sql(f"select distinct client_serial {_OURS}")]
        return serials == [serial]

    await until(renewed, "connections under the new certificate")


def _elsewhere(server: TlsPostgres, plain: str, home: Path) -> str:
    return server.dsn(sslrootcert=Authority(home, "elsewhere").file)


def _another_name(server: TlsPostgres, plain: str, home: Path) -> str:
    return server.dsn(host="127.0.0.1")


def _no_certificate(server: TlsPostgres, plain: str, home: Path) -> str:
    return server.dsn(sslcert="", sslkey="")


def _no_tls_there(server: TlsPostgres, plain: str, home: Path) -> str:
    return f"{plain}?sslmode=verify-full&sslrootcert={server.authority.file}"


def _in_the_clear(server: TlsPostgres, plain: str, home: Path) -> str:
    return server.dsn(sslmode="disable")


Wrong = Callable[[TlsPostgres, str, Path], str]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (_elsewhere, "certificate_untrusted"),
        (_another_name, "certificate_for_another_name"),
        (_no_certificate, "login_refused"),
        (_no_tls_there, "server_speaks_no_tls"),
        (_in_the_clear, "login_refused"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_what_does_not_fit_is_refused_and_said(
    scene: Scene, guarded: TlsPostgres, postgres: Any, tmp_path: Path, wrong: Wrong, why: str
) -> None:
    """By every way to the database that the commands have: migrate's own, one connection, and a pool."""
    dsn = wrong(guarded, postgres.dsn(), tmp_path)
    for each in (["migrate"], ["reminders", "list"], ["freezes"]):
        done = await invoke(scene, each, GATEWAY_DATABASE_DSN=dsn)
        assert done.exit_code == 1, done.output
        assert why in done.output
        assert guarded.password not in done.output
    gc.collect()  # asyncpg leaves the socket open whose server speaks no TLS: that warning is this test's


async def test_a_start_that_fails_says_why(scene: Scene, guarded: TlsPostgres, tmp_path: Path) -> None:
    dsn = _elsewhere(guarded, "", tmp_path)
    code, said = await scene.gateway.command("run", GATEWAY_DATABASE_DSN=dsn, GATEWAY__HTTP__INTERNAL_PORT="0")
    assert code == 1
    lines = [json.loads(line) for line in said.splitlines()]
    assert [each["why"] for each in lines if each["event"] == "start_failed"] == ["certificate_untrusted"]
    assert guarded.password not in said


async def test_a_certificate_that_has_gone_keeps_what_stands(scene: Scene, guarded: TlsPostgres) -> None:
    """Until it is back: connections that stand go on, and nobody falls back to a way without TLS."""
    good = guarded.client.cert.read_bytes()
    guarded.client.cert.unlink()
    try:
        await scene.world.publish([requested(3)])
        code, said = await scene.gateway.command("check-config")
        assert code == 2
        assert "database.dsn: its sslcert cannot be read: No such file or directory (unreadable_file)" in said
    finally:
        swap(guarded.client.cert, good)
    assert await scene.ended(3, within=60) == ("delivered", None)
