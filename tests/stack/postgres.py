"""A real Postgres whose databases are clones of one migrated template."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlencode

from gateway.dev.embedded import EmbeddedPostgres, reachable
from tests.stack.certificates import Authority

SERVER = Path(__file__).parents[2] / ".cache" / "postgres" / "server"
_TEMPLATE = "migrated"


class PostgresServer(EmbeddedPostgres):
    """The embedded server plus `fresh_database()`. kill(), restart(), pause() and heal() come with Server."""

    _numbers = itertools.count(1)
    _has_template = False

    async def fresh_database(self) -> str:
        """The name of a new database with the current schema and no rows, cloned in some tens of milliseconds."""
        if not self._has_template:
            from gateway.ledger.schema import migrate

            await self.execute(f'DROP DATABASE IF EXISTS "{_TEMPLATE}"')  # a half migrated one, had that failed
            await migrate(await self.create_database(_TEMPLATE))
            self._has_template = True
        name = f"test_{next(self._numbers)}"
        await self.create_database(name, template=_TEMPLATE)
        return name

    async def drop_database(self, name: str) -> None:
        """Disconnect whoever is in it, and remove it."""
        await self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def keep(self) -> None:
        """Stops, copies everything, and goes on: `go_back` has this moment again."""
        await self.halt()
        self._copy(self._data, self._kept)
        await self.launch()

    async def go_back(self) -> None:
        """What was committed since `keep` is gone, as when a standby that had not heard of it takes over."""
        await self.kill()
        shutil.rmtree(self._data)
        self._copy(self._kept, self._data)
        await self.launch()

    @property
    def _kept(self) -> Path:
        return self._data.with_name("kept")

    def _copy(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", source, target], check=True)


class TlsPostgres(PostgresServer):
    """Takes nobody without TLS, a certificate of its authority and a password; its own is for `localhost` alone.

    The server that `make postgres` fetches: the embedded one is built without OpenSSL.
    """

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.password = self._password
        self.authority = Authority(home, "postgres-authority")
        self.client = self.authority.pair("client")

    @staticmethod
    def installed() -> bool:
        return (SERVER / "bin" / "postgres").is_file()

    def dsn(self, database: str = "postgres", host: str = "localhost", **options: str | Path) -> str:
        """As anybody has to reach it; `options` win, an empty one is left out."""
        given = {
            "sslmode": "verify-full",
            "sslrootcert": self.authority.file,
            "sslcert": self.client.cert,
            "sslkey": self.client.key,
            **options,
        }
        query = urlencode({name: str(value) for name, value in given.items() if value})
        return f"{super().dsn(database).replace('127.0.0.1', host)}?{query}"

    def _binaries(self, home: Path, *, public: bool) -> Path:
        if not public or reachable(SERVER / "bin"):
            return SERVER / "bin"
        return shutil.copytree(SERVER, home / "server") / "bin"

    async def _prepare(self, home: Path) -> None:
        await super()._prepare(home)
        mine = self.authority.pair("server", ["localhost"])
        owner = self._data.stat()
        for name, source in (("server.crt", mine.cert), ("server.key", mine.key), ("ca.crt", self.authority.file)):
            path = self._data / name
            path.write_bytes(source.read_bytes())
            path.chmod(0o600)
            os.chown(path, owner.st_uid, owner.st_gid)
        (self._data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n")
        self._settings |= {
            "ssl": "on",
            "ssl_cert_file": "server.crt",
            "ssl_key_file": "server.key",
            "ssl_ca_file": "ca.crt",
        }
