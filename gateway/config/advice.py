"""What is allowed and not wise: told by check-config, and no reason to refuse a start."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final

from gateway.config import dsn
from gateway.config.model import Config
from gateway.loopback import is_loopback
from schemas.vocabulary import Mode

_SOON: Final = dt.timedelta(days=14)


def advice(config: Config, now: dt.datetime) -> Iterator[tuple[str, str]]:
    """The path of a key, and what is to be said of it."""
    security = config.kafka.security
    if config.mode is Mode.LIVE:
        if (open_to := dsn.advice(config.database.dsn.get_secret_value())) is not None:
            yield "database.dsn", open_to
        brokers = (each.rpartition(":")[0] for each in config.kafka.bootstrap.split(","))
        if security.tls is None and not all(map(is_loopback, brokers)):
            what = "the password and every message travel" if security.sasl_password else "every message travels"
            yield "kafka.security.protocol", f"{what} in the clear; use SASL_SSL or SSL"
    expires_at = None if security.tls is None else security.tls.expires_at
    if expires_at is not None and expires_at - now < _SOON:
        when = f"{expires_at:%Y-%m-%d %H:%M} UTC"
        yield "kafka.security.cert_file", f"expired at {when}" if expires_at <= now else f"expires at {when}"
    proxies = {"": config.outbound} | {f"providers.{name}.": each.outbound for name, each in config.providers.items()}
    for prefix, outbound in proxies.items():
        if config.mode is Mode.SIMULATE and outbound.proxy is not None:
            yield f"{prefix}outbound.proxy_url", "is not used in mode simulate"
