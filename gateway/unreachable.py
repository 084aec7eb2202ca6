"""Why a server cannot be reached, as a code for health, logs and commands.

An exception's class says little of that and its text says too much: it may hold addresses and names.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from enum import StrEnum
from typing import Final


class Unreachable(StrEnum):
    REFUSED = "connect_refused"
    DNS = "dns_failure"
    SILENT = "no_answer"
    CLOSED = "connection_closed"  # also what a TLS server does with who speaks none
    NO_TLS = "server_speaks_no_tls"
    UNTRUSTED = "certificate_untrusted"
    WRONG_NAME = "certificate_for_another_name"
    EXPIRED = "certificate_expired"
    NOT_YET_VALID = "certificate_not_yet_valid"
    OUR_CERTIFICATE = "our_certificate_refused"  # or none was shown, and one is asked for
    TLS = "tls_failure"
    LOGIN = "login_refused"
    MECHANISM = "sasl_mechanism_refused"
    SETTINGS = "settings_unusable"  # what the address names is not there, or will not do


# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_VERIFY: Final = {
    9: Unreachable.NOT_YET_VALID,
    10: Unreachable.EXPIRED,
    62: Unreachable.WRONG_NAME,
    64: Unreachable.WRONG_NAME,  # of an IP address
}
# The alerts by which a server turns our certificate down (RFC 8446 §6.2).
_OUR_CERTIFICATE: Final = (
    "CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN", "ALERT_UNKNOWN_CA", "ACCESS_DENIED",
)  # fmt: skip
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
_NO_WAY: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)
# asyncpg's word for a server that answers `N` to an SSLRequest; it has no class of its own.
_SSL_REJECTED: Final = "rejected SSL upgrade"
# By name: who asks knows one of the libraries, and need not load the other.
_BY_CLASS: Final = {
    "AuthenticationFailedError": Unreachable.LOGIN,
    "SaslAuthenticationFailed": Unreachable.LOGIN,
    "UnsupportedSaslMechanismError": Unreachable.MECHANISM,
    "UnsupportedSaslMechanism": Unreachable.MECHANISM,
    "ClientConfigurationError": Unreachable.SETTINGS,
}


_VAGUE: Final = (Unreachable.CLOSED, Unreachable.SILENT, Unreachable.TLS, Unreachable.REFUSED)


def why(error: BaseException) -> Unreachable | None:
    """The most telling of the error and its causes; None when it speaks of something else."""
    found = [reason for each in _chain(error) if (reason := _of(each)) is not None]
    return next((each for each in found if each not in _VAGUE), found[0] if found else None)


def _of(error: BaseException) -> Unreachable | None:
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str) and state.startswith("28"):  # invalid authorization
        return Unreachable.LOGIN
    if (known := _BY_CLASS.get(type(error).__name__)) is not None:
        return known
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code, Unreachable.UNTRUSTED)
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if any(each in reason for each in _OUR_CERTIFICATE):
            return Unreachable.OUR_CERTIFICATE
        return Unreachable.NO_TLS if any(each in reason for each in _NO_TLS) else Unreachable.TLS
    if isinstance(error, socket.gaierror | UnicodeError):  # a name that cannot even be asked for
        return Unreachable.DNS
    if isinstance(error, ConnectionRefusedError):
        return Unreachable.REFUSED
    if isinstance(error, TimeoutError):
        return Unreachable.SILENT
    if isinstance(error, ConnectionError):
        return Unreachable.NO_TLS if _SSL_REJECTED in str(error) else Unreachable.CLOSED
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return Unreachable.SETTINGS
    # Of a name with several addresses asyncio tells what each has come to, in one text.
    several = isinstance(error, OSError) and error.errno is None and str(error).startswith("Multiple exceptions")
    return Unreachable.REFUSED if several or getattr(error, "errno", None) in _NO_WAY else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
