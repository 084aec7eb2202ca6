"""Why a server cannot be reached: codes of errors as they come, and nothing of their texts."""

import errno
import socket
import ssl

import aiokafka.errors
import asyncpg
import pytest

from gateway.unreachable import Unreachable, why


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed: for canary.example")
    error.verify_code = code
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "canary"), Unreachable.REFUSED),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), Unreachable.REFUSED),
        (OSError(errno.EHOSTUNREACH, "No route"), Unreachable.REFUSED),
        (socket.gaierror(-2, "Name or service not known"), Unreachable.DNS),
        (UnicodeError("label empty or too long"), Unreachable.DNS),
        (TimeoutError(), Unreachable.SILENT),
        (ConnectionResetError(), Unreachable.CLOSED),
        (ConnectionError('PostgreSQL server at "canary:5432" rejected SSL upgrade'), Unreachable.NO_TLS),
        (tls("WRONG_VERSION_NUMBER"), Unreachable.NO_TLS),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Unreachable.OUR_CERTIFICATE),
        (tls("SSLV3_ALERT_CERTIFICATE_EXPIRED"), Unreachable.OUR_CERTIFICATE),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), Unreachable.OUR_CERTIFICATE),
        (tls("UNEXPECTED_EOF_WHILE_READING"), Unreachable.TLS),
        (verification(10), Unreachable.EXPIRED),
        (verification(9), Unreachable.NOT_YET_VALID),
        (verification(62), Unreachable.WRONG_NAME),
        (verification(64), Unreachable.WRONG_NAME),
        (verification(18), Unreachable.UNTRUSTED),
        (verification(20), Unreachable.UNTRUSTED),
        (asyncpg.InvalidPasswordError("canary"), Unreachable.LOGIN),
        (asyncpg.InvalidAuthorizationSpecificationError("canary"), Unreachable.LOGIN),
        (asyncpg.ClientConfigurationError("canary"), Unreachable.SETTINGS),
        (FileNotFoundError(errno.ENOENT, "canary"), Unreachable.SETTINGS),
        (aiokafka.errors.for_code(58)("canary"), Unreachable.LOGIN),
        (aiokafka.errors.UnsupportedSaslMechanismError(), Unreachable.MECHANISM),
        (ValueError("canary"), None),
        (OSError(errno.EADDRINUSE, "Address already in use"), None),
        (OSError(errno.ENOSPC, "No space left"), None),
        (asyncpg.UndefinedTableError("canary"), None),
    ],
)
def test_an_error_has_its_reason(error: BaseException, reason: Unreachable | None) -> None:
    assert why(error) is reason


def test_the_most_telling_of_what_led_to_it_counts() -> None:
    error = aiokafka.errors.KafkaConnectionError("Connection at canary:9093 closed")
    error.__cause__ = ConnectionResetError()
    error.__cause__.__context__ = tls("TLSV13_ALERT_CERTIFICATE_REQUIRED")
    assert why(error) is Unreachable.OUR_CERTIFICATE
    assert why(ExceptionGroup("both", [TimeoutError(), verification(10)])) is Unreachable.EXPIRED


def test_a_circle_of_causes_ends() -> None:
    one, two = RuntimeError(), RuntimeError()
    one.__cause__, two.__cause__ = two, one
    assert why(one) is None
