"""A real Apache Kafka: one KRaft node, from the jars that `make kafka` fetches."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    for_code,
)

from gateway.dev.host import StackError, free_port
from gateway.dev.process import Child
from gateway.dev.server import Server
from gateway.dev.topics import administrator, broker_answers, create_topics
from tests.stack.tools import required

JARS = Path(__file__).parents[2] / ".cache" / "kafka"

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    # One node: one replica of everything, and few partitions, which start faster.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Tests have no minutes: groups form at once, dead members and a killed node are noticed soon.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    # The cleaner would take 128 MiB of the small heap.
    "log.cleaner.dedupe.buffer.size": "4194304",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}

_NOT_YET = (GroupLoadInProgressError, GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)


class KafkaServer(Server):
    """One Kafka node on 127.0.0.1, without automatic topics. Records survive restart() and kill() + launch().

    `settings` are server properties that win over ours. `listeners` are more of them, name (in capitals) -> protocol,
    each on a port of its own; `scram` are users and passwords that exist from the start. `hot=True` lets the JVM
    optimise fully: for benchmarks, where the broker runs long enough to earn the compiler's work back.
    """

    name = "kafka"
    _patience = 30.0

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
        hot: bool = False,
    ) -> None:
        self.port = free_port()
        self._settings = settings or {}
        self._listeners = listeners or {}
        self._scram = scram or {}
        self.ports = {name: free_port() for name in self._listeners}
        self._controller_port = free_port()
        self._jit = () if hot else ("-XX:TieredStopAtLevel=1",)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def create_topics(self, topics: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
        """Create topics: name -> partitions; `config` is the topics' own, for instance retention.ms."""
        await create_topics(self.bootstrap, topics, config)

    def bootstrap_at(self, listener: str) -> str:
        """The address of one of `listeners`."""
        return f"127.0.0.1:{self.ports[listener]}"

    async def configure(self, home: Path, *how: str) -> None:
        """Kafka's own kafka-configs.sh, by the plain listener; its output goes to `home`."""
        tool = Child("kafka configs", home / "configs.log")
        tool.spawn([*self._java, "kafka.admin.ConfigCommand", "--bootstrap-server", self.bootstrap, *how])
        if await tool.finished(within=60):
            raise StackError(f"kafka-configs failed\n{tool.tail()}")

    async def _prepare(self, home: Path) -> None:
        java = shutil.which("java")
        if java is None:
            raise StackError("java is not installed")
        if not any(JARS.glob("kafka_2.13-*.jar")):
            raise StackError(f"no Kafka in {JARS}: run `make kafka`")
        flags = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true", *self._jit)
        self._java = (java, *flags, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{JARS}/*")
        self._properties = home / "server.properties"
        ports = {"PLAINTEXT": self.port, **self.ports}
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **self._listeners}
        properties = {
            **_SETTINGS,
            "log.dirs": str(home / "data"),
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": ",".join(f"{name}:{each}" for name, each in protocols.items()),
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            **self._settings,
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        tool = Child("kafka format", home / "format.log")
        cluster = "reminder-gateway-tests"[:22]  # 22 characters, as a base64 UUID has
        users = [
            part
            for name, password in self._scram.items()
            for part in ("--add-scram", f"SCRAM-SHA-512=[name={name},iterations=4096,password={password}]")
        ]
        tool.spawn([*self._java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", self._properties, *users])
        if await tool.finished(within=60):
            raise StackError(f"formatting failed\n{tool.tail()}")

    def _command(self) -> Sequence[str | Path]:
        return [*self._java, "kafka.Kafka", self._properties]

    async def _answers(self) -> bool:
        if not await broker_answers(self.bootstrap):
            return False
        async with administrator(self.bootstrap) as admin:
            try:
                [answer] = await admin.describe_consumer_groups(["warm-up"])
            except KafkaError:
                return False  # the offsets topic, which the first group brings into being, has no leader yet
            # Wait until the groups are loaded, too: meanwhile aiokafka 0.14 takes the broker's "in progress" for
            # "nothing committed" and starts over, because it never looks at that error.
            return not any(for_code(code) in _NOT_YET for code, *_ in answer.groups)


def must_be_real() -> bool:
    """May the embedded broker not stand in for Kafka here?"""
    return required("java", "mvn")
