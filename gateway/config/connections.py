"""What the service is connected to: Postgres, Kafka, and its own two HTTP listeners."""

from __future__ import annotations

import ssl
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, FilePath, SecretStr, ValidationInfo, field_validator

from gateway.config.base import Count, Host, Port, PublicUrl, Seconds, Section, Token, Topic, differs
from gateway.config.problems import ProblemReason, misfit
from providers.contract import PUBLIC_HALF, Secret
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC, REQUESTS_TOPIC


class Database(Section):
    """`statement_cache` is 0 behind PgBouncer in transaction mode."""

    dsn: Secret
    pool_size: Count = 10
    statement_timeout_seconds: Seconds = 10.0
    statement_cache: Annotated[int, Field(ge=0, le=100_000)] = 256

    @field_validator("dsn")
    @classmethod
    def _is_postgres(cls, dsn: SecretStr) -> SecretStr:
        if not dsn.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise misfit(ProblemReason.WRONG_VALUE, "must begin with postgresql://")
        return dsn

    def same_place(self, other: Database) -> bool:
        """Whether both lead to one database, whoever they log in as."""
        return _place(self.dsn) == _place(other.dsn)


def _place(dsn: SecretStr) -> tuple[str, str, list[tuple[str, str]]]:
    parts = urlsplit(dsn.get_secret_value())
    options = [each for each in parse_qsl(parts.query) if each[0] not in ("user", "password")]
    return parts.netloc.rpartition("@")[2], parts.path, options


class Security(Section):
    """How the brokers are reached.  Without `ca_file` the system's certificate authorities count."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ca_file: FilePath | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: Annotated[str, Field(min_length=1), PUBLIC_HALF] | None = None
    sasl_password: Secret | None = None

    @field_validator("sasl_mechanism", "sasl_username", "sasl_password")
    @classmethod
    def _comes_with_sasl(cls, value: object, info: ValidationInfo) -> object:
        protocol = info.data.get("protocol")
        if protocol is not None and (value is not None) != protocol.startswith("SASL_"):
            need = "is not for" if value is not None else "is needed with"
            raise misfit(ProblemReason.INCOMPLETE_SASL, f"{need} protocol {protocol}")
        return value


class Kafka(Section):
    """`bootstrap` is host:port, several with commas.  Where reading starts is the ledger's business, not a setting."""

    bootstrap: Annotated[str, Field(pattern=r"^[^\s,:]+:[0-9]+(,[^\s,:]+:[0-9]+)*$")]
    group: Annotated[str, Field(min_length=1, max_length=249)] = "reminder-gateway"
    requests_topic: Topic = REQUESTS_TOPIC
    events_topic: Topic = EVENTS_TOPIC
    deadletters_topic: Topic = DEADLETTERS_TOPIC
    client_id: Annotated[str, Field(min_length=1, max_length=249)] = "reminder-gateway"
    max_poll_records: Count = 500
    session_timeout_seconds: Seconds = 30.0
    rebalance_timeout_seconds: Seconds = 60.0
    max_poll_interval_seconds: Seconds = 300.0
    security: Security = Security()

    @field_validator("events_topic", "deadletters_topic")
    @classmethod
    def _own_topic(cls, topic: str, info: ValidationInfo) -> str:
        topics = {name: value for name, value in info.data.items() if name.endswith("_topic")}
        differs(topic, topics, ProblemReason.SAME_TOPIC)
        return topic

    def client_options(self) -> dict[str, Any]:
        """What aiokafka's clients are given to reach the brokers.  Raises ssl.SSLError on a bad `ca_file`."""
        security = self.security
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap.split(","),
            "client_id": self.client_id,
            "security_protocol": security.protocol,
        }
        if security.protocol.endswith("SSL"):
            options["ssl_context"] = ssl.create_default_context(cafile=security.ca_file)
        if security.sasl_password is not None:
            options |= {
                "sasl_mechanism": security.sasl_mechanism,
                "sasl_plain_username": security.sasl_username,
                "sasl_plain_password": security.sasl_password.get_secret_value(),
            }
        return options


class Http(Section):
    """Two listeners: what providers and the lenders' apps reach, and health and metrics, never to be exposed.

    `read_timeout_seconds` bounds a request's head, and again its body; `idle_timeout_seconds` a connection between two
    requests.  `public_url` is the public listener's address as providers see it.  `app_tokens` are bearers of POST
    /events/push: the current one first, then the previous one while it is being replaced.
    """

    public_host: Host = "0.0.0.0"  # noqa: S104  providers come from outside
    public_port: Port = 8080
    internal_host: Host = "127.0.0.1"
    internal_port: Port = 8081
    public_url: PublicUrl
    max_body_bytes: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 256 * 1024
    read_timeout_seconds: Seconds = 5.0
    idle_timeout_seconds: Seconds = 75.0
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 1000
    app_tokens: tuple[Token, ...] = ()

    @field_validator("internal_port")
    @classmethod
    def _own_port(cls, port: int, info: ValidationInfo) -> int:
        if port:
            differs(port, {"public_port": info.data.get("public_port")}, ProblemReason.SAME_PORT)
        return port
