"""A real Kafka with a second door, for a link that can be broken, and with access control."""

from __future__ import annotations

from typing import Final

from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from gateway.dev.host import StackError, free_port
from gateway.dev.topics import administrator
from tests.stack.kafka import KafkaServer

# Numbers of Kafka's protocol.
_TOPIC: Final = 2
_LITERAL: Final = 3
_ALL: Final = 2
_WRITE: Final = 4
_DENY: Final = 2
_ALLOW: Final = 3
_EVERYBODY: Final = ("User:*", "*")


class LinkedKafka(KafkaServer):
    """Who asks at `door` is sent to `door` again, and a proxy that listens there leads to `behind`."""

    def __init__(self) -> None:
        super().__init__()
        self.door, self.behind = free_port(), free_port()
        controller = f"CONTROLLER://127.0.0.1:{self._controller_port}"
        self._settings = {
            "listeners": f"PLAINTEXT://{self.bootstrap},LINKED://127.0.0.1:{self.behind},{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap},LINKED://127.0.0.1:{self.door}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,LINKED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        }

    async def deny_writing(self, topic: str) -> None:
        """Everybody may do everything with the topic but write to it."""
        for operation, permission in ((_ALL, _ALLOW), (_WRITE, _DENY)):
            request = CreateAclsRequest(_TOPIC, topic, _LITERAL, *_EVERYBODY, operation, permission)
            async with administrator(self.bootstrap) as admin:
                answer = await admin._send_request(request)
            _good([each[0] for each in answer.creation_responses])

    async def allow_writing(self, topic: str) -> None:
        request = DeleteAclsRequest(_TOPIC, topic, _LITERAL, *_EVERYBODY, _WRITE, _DENY)
        async with administrator(self.bootstrap) as admin:
            answer = await admin._send_request(request)
        _good([each[0] for each in answer.filter_responses])


def _good(codes: list[int]) -> None:
    bad = [for_code(code).__name__ for code in codes if code]
    if bad or not codes:
        raise StackError(f"access control: {bad}")
