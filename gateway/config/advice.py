"""What is allowed and not wise: told by check-config, and no reason to refuse a start."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.config import dsn
from gateway.config.model import Config
from gateway.config.outbound import Outbound
from gateway.config.tls import expiry
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
    for path, what, file in _files(config):
        if (at := expiry(file, now)) is not None and at - now < _SOON:
            yield path, f"{what} {'expired' if at <= now else 'expires'} at {at:%Y-%m-%d %H:%M} UTC".lstrip()
    for prefix, outbound in _ways(config):
        if config.mode is Mode.SIMULATE and outbound.proxy is not None:
            yield f"{prefix}outbound.proxy_url", "is not used in mode simulate"


def _ways(config: Config) -> Iterator[tuple[str, Outbound]]:
    yield "", config.outbound
    for name, provider in config.providers.items():
        yield f"providers.{name}.", provider.outbound


def _files(config: Config) -> Iterator[tuple[str, str, Path]]:
    """The path of a key, what of it ends ("" for all of it), and the file that holds it."""
    for what, file in dsn.files(config.database.dsn.get_secret_value()):
        yield "database.dsn", what, file
    security = config.kafka.security
    if security.cert_file is not None:
        yield "kafka.security.cert_file", "", security.cert_file
    files = [
        ("kafka.security.", security.ca_file),
        *((f"{prefix}outbound.", way.ca_file) for prefix, way in _ways(config)),
    ]
    for prefix, ca_file in files:
        if ca_file is not None:
            yield f"{prefix}ca_file", "an authority in it", ca_file
