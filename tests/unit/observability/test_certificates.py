"""Certificates are found by the type of their key, and the one that counts is told."""

import asyncio
import datetime as dt
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from gateway.config import Config
from gateway.config.connections import Database, Kafka, Security
from gateway.config.tls import expiry
from gateway.observability import certificates
from gateway.observability.certificates import Certificates, files_of
from schemas.vocabulary import Mode

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(days: float, *, authority: bool = False) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    end = NOW + dt.timedelta(days=days)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(end - dt.timedelta(days=400))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def key() -> bytes:
    return KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authority(days: float) -> bytes:
    return certificate(days, authority=True)


def bundle(first_ends_in: float) -> bytes:
    """As many authorities as a system has, each of some stranger; the last of them ends in 4099 days."""
    return b"".join(map(authority, (first_ends_in, *range(4000, 4100)))) + numbered_zero(authority(4050))


def numbered_zero(pem: bytes) -> bytes:
    """With a serial number that `cryptography` warns of; public bundles have such."""
    one, zero = (b"\xa0\x03\x02\x01\x02\x02\x01" + number for number in (b"\x01", b"\x00"))
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    assert one in der
    return ssl.DER_cert_to_PEM_cert(der.replace(one, zero)).encode()


@pytest.mark.parametrize(
    ("content", "days"),
    [
        (certificate(10), 10),
        (certificate(10) + authority(500), 10),
        (certificate(100) + authority(50), 50),
        (certificate(-1) + authority(50), -1),
        (key() + certificate(10), 10),
        (authority(300), 300),
        (authority(-3) + authority(300), 300),
        (authority(30) + authority(300), 30),
        (authority(-3) + authority(-30), -3),
        (authority(2) + 4 * authority(300), 2),
        (authority(2) + 5 * authority(300), 300),
        (6 * authority(-3) + authority(-2), -2),
        (key(), None),
        (b"", None),
        (b"-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n", None),
    ],
)
def test_which_certificate_of_a_file_counts(tmp_path: Path, content: bytes, days: float | None) -> None:
    path = tmp_path / "some.pem"
    path.write_bytes(content)
    assert expiry(path, NOW) == (None if days is None else NOW + dt.timedelta(days=days))


@pytest.mark.parametrize(
    ("before", "first_ends_in", "after", "days"),
    [
        (b"", 1, b"", 4099),
        (b"", -1000, b"", 4099),
        (b"", 1, authority(30), 4099),
        (authority(30), 1, b"", 4099),
        (certificate(10), 1, b"", 10),
    ],
)
def test_of_a_bundle_the_last_counts_and_ours_before_it(
    tmp_path: Path, before: bytes, first_ends_in: float, after: bytes, days: float
) -> None:
    path = tmp_path / "bundle.pem"
    path.write_bytes(before + bundle(first_ends_in) + after)
    assert expiry(path, NOW) == NOW + dt.timedelta(days=days)


def test_what_is_no_small_file_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(certificate(1) + b" " * 2_000_000)
    assert [expiry(tmp_path / name, NOW) for name in ("large", "missing", "")] == [None] * 3


def configured(dsn: str = "postgresql://a:b@c/d", **security: Any) -> Config:
    """As much of a configuration as has files in it."""
    return Config.model_construct(
        mode=Mode.SIMULATE,
        database=Database(dsn=SecretStr(dsn)),
        kafka=Kafka(bootstrap="a:1", security=Security(protocol="SSL", **security)),
        http=None,
        sealing=None,
        lenders={},
    )


def test_every_key_that_names_a_file_is_watched(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority(20))
    found = dict(files_of(configured(f"postgresql://u:p@h/d?sslmode=verify-full&sslrootcert={ca}", ca_file=ca)))
    assert found == {"kafka.security.ca_file": ca, "database.dsn.sslrootcert": ca}


async def test_a_new_certificate_is_seen_and_a_broken_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_EVERY_SECONDS", 0.01)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority(20))
    registry = CollectorRegistry()

    def told() -> float | None:
        name = "reminder_gateway_certificate_expiry_timestamp_seconds"
        return registry.get_sample_value(name, {"key": "kafka.security.ca_file"})

    async def until(good: Callable[[float | None], bool]) -> None:
        async with asyncio.timeout(20):
            while not good(told()):
                await asyncio.sleep(0.01)

    running = asyncio.create_task(Certificates(registry, configured(ca_file=ca)).run())
    try:
        await until(lambda at: at == (NOW + dt.timedelta(days=20)).timestamp())
        ca.write_bytes(b"broken")
        await asyncio.sleep(0.1)
        assert told() == (NOW + dt.timedelta(days=20)).timestamp()
        ca.write_bytes(authority(90))
        await until(lambda at: at == (NOW + dt.timedelta(days=90)).timestamp())
        ca.write_bytes(bundle(1))
        await until(lambda at: at == (NOW + dt.timedelta(days=4099)).timestamp())
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_without_a_certificate_there_is_nothing_to_run() -> None:
    await Certificates(CollectorRegistry(), configured()).run()
