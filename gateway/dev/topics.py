"""Topics through the Kafka protocol, on whatever broker: the embedded one, the tests' or a real one."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from gateway.dev.host import StackError


@asynccontextmanager
async def administrator(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client, closed at the end; KafkaError when no broker answers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def create_topics(bootstrap: str, topics: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
    """Create topics (name -> partitions, one replica); returns once every partition has a leader.

    Existing topics are left as they are. StackError with the broker's reason otherwise.
    """
    async with administrator(bootstrap) as admin:
        wanted = [NewTopic(name, count, 1, topic_configs=dict(config or {})) for name, count in topics.items()]
        answer = await admin.create_topics(wanted)
        for name, code, *reason in answer.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise StackError(f"topic {name}: {for_code(code).__name__} {reason}")
        end = time.monotonic() + 10
        while not await _led(admin, topics):
            if time.monotonic() > end:
                raise StackError(f"no leader within 10 s for {sorted(topics)}")
            await asyncio.sleep(0.02)


async def _led(admin: AIOKafkaAdminClient, topics: Mapping[str, int]) -> bool:
    found = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics(list(topics))}
    return all(
        len(found[name]) >= count and all(part["leader"] >= 0 for part in found[name]) for name, count in topics.items()
    )


async def broker_answers(bootstrap: str) -> bool:
    """Does a broker there answer a metadata request?"""
    host, _, port = bootstrap.partition(":")
    try:  # a bare connection first: the client logs an error for each refused one
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        async with administrator(bootstrap) as admin:
            await admin.list_topics()
    except (OSError, KafkaError):
        return False
    return True
