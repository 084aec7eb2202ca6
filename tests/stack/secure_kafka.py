"""A real Apache Kafka with a listener for every way of being secure, and for every way of getting it wrong."""

from __future__ import annotations

import datetime as dt
import secrets
from pathlib import Path
from typing import Any

from tests.stack.certificates import HERE, Authority, Pair
from tests.stack.kafka import KafkaServer

USER = "reminder-gateway"
_DAY = dt.timedelta(days=1)
_MODULE = "org.apache.kafka.common.security"


class SecureKafka(KafkaServer):
    """Its own clients use the plain listener, as ever.

    LOGIN is TLS with a password (SCRAM and PLAIN), MUTUAL asks for a client's certificate. The broker's certificate at
    EXPIRED was good until yesterday, that at NAMED is for another host.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.authority = Authority(home, "authority")
        self.passwords = {"SCRAM-SHA-512": secrets.token_hex(12), "PLAIN": secrets.token_hex(12)}
        past = {"since": -3 * _DAY, "until": -1 * _DAY}
        self.pairs = {
            "LOGIN": self.authority.pair("login"),
            "MUTUAL": self.authority.pair("mutual"),
            "EXPIRED": self.authority.pair("expired", **past),
            "NAMED": self.authority.pair("named", ["kafka.example"]),
        }
        plain = f'{_MODULE}.plain.PlainLoginModule required user_{USER}="{self.passwords["PLAIN"]}";'
        settings = {
            **{key: value for name, pair in self.pairs.items() for key, value in self._store(name, pair).items()},
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.login.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "listener.name.login.scram-sha-512.sasl.jaas.config": f"{_MODULE}.scram.ScramLoginModule required;",
            "listener.name.login.plain.sasl.jaas.config": plain,
        }
        listeners = {"LOGIN": "SASL_SSL", "MUTUAL": "SSL", "EXPIRED": "SSL", "NAMED": "SSL"}
        super().__init__(settings=settings, listeners=listeners, scram={USER: self.passwords["SCRAM-SHA-512"]})

    def _store(self, listener: str, pair: Pair) -> dict[str, str]:
        prefix = f"listener.name.{listener.lower()}.ssl"
        return {
            f"{prefix}.keystore.type": "PEM",
            f"{prefix}.keystore.location": str(pair.both),
            f"{prefix}.truststore.type": "PEM",
            f"{prefix}.truststore.location": str(self.authority.file),
        }

    def login(self, mechanism: str = "SCRAM-SHA-512", **changes: Any) -> dict[str, Any]:
        """The part `kafka` of a configuration that logs in; where the password is stands in `changes`."""
        security = {
            "protocol": "SASL_SSL",
            "ca_file": str(self.authority.file),
            "sasl_mechanism": mechanism,
            "sasl_username": USER,
        }
        return {"bootstrap": self.bootstrap_at("LOGIN"), "security": {**security, **changes}}

    def encrypted(self, listener: str, **changes: Any) -> dict[str, Any]:
        """The same, for a listener that wants no password."""
        security = {"protocol": "SSL", "ca_file": str(self.authority.file)}
        return {"bootstrap": self.bootstrap_at(listener), "security": {**security, **changes}}

    async def set_password(self, password: str) -> None:
        """From now on the user's new connections need this one; those that stand stay."""
        change = f"SCRAM-SHA-512=[iterations=4096,password={password}]"
        where = ("--entity-type", "users", "--entity-name", USER)
        await self.configure(self.home, "--alter", *where, "--add-config", change)

    async def renew_certificate(self, listener: str) -> None:
        """The broker's own, for this host too, good for days; it takes one only that can stand for the one before."""
        name = listener.lower()
        self.pairs[listener] = self.authority.pair(name, [*HERE, "kafka.example"], files=f"{name}-renewed")
        store = f"listener.name.{listener.lower()}.ssl.keystore.location={self.pairs[listener].both}"
        where = ("--entity-type", "brokers", "--entity-name", "1")
        await self.configure(self.home, "--alter", *where, "--add-config", store)
