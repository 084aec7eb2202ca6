"""TLS as configured: certificate files, read once, checked, and kept as the context that is in force.

Files are replaced in place (cert-manager, the kubelet).  What was read is what counts: a file that is just being
written, or was spoiled, never reaches a connection, and what differs from what is in force is seen by comparing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from cryptography import x509
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from gateway.config.problems import ProblemReason, misfit

_MOST: Final = 1024 * 1024
_MARK: Final = b"-----BEGIN CERTIFICATE-----"
_FEW: Final = 5  # as many certificates are a chain, or authorities that somebody has chosen; more are a bundle


@dataclass(frozen=True, slots=True)
class Tls:
    """A client's context; equal to every other that was made of the same contents."""

    made_of: bytes
    context: ssl.SSLContext = field(compare=False, repr=False)


def client_tls(ca: Path | None, cert: Path | None = None, key: Path | None = None, password: str | None = None) -> Tls:
    """What these files make.  Without `ca` the system's authorities count, with it only its own.

    Raises what a validator may raise.
    """
    made_of = hashlib.blake2b(digest_size=16)
    for path in (ca, cert, key):
        content = b"" if path is None else _content(path)
        made_of.update(b"%d:%b" % (len(content), content))
    made_of.update((password or "").encode())
    context = ssl.create_default_context(cadata=None if ca is None else check_authorities(ca))
    if cert is not None and key is not None:
        _load_pair(context, cert, key, password)
    return Tls(made_of.digest(), context)


def check_authorities(path: Path) -> str:
    """The certificates of the file as PEM; raises unless there is at least one, and each can be read."""
    pem = _content(path).decode("ascii", "ignore")  # what stands between them may be in any language
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise misfit(ProblemReason.BAD_CERTIFICATE, "holds no certificates in PEM that can be read") from None
    return pem


def _vouching(path: Path) -> Path:
    check_authorities(path)
    return path


def expiry(path: Path, now: dt.datetime) -> dt.datetime | None:
    """When what is in the file no longer counts; None where there is no certificate that can be read.

    Ours (the first is no authority) and what vouches for it: the first to end.  Up to five authorities: the first to
    end of those that are good; one that has ended beside another is left over from a change.  More are a bundle, such
    as the system's, in which some stranger's authority always ends soon: when the last of it ends.
    """
    try:
        content = _content(path)
        if _MARK not in content:
            return None
        first = x509.load_pem_x509_certificate(content)
        if content.count(_MARK) > _FEW:
            return _last_of_a_bundle(content) if _is_authority(first) else first.not_valid_after_utc
        ends = [each.not_valid_after_utc for each in x509.load_pem_x509_certificates(content)]
    except (PydanticCustomError, ssl.SSLError, ValueError):
        return None
    if not _is_authority(first):
        return min(ends)
    return min((end for end in ends if end > now), default=max(ends))


def _last_of_a_bundle(content: bytes) -> dt.datetime:
    """By OpenSSL: public bundles hold what `cryptography` will not read for ever, such as serial numbers of zero."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    last = max(ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs())
    return dt.datetime.fromtimestamp(last, dt.UTC)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def certificate(path: Path) -> x509.Certificate:
    """The first of the file: our own, before those that vouch for it."""
    content = _content(path)
    try:
        return x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        raise misfit(ProblemReason.BAD_CERTIFICATE, "holds no certificate in PEM that can be read") from None


def check_key(cert: Path, key: Path, password: str | None) -> None:
    """Raises unless `key` can be read and is that of `cert`."""
    _load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert, key, password)


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path, password: str | None) -> None:
    _content(key)
    try:
        # Never None: OpenSSL would ask at the terminal.
        context.load_cert_chain(cert, key, password=lambda: password or "")
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise misfit(ProblemReason.BAD_CERTIFICATE, "is not the key of the certificate") from None
        message = "is no key in PEM that can be read; an encrypted one needs its password"
        raise misfit(ProblemReason.BAD_CERTIFICATE, message) from None
    except OSError as error:
        raise misfit(ProblemReason.UNREADABLE_FILE, f"cannot be read: {error.strerror}") from None


def _content(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise misfit(ProblemReason.UNREADABLE_FILE, "cannot be read: it is no file")
        with path.open("rb") as file:
            content = file.read(_MOST + 1)
    except OSError as error:
        raise misfit(ProblemReason.UNREADABLE_FILE, f"cannot be read: {error.strerror}") from None
    if len(content) > _MOST:
        raise misfit(ProblemReason.UNREADABLE_FILE, "is larger than 1 MiB")
    return content


# The value of every key that names authorities: a file that holds some, when the configuration is read.
Authorities = Annotated[Path, AfterValidator(_vouching)]
