"""The fixtures every test may use.

`postgres`, `database`, `kafka` and `topics` are real servers, one of each per run; `summary` says something at the end
of the run.
"""

import os
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from gateway.dev.embedded import EmbeddedBroker
from gateway.dev.server import Server
from tests.stack.kafka import KafkaServer, must_be_real
from tests.stack.pgbouncer import ROUTE, PgBouncer
from tests.stack.postgres import PostgresServer

_NO_KAFKA = "Java and Maven are missing: no Apache Kafka here, the embedded broker stands in"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SUMMARY] = defaultdict(list)
    config.addinivalue_line("markers", "real_kafka: needs Apache Kafka itself; the embedded broker will not do")


def pytest_report_header() -> str:
    return "kafka: Apache Kafka" if must_be_real() else f"kafka: !!! {_NO_KAFKA}; tests marked real_kafka are skipped"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not must_be_real():
        for item in items:
            if item.get_closest_marker("real_kafka"):
                item.add_marker(pytest.mark.skip(reason=_NO_KAFKA))


_SUMMARY = pytest.StashKey[dict[str, list[str]]]()


@pytest.fixture
def summary(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Call it with a title and a text: they stand at the end of the run's output, whether or not the test passes.

    What is said under one title, by whichever tests and processes, stands under one.
    """
    kept = request.config.stash[_SUMMARY]

    def keep(title: str, text: object) -> None:
        kept[title].append(str(text))

    return keep


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What a worker of pytest-xdist leaves here is handed to the process that writes."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["summary"] = dict(session.config.stash[_SUMMARY])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for title, texts in getattr(node, "workeroutput", {}).get("summary", {}).items():  # none of one that has crashed
        node.config.stash[_SUMMARY][title] += texts


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for title, texts in config.stash[_SUMMARY].items():
        terminalreporter.section(title)
        for text in texts:
            terminalreporter.write_line(text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its servers said."""
    report = yield
    if report.failed:
        for server in getattr(item, "funcargs", {}).values():
            if isinstance(server, Server) and server.process.log.exists():  # gone where its own end has failed
                report.sections.append((f"end of the log of {server.name}", server.process.tail()))
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[PostgresServer]:
    """The run's Postgres. A test may kill or pause it: `database` heals it for the next one.

    With BEHIND_PGBOUNCER=1 every gateway process of the run reaches it through a pooler (`make pooled`).
    """
    async with PostgresServer() as server:
        if not os.environ.get("BEHIND_PGBOUNCER"):
            yield server
            return
        async with PgBouncer(server.dsn()) as pooler:
            os.environ[ROUTE] = f"{server.port}:{pooler.port}"
            yield server


@pytest_asyncio.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[str]:
    """The address of a database of this test's own, with the current schema and no rows."""
    await postgres.heal()
    name = await postgres.fresh_database()
    yield postgres.dsn(name)
    await postgres.heal()
    await postgres.drop_database(name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka() -> AsyncIterator[KafkaServer | EmbeddedBroker]:
    """The run's broker. A test may kill or pause it: `topics` heals it for the next one."""
    async with KafkaServer() if must_be_real() else EmbeddedBroker() as server:
        yield server


@dataclass(frozen=True)
class Topics:
    """Names of this test's own: three topics that exist, and a consumer group that does not yet."""

    requests: str
    events: str
    deadletters: str
    group: str


@pytest_asyncio.fixture
async def topics(kafka: KafkaServer | EmbeddedBroker) -> Topics:
    """Fresh topics, four partitions each (one for dead letters)."""
    await kafka.heal()
    mark = secrets.token_hex(4)
    names = Topics(f"requests-{mark}", f"events-{mark}", f"deadletters-{mark}", f"gateway-{mark}")
    await kafka.create_topics({names.requests: 4, names.events: 4, names.deadletters: 1})
    return names
