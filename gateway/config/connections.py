"""What the service is connected to: Postgres, Kafka, and its own two HTTP listeners."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator

from gateway.config.base import Count, Host, Port, PublicUrl, Seconds, Section, Token, Topic, differs
from gateway.config.dsn import check_tls
from gateway.config.problems import ProblemReason, misfit
from gateway.config.tls import Authorities, Tls, certificate, check_key, client_tls
from providers.contract import PUBLIC_HALF, Secret
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC, REQUESTS_TOPIC


class Database(Section):
    """`statement_cache` is 0 behind PgBouncer in transaction mode.  TLS is the DSN's business: sslmode, sslrootcert…"""

    dsn: Secret
    pool_size: Count = 10
    statement_timeout_seconds: Seconds = 10.0
    statement_cache: Annotated[int, Field(ge=0, le=100_000)] = 256

    @field_validator("dsn")
    @classmethod
    def _is_postgres(cls, dsn: SecretStr) -> SecretStr:
        if not dsn.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise misfit(ProblemReason.WRONG_VALUE, "must begin with postgresql://")
        check_tls(dsn.get_secret_value())
        return dsn

    def same_place(self, other: Database) -> bool:
        """Whether both lead to one database, whoever they log in as."""
        return _place(self.dsn) == _place(other.dsn)


def _place(dsn: SecretStr) -> tuple[str, str, list[tuple[str, str]]]:
    parts = urlsplit(dsn.get_secret_value())
    options = [each for each in parse_qsl(parts.query) if each[0] not in ("user", "password", "sslpassword")]
    return parts.netloc.rpartition("@")[2], parts.path, options


class Security(Section):
    """How the brokers are reached.  Without `ca_file` the system's certificate authorities count, with it only its own.

    `cert_file` and `key_file` are our own certificate, for brokers that ask for one.  Two are equal when their files
    hold the same, too.
    """

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ca_file: Authorities | None = None
    cert_file: Path | None = None
    key_password: Secret | None = None
    key_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: Annotated[str, Field(min_length=1), PUBLIC_HALF] | None = None
    sasl_password: Secret | None = None

    _tls: Tls | None = PrivateAttr(default=None)

    # Before the file is looked at: where it has no business, what it holds is no matter.
    @field_validator("ca_file", "cert_file", "key_password", "key_file", mode="before")
    @classmethod
    def _comes_with_tls(cls, value: object, info: ValidationInfo) -> object:
        protocol = info.data.get("protocol")
        if value is not None and protocol is not None and not protocol.endswith("SSL"):
            raise misfit(ProblemReason.INCOMPLETE_TLS, f"is not for protocol {protocol}")
        return value

    @field_validator("cert_file")
    @classmethod
    def _is_a_certificate(cls, path: Path | None) -> Path | None:
        if path is not None:
            certificate(path)
        return path

    @field_validator("key_file")
    @classmethod
    def _is_its_key(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if not {"cert_file", "key_password"} <= info.data.keys():
            return path  # those are told by themselves
        cert, password = info.data["cert_file"], info.data["key_password"]
        if path is None and (cert is not None or password is not None):
            raise misfit(ProblemReason.INCOMPLETE_TLS, "is needed with cert_file and key_password")
        if path is not None and cert is None:
            raise misfit(ProblemReason.INCOMPLETE_TLS, "is of no use without cert_file")
        if path is not None:
            check_key(cert, path, _text(password))
        return path

    @field_validator("sasl_mechanism", "sasl_username", "sasl_password")
    @classmethod
    def _comes_with_sasl(cls, value: object, info: ValidationInfo) -> object:
        protocol = info.data.get("protocol")
        if protocol is not None and (value is not None) != protocol.startswith("SASL_"):
            need = "is not for" if value is not None else "is needed with"
            raise misfit(ProblemReason.INCOMPLETE_SASL, f"{need} protocol {protocol}")
        return value

    @model_validator(mode="after")
    def _read_once(self) -> Self:
        if self.protocol.endswith("SSL") and self._tls is None:
            self._tls = client_tls(self.ca_file, self.cert_file, self.key_file, _text(self.key_password))
        return self

    @property
    def tls(self) -> Tls | None:
        """What the files made when this was read; None without TLS."""
        return self._tls


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


class Kafka(Section):
    """`bootstrap` is host:port, several with commas.  Where reading starts is the ledger's business, not a setting.

    Plans are made of what stands on `repayments_topic`; without one there are only the requests that others send.
    """

    bootstrap: Annotated[str, Field(pattern=r"^[^\s,:]+:[0-9]+(,[^\s,:]+:[0-9]+)*$")]
    group: Annotated[str, Field(min_length=1, max_length=249)] = "reminder-gateway"
    requests_topic: Topic = REQUESTS_TOPIC
    repayments_topic: Topic | None = None
    events_topic: Topic = EVENTS_TOPIC
    deadletters_topic: Topic = DEADLETTERS_TOPIC
    client_id: Annotated[str, Field(min_length=1, max_length=249)] = "reminder-gateway"
    max_poll_records: Count = 500
    fetch_wait_seconds: Seconds = 0.5
    session_timeout_seconds: Seconds = 30.0
    rebalance_timeout_seconds: Seconds = 60.0
    max_poll_interval_seconds: Seconds = 300.0
    security: Security = Security()

    @field_validator("repayments_topic", "events_topic", "deadletters_topic")
    @classmethod
    def _own_topic(cls, topic: str | None, info: ValidationInfo) -> str | None:
        if topic is None:
            return None
        topics = {name: value for name, value in info.data.items() if name.endswith("_topic")}
        differs(topic, topics, ProblemReason.SAME_TOPIC)
        return topic

    def client_options(self) -> dict[str, Any]:
        """What aiokafka's clients are given to reach the brokers."""
        security = self.security
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap.split(","),
            "client_id": self.client_id,
            "security_protocol": security.protocol,
        }
        if security.tls is not None:
            options["ssl_context"] = security.tls.context
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
