"""When the certificates of the configuration expire: every file that a key names and that holds one.

The keys are found by their type, so that a new one is watched without a word here.  What is told is the file as it is
now: a process may still use what it read when it connected.  Which certificate of a file counts, `expiry` says.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from prometheus_client import CollectorRegistry, Gauge
from pydantic import BaseModel

from gateway.config import Config
from gateway.config.tls import expiry
from gateway.observability.metrics import NAMESPACE

_EVERY_SECONDS: Final = 60.0
_OF_POSTGRES: Final = ("sslrootcert", "sslcert")


class Certificates:
    """A gauge by configuration key.  Run it as a task and cancel it; it never fails."""

    def __init__(self, registry: CollectorRegistry, config: Config) -> None:
        self._files = dict(files_of(config))
        self._gauge = Gauge(
            "certificate_expiry_timestamp_seconds",
            "When the certificate in the file of this key expires.",
            ("key",),
            namespace=NAMESPACE,
            registry=registry,
        )

    async def run(self) -> None:
        """Looks at the files every minute until it is cancelled."""
        while self._files:
            for key, at in (await asyncio.to_thread(self._look)).items():
                self._gauge.labels(key).set(at)
            await asyncio.sleep(_EVERY_SECONDS)

    def _look(self) -> dict[str, float]:
        """A file that cannot be read now keeps what was told of it."""
        now = dt.datetime.now(dt.UTC)
        found = ((key, expiry(path, now)) for key, path in self._files.items())
        return {key: at.timestamp() for key, at in found if at is not None}


def files_of(config: Config) -> Iterator[tuple[str, Path]]:
    """The path of each key whose value is a file's, and the file."""
    yield from _files(config, ())
    options = dict(parse_qsl(urlsplit(config.database.dsn.get_secret_value()).query))
    for name in _OF_POSTGRES:
        if name in options:
            yield f"database.dsn.{name}", Path(options[name])


def _files(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _files(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _files(item, (*path, str(name)))
    elif isinstance(value, Path):
        yield ".".join(path), value
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, item in enumerate(value):
            yield from _files(item, (*path, str(index)))
