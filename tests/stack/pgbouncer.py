"""A real PgBouncer in transaction mode before a Postgres of ours, by the documented configuration."""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from gateway.dev.host import StackError, free_port
from gateway.dev.server import Server
from tests.stack.tools import required

ROOT: Final = Path(__file__).parents[2]
FETCHED: Final = ROOT / ".cache" / "pgbouncer"
DOCUMENTED: Final = ROOT / "docs" / "examples" / "pgbouncer.ini"
# The gateways of a whole run of tests reach their ledgers through a pooler: "<port of Postgres>:<port of the pooler>".
ROUTE: Final = "REMINDER_GATEWAY_TEST_ROUTE"

MISSING: Final = "PgBouncer is missing and cannot be fetched here: nothing is tried behind it"


def program() -> Path | None:
    """Where PgBouncer is: installed, or fetched by `make pgbouncer`."""
    fetched = FETCHED / "usr" / "sbin" / "pgbouncer"
    found = shutil.which("pgbouncer")
    return fetched if fetched.is_file() else None if found is None else Path(found)


def must_be_there() -> bool:
    """May a run do without it?  Not in CI, and not where it can be fetched."""
    return program() is not None or required("apt-get", "dpkg-deb")


def routed(dsn: str) -> str | None:
    """The same database by way of the run's pooler; None where there is none before that server."""
    server, _, pooler = os.environ.get(ROUTE, "").partition(":")
    port = urlsplit(dsn).port
    return over(dsn, int(pooler)) if server and str(port) == server else None


def over(dsn: str, port: int) -> str:
    """The same database by another port."""
    return dsn.replace(f":{urlsplit(dsn).port}/", f":{port}/")


class PgBouncer(Server):
    """`dsn` is the address of a database of the server behind it.  Few sessions serve many clients."""

    name = "pgbouncer"

    def __init__(self, server: str, *, sessions: int = 5, connect_query: str | None = None) -> None:
        """`server` is the address of any database of the server; `connect_query` is the documented one if not given."""
        self.port = free_port()
        self._server = urlsplit(server)
        self._sessions = sessions
        self._connect_query = connect_query

    def dsn(self, server: str) -> str:
        return over(server, self.port)

    async def _prepare(self, home: Path) -> None:
        found = program()
        if found is None:
            raise StackError("no PgBouncer: run `make pgbouncer`")
        self._program = home / "pgbouncer"  # another account must be able to run it
        shutil.copy(found, self._program)
        for library in (FETCHED / "usr" / "lib").rglob("*.so*"):
            shutil.copy(library, home, follow_symlinks=True)
        users = home / "users.txt"
        users.write_text(f'"{self._server.username}" "{self._server.password}"\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "auth_file": str(users),
            "default_pool_size": str(self._sessions),
        }
        text = DOCUMENTED.read_text(encoding="utf-8")
        text = text.replace("host=postgres.internal port=5432", f"host=127.0.0.1 port={self._server.port}")
        if self._connect_query is not None:
            text = re.sub("connect_query='[^']*'", f"connect_query='{self._connect_query}'", text)
        for name, value in settings.items():
            text, n = re.subn(rf"^{name} *=.*$", f"{name} = {value}", text, flags=re.MULTILINE)
            if n != 1:
                raise StackError(f"{DOCUMENTED.name} has {n} lines of {name}")
        self._config = home / "pgbouncer.ini"
        self._config.write_text(text)
        if account := self._account():
            for path in (users, self._config):
                os.chown(path, pwd.getpwnam(account).pw_uid, -1)
        users.chmod(0o600)

    def _account(self) -> str:
        return "nobody" if os.geteuid() == 0 else ""  # it refuses to run as root

    def _environment(self) -> Mapping[str, str]:
        return {"LD_LIBRARY_PATH": str(self._config.parent)}

    def _command(self) -> Sequence[str | Path]:
        return [self._program, self._config]

    async def _answers(self) -> bool:
        address = self._server._replace(
            netloc=self._server.netloc.rpartition(":")[0] + f":{self.port}", path="/postgres"
        )
        try:
            connection = await asyncpg.connect(address.geturl(), timeout=10, statement_cache_size=0)
        except (OSError, asyncpg.PostgresError, asyncpg.ConnectionDoesNotExistError):
            return False
        await connection.close()
        return True
