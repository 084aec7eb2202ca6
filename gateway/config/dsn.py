"""What a Postgres address says of TLS.  asyncpg reads it at every connection; a mistake is told before the first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic_core import PydanticCustomError

from gateway.config.problems import ProblemReason, misfit
from gateway.config.tls import certificate, check_authorities, check_key
from gateway.loopback import is_loopback

# From the weakest to the strongest, as libpq has them.
_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFIED: Final = "verify-full"
_WITH_AUTHORITIES: Final = ("verify-ca", _VERIFIED)
_ENCRYPTED: Final = ("require", *_WITH_AUTHORITIES)


def check_tls(dsn: str) -> None:
    """Raises, as a validator may, when the address names a mode that there is not, or files that will not do.

    The message holds nothing of the address, which is a secret.
    """
    options = _options(dsn)
    mode = options.get("sslmode")
    if mode is not None and mode not in _MODES:
        raise misfit(ProblemReason.WRONG_VALUE, f"its sslmode must be one of {', '.join(_MODES)}")
    if mode == "disable":
        return
    root, cert, key = (_path(options, name) for name in ("sslrootcert", "sslcert", "sslkey"))
    if root is not None:
        _check("sslrootcert", check_authorities, root)
    elif mode in _WITH_AUTHORITIES and not _elsewhere("PGSSLROOTCERT", "root.crt"):
        message = f"its sslmode={mode} needs sslrootcert, the file of the authorities that count"
        raise misfit(ProblemReason.INCOMPLETE_TLS, message)
    if cert is None:
        return
    _check("sslcert", certificate, cert)
    if key is not None:
        _check("sslkey", check_key, cert, key, options.get("sslpassword"))
    elif not _elsewhere("PGSSLKEY", "postgresql.key"):
        try:
            check_key(cert, cert, options.get("sslpassword"))  # both may be in one file
        except PydanticCustomError:
            raise misfit(ProblemReason.INCOMPLETE_TLS, "its sslcert needs sslkey, the file of its key") from None


def _path(options: dict[str, str], name: str) -> Path | None:
    return Path(options[name]) if name in options else None


def _elsewhere(variable: str, name: str) -> bool:
    """Whether asyncpg finds it where the address is silent."""
    if os.environ.get(variable):
        return True
    try:
        return (Path.home() / ".postgresql" / name).exists()
    except (OSError, RuntimeError):  # no home, or none that may be looked into
        return False


def _check(name: str, check: Callable[..., object], *args: object) -> None:
    try:
        check(*args)
    except PydanticCustomError as error:
        raise misfit(ProblemReason(error.type), f"its {name} {error.message()}") from None


def advice(dsn: str) -> str | None:
    """What the address leaves open to somebody between us and the database; None when nothing, or on loopback."""
    mode = _options(dsn).get("sslmode", "prefer")
    if mode == _VERIFIED or all(map(_near, _hosts(dsn))):
        return None
    if mode not in _ENCRYPTED:
        return f"sslmode={mode} lets everything travel in the clear; use sslmode=verify-full with sslrootcert"
    return f"sslmode={mode} does not make sure who answers; use sslmode=verify-full with sslrootcert"


def files(dsn: str) -> Iterator[tuple[str, Path]]:
    """What the address names that ends some day, and its file: our own certificate, the authorities."""
    options = _options(dsn)
    if options.get("sslmode") == "disable":
        return
    for what, name in (("its sslcert", "sslcert"), ("an authority in its sslrootcert", "sslrootcert")):
        if (path := _path(options, name)) is not None:
            yield what, path


def _options(dsn: str) -> dict[str, str]:
    """The last of each, as asyncpg takes it."""
    try:
        return {name: values[-1] for name, values in parse_qs(urlsplit(dsn).query).items()}
    except ValueError:
        return {}


def _hosts(dsn: str) -> list[str]:
    """Where asyncpg would go: what stands before the path counts before the option."""
    place = urlsplit(dsn).netloc.rpartition("@")[2] or _options(dsn).get("host", "")
    hosts = (each.rpartition(":")[0] if ":" in each and not each.endswith("]") else each for each in place.split(","))
    return [each.strip("[]") for each in hosts]


def _near(host: str) -> bool:
    """On this machine; without a host, or with a path, it is a socket in the file system."""
    return not host or unquote(host).startswith("/") or is_loopback(host)
