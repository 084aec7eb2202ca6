"""Certificates, proxies and what a Postgres address says of TLS: good, wrong, unwise."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticCustomError

from gateway import parameters
from gateway.config import Config, advice, describe
from gateway.config.tls import certificate, check_authorities, check_key
from tests.stack.certificates import Authority, swap
from tests.unit.config.case import Case
from tests.unit.observability.test_certificates import bundle

_DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def problems(case: Case) -> set[tuple[str, str]]:
    return {(each.path, each.reason.value) for each in case.problems()}


# --- Kafka ------------------------------------------------------------------------------------------------------------


def mutual(authority: Authority, **changes: Any) -> dict[str, Any]:
    pair = authority.pair("client", password="canary-key-password")
    security = {
        "protocol": "SSL",
        "ca_file": str(authority.file),
        "cert_file": str(pair.cert),
        "key_file": str(pair.key),
        "key_password": "env:KEY_PASSWORD",
    }
    return {name: value for name, value in {**security, **changes}.items() if value is not None}


def test_our_own_certificate_is_in_the_context(case: Case, authority: Authority) -> None:
    case.environ["KEY_PASSWORD"] = "canary-key-password"
    case.put("kafka/security", mutual(authority))
    config = case.load()
    context = config.kafka.client_options()["ssl_context"]
    assert [each["subject"] for each in context.get_ca_certs()] == [((("commonName", "authority"),),)]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert "canary-key-password" not in repr(config) + str(describe(config))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"key_password": None}, ("key_file", "bad_certificate")),
        ({"key_password": "env:WRONG_PASSWORD"}, ("key_file", "bad_certificate")),
        ({"key_file": None}, ("key_file", "incomplete_tls")),
        ({"cert_file": None}, ("key_file", "incomplete_tls")),
        ({"ca_file": "/nowhere/ca.pem"}, ("ca_file", "unreadable_file")),
        ({"protocol": "PLAINTEXT"}, ("cert_file", "incomplete_tls")),
    ],
)
def test_what_does_not_belong_together_is_told(
    case: Case, authority: Authority, changes: dict[str, Any], wrong: tuple[str, str]
) -> None:
    case.environ |= {"KEY_PASSWORD": "canary-key-password", "WRONG_PASSWORD": "canary-wrong-password"}
    case.put("kafka/security", mutual(authority, **changes))
    assert (f"kafka.security.{wrong[0]}", wrong[1]) in problems(case)
    assert "canary" not in str(case.problems())


@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
@pytest.mark.parametrize(
    "content", [b"", b"\0binary", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_holds_something_else_is_told(
    case: Case, authority: Authority, tmp_path: Path, name: str, content: bytes
) -> None:
    case.environ["KEY_PASSWORD"] = "canary-key-password"
    file = tmp_path / "other"
    file.write_bytes(content)
    case.put("kafka/security", mutual(authority, **{name: str(file)}))
    assert problems(case) == {(f"kafka.security.{name}", "bad_certificate")}


@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
def test_a_file_that_cannot_be_read_is_told_with_the_reason(
    case: Case, authority: Authority, tmp_path: Path, name: str
) -> None:
    """A pipe as well, which would be waited for."""
    case.environ["KEY_PASSWORD"] = "canary-key-password"
    os.mkfifo(tmp_path / "pipe")
    for path, why in {"gone": "No such file or directory", "": "it is no file", "pipe": "it is no file"}.items():
        case.put("kafka/security", mutual(authority, **{name: str(tmp_path / path)}))
        assert list(map(str, case.problems())) == [f"kafka.security.{name}: cannot be read: {why} (unreadable_file)"]


def test_the_providers_authorities_that_cannot_be_read_are_told(case: Case, tmp_path: Path) -> None:
    case.put("providers/texts/outbound", {"ca_file": str(tmp_path / "gone")})
    (found,) = case.problems()
    assert str(found) == (
        "providers.texts.outbound.ca_file: cannot be read: No such file or directory (unreadable_file)"
    )


def test_a_locked_file_is_told(authority: Authority) -> None:
    pair = authority.pair("client")
    for path in (authority.file, pair.cert, pair.key):
        path.chmod(0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)  # to root no file is locked
    try:
        for read in (partial(check_authorities, authority.file), partial(check_key, pair.cert, pair.key, None)):
            with pytest.raises(PydanticCustomError, match="cannot be read: Permission denied"):
                read()
    finally:
        os.seteuid(was)


def test_a_key_of_another_certificate_is_told(case: Case, authority: Authority) -> None:
    case.put("kafka/security", mutual(authority, key_file=str(authority.pair("another").key), key_password=None))
    (found,) = case.problems()
    assert str(found) == "kafka.security.key_file: is not the key of the certificate (bad_certificate)"


def test_what_was_read_stays_in_force_and_another_content_differs(case: Case, authority: Authority) -> None:
    case.environ["KEY_PASSWORD"] = "canary-key-password"
    case.put("kafka/security", mutual(authority))
    first, same = case.load(), case.load()
    assert first.kafka.security == same.kafka.security
    authority.pair("client", password="canary-key-password")
    assert first.kafka.security != case.load().kafka.security
    swap(authority.file, b"gone")
    assert isinstance(first.kafka.client_options()["ssl_context"], ssl.SSLContext)


# --- the database -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "reason", "says"),
    [
        ("sslmode=verify_everything", "wrong_value", "its sslmode must be one of"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "unreadable_file", "its sslrootcert cannot be read"),
        ("sslmode=require&sslcert={key}&sslkey={key}", "bad_certificate", "its sslcert holds no certificate"),
        ("sslmode=require&sslcert={cert}&sslkey={other}", "bad_certificate", "its sslkey is not the key"),
        ("sslmode=require&sslcert={cert}", "incomplete_tls", "its sslcert needs sslkey"),
        ("sslmode=verify-full", "incomplete_tls", "its sslmode=verify-full needs sslrootcert"),
        ("sslmode=verify-ca", "incomplete_tls", "its sslmode=verify-ca needs sslrootcert"),
    ],
)
def test_an_address_with_files_that_will_not_do_is_told(
    case: Case, authority: Authority, query: str, reason: str, says: str
) -> None:
    pair, other = authority.pair("client"), authority.pair("other")
    query = query.format(cert=pair.cert, key=pair.key, other=other.key)
    case.environ["DSN"] = f"postgresql://canary-user:canary-password@db/reminders?{query}"
    (found,) = case.problems()
    assert (found.path, found.reason.value) == ("database.dsn", reason)
    assert found.message.startswith(says)
    assert "canary" not in str(found)
    assert str(authority.home) not in str(found)


@pytest.mark.parametrize(
    ("place", "query", "says"),
    [
        ("db", "", "in the clear"),
        ("db:5432", "sslmode=prefer", "in the clear"),
        ("127.0.0.1,db", "sslmode=disable", "in the clear"),
        ("", "host=db", "in the clear"),
        ("db", "sslmode=require", "who answers"),
        ("db", "sslmode=verify-ca&sslrootcert={ca}", "who answers"),
        ("db", "sslmode=verify-full&sslrootcert={ca}", None),
        ("127.0.0.1:5432", "", None),
        ("localhost", "", None),
        ("[::1]:5432", "", None),
        ("[2001:db8::1]:5432", "", "in the clear"),
        ("", "host=/var/run/postgresql", None),
        ("%2Fvar%2Frun", "", None),
    ],
)
def test_what_an_address_leaves_open_is_advised(
    case: Case, authority: Authority, place: str, query: str, says: str | None
) -> None:
    case.environ["DSN"] = f"postgresql://me:it@{place}/reminders?{query.format(ca=authority.file)}".rstrip("?")
    found = dict(advice(case.load(), NOW))
    assert (says is None) == ("database.dsn" not in found)
    assert says is None or says in found["database.dsn"]


def test_only_where_people_are_reached(case: Case) -> None:
    case.put("kafka/bootstrap", "kafka.example:9092")
    assert set(dict(advice(case.load(), NOW))) == {"database.dsn", "kafka.security.protocol"}
    case.put("mode", "allowlist")
    assert dict(advice(case.load(), NOW)) == {}


def test_a_certificate_of_ours_that_ends_is_advised(case: Case, authority: Authority) -> None:
    pair = authority.pair("ours", until=5 * _DAY)
    case.put("kafka/security", mutual(authority, cert_file=str(pair.cert), key_file=str(pair.key), key_password=None))
    key = "kafka.security.cert_file"
    assert dict(advice(case.load(), NOW))[key].startswith("expires at ")
    assert dict(advice(case.load(), NOW + 6 * _DAY))[key].startswith("expired at ")
    assert key not in dict(advice(case.load(), NOW - 10 * _DAY))


def test_one_file_may_hold_both_halves(case: Case, authority: Authority) -> None:
    pair = authority.pair("client")
    case.environ["DSN"] = f"postgresql://me:it@127.0.0.1/reminders?sslmode=require&sslcert={pair.both}"
    case.load()


def test_what_asyncpg_finds_by_itself_need_not_be_named(
    case: Case, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = authority.pair("client")
    case.environ["DSN"] = f"postgresql://me:it@127.0.0.1/reminders?sslmode=verify-full&sslcert={pair.cert}"
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".postgresql").mkdir()
    assert problems(case) == {("database.dsn", "incomplete_tls")}
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert "needs sslkey" in str(case.error())
    monkeypatch.setenv("PGSSLKEY", str(pair.key))
    case.load()


def test_an_authority_that_ends_is_advised_wherever_it_counts(case: Case, authority: Authority, tmp_path: Path) -> None:
    """The first of a few to end; once it has ended beside a good one, the next."""
    pair, ends = authority.pair("ours", until=40 * _DAY), NOW + 30 * _DAY
    both = tmp_path / "both.pem"
    both.write_bytes(Authority(tmp_path, "younger", until=90 * _DAY).file.read_bytes() + authority.file.read_bytes())
    query = f"sslmode=verify-full&sslrootcert={both}&sslcert={pair.cert}&sslkey={pair.key}"
    case.environ["DSN"] = f"postgresql://me:it@db/reminders?{query}"
    case.put("kafka/security", {"protocol": "SSL", "ca_file": str(authority.file)})
    case.put("outbound", {"ca_file": str(both)})
    case.put("providers/texts/outbound", {"ca_file": str(authority.file)})
    config = case.load()

    def said(now: dt.datetime) -> list[tuple[str, str]]:
        return [(path, what.rpartition(" at ")[0]) for path, what in advice(config, now)]

    assert said(ends - 15 * _DAY) == []
    assert said(ends - 13 * _DAY) == [
        ("database.dsn", "an authority in its sslrootcert expires"),
        ("kafka.security.ca_file", "an authority in it expires"),
        ("outbound.ca_file", "an authority in it expires"),
        ("providers.texts.outbound.ca_file", "an authority in it expires"),
    ]
    assert said(NOW + 41 * _DAY) == [
        ("database.dsn", "its sslcert expired"),
        ("kafka.security.ca_file", "an authority in it expired"),
        ("providers.texts.outbound.ca_file", "an authority in it expired"),
    ]
    assert said(NOW + 91 * _DAY)[:2] == [
        ("database.dsn", "its sslcert expired"),
        ("database.dsn", "an authority in its sslrootcert expired"),
    ]
    exactly = certificate(authority.file).not_valid_after_utc  # made a moment after NOW: perhaps in the next minute
    assert f"expires at {exactly:%Y-%m-%d %H:%M} UTC" in dict(advice(config, ends - _DAY))["outbound.ca_file"]


def test_a_bundle_is_advised_of_when_nothing_in_it_is_left(case: Case, authority: Authority, tmp_path: Path) -> None:
    """In the system's some stranger's authority always ends soon."""
    both = tmp_path / "both.pem"
    both.write_bytes(bundle(1) + authority.file.read_bytes())
    case.environ["DSN"] = f"postgresql://me:it@db/reminders?sslmode=verify-full&sslrootcert={both}"
    case.put("kafka/security", {"protocol": "SSL", "ca_file": str(both)})
    case.put("outbound", {"ca_file": str(both)})
    config = case.load()
    assert list(advice(config, NOW)) == []
    assert [path for path, _ in advice(config, NOW + 4090 * _DAY)] == [
        "database.dsn", "kafka.security.ca_file", "outbound.ca_file",
    ]  # fmt: skip


# --- the way to providers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "proxy:3128", "https://proxy:3128", "socks5://proxy", "http://", "http://proxy:0", "http://proxy:99999",
        "http://proxy/path", "http://proxy?x", "Direct", "",
    ],
)  # fmt: skip
def test_a_proxy_is_a_host_and_a_port(case: Case, url: str) -> None:
    case.put("outbound", {"proxy_url": url})
    assert problems(case) == {("outbound.proxy_url", "wrong_value")}


def test_a_login_never_stands_in_the_url(case: Case) -> None:
    case.put("outbound", {"proxy_url": "http://canary:canary@proxy:3128"})
    (found,) = case.problems()
    assert (found.path, found.reason.value) == ("outbound.proxy_url", "literal_secret")
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("outbound", "login", "reason"),
    [
        ({}, "me:it", "wrong_value"),
        ({"proxy_url": "direct"}, "me:it", "wrong_value"),
        ({"proxy_url": "http://proxy"}, "canary", "wrong_value"),
        ({"proxy_url": "http://proxy"}, "me:it\r\nx", "wrong_value"),
    ],
)
def test_a_login_is_a_user_and_a_password_of_a_proxy(
    case: Case, outbound: dict[str, str], login: str, reason: str
) -> None:
    case.environ["PROXY"] = login
    case.put("outbound", {**outbound, "proxy_credentials": "env:PROXY"})
    assert problems(case) == {("outbound.proxy_credentials", reason)}


def test_a_providers_own_way_comes_before_the_common_one(case: Case, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    case.environ["PROXY"] = "me:canary-proxy-password"
    case.put(
        "outbound",
        {"ca_file": str(authority.file), "proxy_url": "http://proxy.example", "proxy_credentials": "env:PROXY"},
    )
    case.put("providers/calls/outbound", {"proxy_url": "direct"})
    case.put("providers/bells/outbound", {"ca_file": str(other.file), "proxy_url": "http://[2001:db8::1]:8080"})
    config = case.load()
    found = {name: way(config, name) for name in config.providers}
    assert found == {
        "texts": ("authority", ("proxy.example", 3128, "me:canary-proxy-password")),
        "calls": ("authority", None),
        "bells": ("other", ("2001:db8::1", 8080, None)),
    }
    assert "canary-proxy" not in repr(config) + str(describe(config)) + repr(
        parameters.transport(config, config.providers["texts"])
    )


def test_no_proxy_in_mode_simulate(case: Case) -> None:
    case.put("outbound", {"proxy_url": "http://127.0.0.1:3128"})
    case.put("mode", "simulate")
    for name in case.tree["providers"]:
        case.put(f"providers/{name}/settings/base_url", "http://127.0.0.1:4010")
    config = case.load()
    assert {way(config, name)[1] for name in config.providers} == {None}
    assert dict(advice(config, NOW))["outbound.proxy_url"] == "is not used in mode simulate"


def way(config: Config, name: str) -> tuple[str | None, tuple[str, int, str | None] | None]:
    tls, proxy = parameters.outbound(config, config.providers[name])
    (who,) = tls.get_ca_certs() if tls is not None else (None,)
    place = None if proxy is None else (proxy.host, proxy.port, proxy.login)
    return who and who["subject"][0][0][1], place
