"""What a gateway at work takes anew: secrets, their lists and what goes with them; nothing else, and nothing wrong."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import Config, ConfigError, Rotated, Source, describe
from providers.catalog import discover
from tests.stack.certificates import Authority, swap
from tests.unit.config.case import SECRETS, Case, Text, key

SEALED = "sealing-1"
FILES = {
    "dsn": SECRETS["DSN"],
    SEALED: key(b"1"),
    "index": key(b"i"),
    "text-key": "canary-text-key",
    "tokens": "canary-current-token-0123456789\ncanary-previous-token-0123456789\n",
}
TOKENS = "providers/texts/callback_tokens"


class Mute(Text):
    name = "mute"
    receipts = False


class Rotation:
    """A configuration whose secrets are files; `write` and `save` change them, `rotate` takes them."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.folder = folder
        for name, content in FILES.items():
            self.write(name, content)
        case.put("database/dsn", self.at("dsn"))
        case.put("sealing", {"keys": {"1": self.at(SEALED)}, "current": 1, "index_key": self.at("index")})
        case.put("providers/texts/settings/key", self.at("text-key"))
        case.put(TOKENS, [self.at("tokens")])
        self.running: Config = case.load()
        self.source = Source(case.path, case.environ, case.adapters)

    def at(self, name: str) -> str:
        return f"file:{self.folder / name}"

    def write(self, name: str, content: str | bytes) -> None:
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def save(self) -> None:
        self.case.path.write_text(yaml.safe_dump(self.case.tree), encoding="utf-8")

    def rotate(self) -> Rotated:
        return self.source.rotate(self.running)

    def problems(self) -> set[tuple[str, str]]:
        with pytest.raises(ConfigError) as caught:
            self.rotate()
        assert "canary" not in str(caught.value)
        return {(each.path, each.reason.value) for each in caught.value.problems}


@pytest.fixture
def rotation(case: Case, tmp_path: Path) -> Rotation:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return Rotation(case, folder)


def tokens(config: Config) -> list[str]:
    return [each.get_secret_value() for each in config.providers["texts"].callback_tokens]


def text_key(config: Config) -> str:
    value: str = config.providers["texts"].settings.model_dump()["key"].get_secret_value()
    return value


def test_one_file_of_a_list_holds_several(rotation: Rotation) -> None:
    assert tokens(rotation.running) == ["canary-current-token-0123456789", "canary-previous-token-0123456789"]
    rows = dict(describe(rotation.running))
    assert rows["providers.texts.callback_tokens.1"] == f"*** ({rotation.at('tokens')}), reloads"
    assert rows["sealing.index_key"] == f"*** ({rotation.at('index')}), never changes"


def test_lists_of_files_and_variables_keep_their_order(rotation: Rotation) -> None:
    rotation.case.put(TOKENS, ["env:TEXT_TOKEN", rotation.at("tokens"), "env:CALL_TOKEN"])
    rotation.save()
    after = rotation.rotate().config
    assert tokens(after) == [
        SECRETS["TEXT_TOKEN"], "canary-current-token-0123456789", "canary-previous-token-0123456789",
        SECRETS["CALL_TOKEN"],
    ]  # fmt: skip
    assert after.origin("providers.texts.callback_tokens.3") == "env:CALL_TOKEN"


def test_secrets_and_their_lists_are_taken(rotation: Rotation) -> None:
    rotation.write("text-key", "canary-new-key")
    rotation.write("tokens", "canary-newest-token-0123456789\ncanary-current-token-0123456789")
    rotation.write("dsn", "postgresql://canary-user2:canary-new@db/reminders")
    found = rotation.rotate()
    assert found.unapplied == ()
    assert text_key(found.config) == "canary-new-key"
    assert tokens(found.config) == ["canary-newest-token-0123456789", "canary-current-token-0123456789"]
    assert found.config.database.dsn.get_secret_value() == "postgresql://canary-user2:canary-new@db/reminders"
    assert text_key(rotation.running) == "canary-text-key"  # what was handed out before does not change


def test_a_sealing_key_is_added_made_current_and_removed(rotation: Rotation) -> None:
    rotation.write("sealing-2", key(b"2"))
    rotation.case.put("sealing/keys/2", rotation.at("sealing-2"))
    rotation.save()
    added = rotation.rotate().config
    assert (sorted(added.sealing.keys), added.sealing.current) == ([1, 2], 1)
    rotation.case.put("sealing/current", 2)
    rotation.save()
    assert rotation.rotate().config.sealing.current == 2
    rotation.case.drop("sealing/keys/1")
    rotation.save()
    assert sorted(rotation.rotate().config.sealing.keys) == [2]


def test_which_key_is_current_may_be_a_file(rotation: Rotation) -> None:
    """So that a key is made current in all processes by one Secret, without a new configuration."""
    rotation.write("sealing-2", key(b"2"))
    rotation.write("current", "1\n")
    rotation.case.put("sealing/keys/2", rotation.at("sealing-2"))
    rotation.case.put("sealing/current", rotation.at("current"))
    rotation.save()
    before = rotation.source.look()
    assert rotation.rotate().config.sealing.current == 1
    rotation.write("current", "2\n")
    assert rotation.source.look() != before
    assert rotation.rotate().config.sealing.current == 2
    rotation.write("current", "3")
    assert rotation.problems() == {("sealing.current", "unknown_key_id")}


def test_the_rest_is_noticed_and_not_applied(rotation: Rotation) -> None:
    rotation.write("text-key", "canary-new-key")
    rotation.case.put("log_level", "info")
    rotation.case.put("kafka/bootstrap", "other:9092")
    rotation.case.put("providers/texts/concurrency", 7)
    rotation.case.put("providers/more", {"adapter": "bell", "settings": {"base_url": "https://more.example.com"}})
    rotation.case.put("lenders/harbour/routes/push", "more")
    rotation.case.put("lenders/harbour/default_locale", "en")
    rotation.save()
    found = rotation.rotate()
    assert found.unapplied == (
        "kafka.bootstrap", "lenders.harbour.default_locale", "lenders.harbour.routes.push", "log_level", "providers",
        "providers.texts.concurrency",
    )  # fmt: skip
    assert text_key(found.config) == "canary-new-key"
    assert found.config.log_level == rotation.running.log_level
    assert found.config.kafka == rotation.running.kafka
    assert found.config.lenders == rotation.running.lenders
    assert found.config.providers.keys() == rotation.running.providers.keys()
    assert found.config.providers["texts"].concurrency == 32


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("settings/account", "other-account"),
        ("settings/base_url", "https://staging.example.com"),
        ("settings/nested", {}),
        ("adapter", "text_too"),
    ],
)
def test_another_accounts_secrets_wait_with_it(rotation: Rotation, key: str, value: Any) -> None:
    """A new key with the old account would be refused everywhere; with another host it would be given away."""
    rotation.case.adapters["text_too"] = rotation.case.adapters["text"]
    rotation.case.put(f"providers/texts/{key}", value)
    rotation.write("text-key", "canary-key-of-other-account")
    rotation.write("tokens", "canary-newest-token-0123456789")
    rotation.write("dsn", "postgresql://canary-user2:canary-new@db/reminders")
    rotation.save()
    found = rotation.rotate()
    assert found.config.providers["texts"].settings == rotation.running.providers["texts"].settings
    assert found.unapplied == tuple(
        sorted((f"providers.texts.{key.replace('/', '.')}", "providers.texts.settings.key"))
    )
    assert found.config.origin("providers.texts.settings.key") == rotation.at("text-key")
    # What belongs to us or to others rotates on.
    assert tokens(found.config) == ["canary-newest-token-0123456789"]
    assert found.config.database.dsn.get_secret_value() == "postgresql://canary-user2:canary-new@db/reminders"
    # It stays so at every look, and whatever becomes of the file that the old key was in.
    rotation.running = found.config
    rotation.case.put("providers/texts/settings/key", rotation.at("other-key"))
    rotation.write("other-key", "canary-third-key")
    (rotation.folder / "text-key").unlink()
    rotation.save()
    again = rotation.rotate()
    assert (text_key(again.config), again.unapplied) == ("canary-text-key", found.unapplied)


def asked_with(config: Config) -> tuple[str, str]:
    question = config.lenders["harbour"].question
    assert question is not None
    return question.url, question.token.get_secret_value()


def test_the_token_of_a_question_rotates_and_waits_with_its_url(rotation: Rotation) -> None:
    rotation.write("asks", "canary-first-token")
    rotation.case.put("lenders/harbour/question", {"url": "https://may.example.com", "token": rotation.at("asks")})
    rotation.running = rotation.case.load()
    rotation.write("asks", "canary-second-token")
    rotation.save()
    rotation.running = rotation.rotate().config
    assert asked_with(rotation.running) == ("https://may.example.com", "canary-second-token")
    rotation.write("asks", "canary-third-token")
    rotation.case.put("lenders/harbour/question/url", "https://other.example.com")
    rotation.save()
    found = rotation.rotate()
    assert asked_with(found.config) == ("https://may.example.com", "canary-second-token")
    assert found.unapplied == ("lenders.harbour.question.token", "lenders.harbour.question.url")


def test_an_account_that_comes_back_rotates_again(rotation: Rotation) -> None:
    rotation.case.put("providers/texts/settings/account", "A2")
    rotation.write("text-key", "canary-key-of-other-account")
    rotation.save()
    rotation.running = rotation.rotate().config
    rotation.case.put("providers/texts/settings/account", "A1")
    rotation.write("text-key", "canary-new-key")
    rotation.save()
    found = rotation.rotate()
    assert (text_key(found.config), found.unapplied) == ("canary-new-key", ())


def test_another_adapter_that_needs_no_token_keeps_nothing_from_rotating(rotation: Rotation) -> None:
    settings = {"base_url": "https://text.example.com", "account": "A1", "key": rotation.at("text-key")}
    rotation.case.adapters["mute"] = Mute()
    rotation.case.put("providers/texts", {"adapter": "mute", "settings": settings})
    rotation.write("dsn", "postgresql://canary-user2:canary-new@db/reminders")
    rotation.save()
    found = rotation.rotate()
    assert found.unapplied == ("providers.texts.adapter", "providers.texts.callback_tokens")
    assert tokens(found.config) == tokens(rotation.running)
    assert found.config.database != rotation.running.database


def test_a_provider_that_is_gone_needs_its_files_no_more(rotation: Rotation) -> None:
    rotation.case.put("providers/more", copy.deepcopy(rotation.case.tree["providers"]["texts"]))
    rotation.case.put("lenders/harbour/routes/sms", "more")
    rotation.case.put("providers/more/settings/key", rotation.at("more-key"))
    rotation.write("more-key", "canary-more-key")
    rotation.running = rotation.case.load()
    rotation.case.put("lenders/harbour/routes", {"voice": "calls"})
    rotation.case.drop("providers/more")
    (rotation.folder / "more-key").unlink()
    rotation.write("dsn", "postgresql://canary-user2:canary-new@db/reminders")
    rotation.save()
    found = rotation.rotate()
    assert "providers" in found.unapplied
    assert found.config.providers["more"] == rotation.running.providers["more"]
    assert found.config.origin("providers.more.settings.key") == rotation.at("more-key")
    assert found.config.database != rotation.running.database


def test_an_unchanged_configuration_is_the_same(rotation: Rotation) -> None:
    found = rotation.rotate()
    assert found.config == rotation.running
    assert found.unapplied == ()


def test_another_database_waits_for_a_restart(rotation: Rotation) -> None:
    """Half of the connections to one ledger and half to another would be no ledger at all."""
    for other in ("@other/reminders", "@db/others", "@db:5433/reminders", "@db/reminders?sslmode=disable"):
        rotation.write("dsn", f"postgresql://canary-user:canary-new{other}")
        found = rotation.rotate()
        assert found.unapplied == ("database.dsn",)
        assert found.config.database == rotation.running.database


@pytest.mark.parametrize(
    ("name", "content", "path", "reason"),
    [
        ("text-key", None, "providers.texts.settings.key", "secret_unavailable"),
        ("text-key", "", "providers.texts.settings.key", "secret_unavailable"),
        ("text-key", b"\xff canary", "providers.texts.settings.key", "secret_unavailable"),
        ("tokens", "canary-good-token-0123456789\ncanary-ha", "providers.texts.callback_tokens.1", "weak_secret"),
        ("tokens", "\n\n", "providers.texts.callback_tokens.0", "secret_unavailable"),
        (SEALED, key(b"1")[:20], "sealing.keys.1", "bad_key"),
        (SEALED, key(b"x"), "sealing.keys.1", "bad_key"),
        ("index", key(b"x"), "sealing.index_key", "bad_key"),
        ("dsn", "canary://db", "database.dsn", "wrong_value"),
    ],
)
def test_what_is_wrong_is_refused_by_its_path(
    rotation: Rotation, name: str, content: str | bytes | None, path: str, reason: str
) -> None:
    if content is None:
        (rotation.folder / name).unlink()
    else:
        rotation.write(name, content)
    assert (path, reason) in rotation.problems()


@pytest.mark.parametrize("text", ["sealing: {keys", "", "- canary", "mode: live"])
def test_a_half_written_file_is_refused(rotation: Rotation, text: str) -> None:
    rotation.case.path.write_text(text)
    assert rotation.problems()


def test_the_last_token_of_a_provider_with_receipts_is_not_given_up(rotation: Rotation) -> None:
    rotation.case.put(TOKENS, [])
    rotation.save()
    assert rotation.problems() == {("providers.texts.callback_tokens", "no_callback_token")}


def test_kafkas_login_rotates_as_a_whole(rotation: Rotation) -> None:
    rotation.write("user", "canary-user-1")
    rotation.write("password", "canary-password-1")
    security = {"protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}
    login = {"sasl_username": rotation.at("user"), "sasl_password": rotation.at("password")}
    rotation.case.put("kafka/security", security | login)
    rotation.running = rotation.case.load()
    assert rotation.running.kafka.security.sasl_username == "canary-user-1"
    rotation.write("user", "canary-user-2")
    rotation.write("password", "canary-password-2")
    now = rotation.rotate().config.kafka.security
    assert (now.sasl_username, now.sasl_password and now.sasl_password.get_secret_value()) == (
        "canary-user-2", "canary-password-2",
    )  # fmt: skip
    # Written out, the name is taken as well.
    rotation.case.put("kafka/security", security | login | {"sasl_username": "another"})
    rotation.case.put("kafka/group", "another")
    rotation.save()
    found = rotation.rotate()
    assert (found.config.kafka.security.sasl_username, found.unapplied) == ("another", ("kafka.group",))


@pytest.mark.parametrize(("key", "value"), [("bootstrap", "other:9092"), ("security/protocol", "SASL_PLAINTEXT")])
def test_another_clusters_login_waits_with_it(rotation: Rotation, key: str, value: str) -> None:
    rotation.write("password", "canary-password-1")
    login = {"sasl_username": "one", "sasl_password": rotation.at("password"), "sasl_mechanism": "PLAIN"}
    rotation.case.put("kafka/security", {"protocol": "SASL_SSL", **login})
    rotation.running = rotation.case.load()
    rotation.write("password", "canary-password-2")
    rotation.write("text-key", "canary-new-key")
    rotation.case.put("kafka/security/sasl_username", "two")
    rotation.case.put(f"kafka/{key}", value)
    rotation.save()
    found = rotation.rotate()
    assert found.config.kafka == rotation.running.kafka
    assert set(found.unapplied) == {
        f"kafka.{key.replace('/', '.')}", "kafka.security.sasl_password", "kafka.security.sasl_username",
    }  # fmt: skip
    assert text_key(found.config) == "canary-new-key"


def test_a_login_that_does_not_fit_what_stays_waits(rotation: Rotation) -> None:
    rotation.write("password", "canary-password-1")
    login = {"sasl_username": "gateway", "sasl_password": rotation.at("password"), "sasl_mechanism": "PLAIN"}
    rotation.case.put("kafka/security", {"protocol": "SASL_SSL", **login})
    rotation.save()
    assert rotation.rotate().unapplied == ("kafka.security",)  # a section that was not there
    rotation.case.put("kafka/security", {"protocol": "PLAINTEXT"})
    rotation.running = rotation.case.load()
    rotation.case.put("kafka/security", {"protocol": "SASL_SSL", **login})
    rotation.save()
    found = rotation.rotate()
    assert found.config.kafka == rotation.running.kafka
    assert set(found.unapplied) == {f"kafka.security.{name}" for name in ("protocol", *login)}


def test_what_a_collector_knows_us_by_rotates_and_waits_where_another_collector_does(rotation: Rotation) -> None:
    rotation.write("collector", "one")
    headers = {"headers": {"api-key": rotation.at("collector")}}
    rotation.case.put("tracing", {"endpoint": "https://one.example.com/v1/traces", **headers})
    rotation.running = rotation.case.load()
    rotation.write("collector", "two")
    tracing = rotation.rotate().config.tracing
    assert tracing is not None
    assert tracing.headers["api-key"].get_secret_value() == "two"
    rotation.case.put("tracing/endpoint", "https://two.example.com/v1/traces")
    rotation.save()
    found = rotation.rotate()
    assert found.config.tracing == rotation.running.tracing
    assert "tracing.endpoint" in found.unapplied


def test_a_key_id_rotates_with_its_secret(case: Case, tmp_path: Path) -> None:
    """In one Secret with it: Kubernetes swaps both at once, and so no request is signed with halves of two."""
    for name, content in (("id", "LTAIone"), ("secret", "canary-one")):
        (tmp_path / name).write_text(content)
    settings = {"access_key_id": f"file:{tmp_path}/id", "access_key_secret": f"file:{tmp_path}/secret"}
    case.adapters |= {"aliyun_voice": discover()["aliyun_voice"]}
    case.put("providers/calls/adapter", "aliyun_voice")
    case.put("providers/calls/settings", settings)
    running = case.load()
    assert running.providers["calls"].settings.model_dump()["access_key_id"] == "LTAIone"
    (tmp_path / "id").write_text("LTAItwo")
    (tmp_path / "secret").write_text("canary-two")
    after: Any = Source(case.path, case.environ, case.adapters).rotate(running).config.providers["calls"].settings
    assert (after.access_key_id, after.access_key_secret.get_secret_value()) == ("LTAItwo", "canary-two")
    case.put("providers/calls/settings", settings | {"base_url": f"file:{tmp_path}/id"})
    assert ("providers.calls.settings.base_url", "not_a_secret") in case.found()


# --- looking ----------------------------------------------------------------------------------------------------------


def test_a_look_sees_contents_and_not_times(rotation: Rotation) -> None:
    before = rotation.source.look()
    os.utime(rotation.folder / "text-key", (1, 1))
    rotation.write("unrelated", "canary")
    assert rotation.source.look() == before
    kept = (rotation.folder / "text-key").stat()
    rotation.write("text-key", "canary-text-kez")
    os.utime(rotation.folder / "text-key", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert rotation.source.look() != before
    rotation.write("text-key", FILES["text-key"])
    assert rotation.source.look() == before
    (rotation.folder / "text-key").unlink()
    assert rotation.source.look() != before


def test_a_look_sees_a_swapped_link_and_a_changed_file(rotation: Rotation, tmp_path: Path) -> None:
    """As the kubelet does it: every secret is a link through `..data`, which is renamed into place."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(f"canary-{version}")
    (tmp_path / "..data").symlink_to("one")
    rotation.case.put("providers/texts/settings/key", f"file:{tmp_path}/..data/key")
    rotation.save()
    before = rotation.source.look()
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    swapped = rotation.source.look()
    assert swapped != before
    assert text_key(rotation.rotate().config) == "canary-two"
    rotation.case.put("log_level", "debug")
    rotation.save()
    assert rotation.source.look() != swapped


# --- certificates and proxies -----------------------------------------------------------------------------------------


def test_a_certificate_that_is_replaced_is_seen_and_taken(case: Case, tmp_path: Path) -> None:
    """Also one that is only half there: that is refused, and what was read stays."""
    authority = Authority(tmp_path)
    pair = authority.pair("client")
    case.put(
        "kafka/security",
        {"protocol": "SSL", "ca_file": str(authority.file), "cert_file": str(pair.cert), "key_file": str(pair.key)},
    )
    rotation = Rotation(case, tmp_path)
    seen = rotation.source.look()
    same = rotation.rotate()
    assert (same.config, same.unapplied) == (rotation.running, ())
    fresh = authority.pair("fresh")
    swap(pair.cert, fresh.cert.read_bytes())
    half = rotation.source.look()
    assert half != seen
    assert rotation.problems() == {("kafka.security.key_file", "bad_certificate")}
    swap(pair.key, fresh.key.read_bytes())
    assert rotation.source.look() not in (seen, half)
    taken = rotation.rotate()
    assert taken.unapplied == ()
    assert taken.config.kafka.security != rotation.running.kafka.security


def test_the_authority_of_the_providers_is_seen_and_taken(case: Case, tmp_path: Path) -> None:
    common, own = Authority(tmp_path, "common"), Authority(tmp_path, "own")
    case.put("outbound", {"ca_file": str(common.file)})
    case.put("providers/texts/outbound", {"ca_file": str(own.file)})
    rotation = Rotation(case, tmp_path)
    for file, part in ((common.file, lambda c: c.outbound), (own.file, lambda c: c.providers["texts"].outbound)):
        seen = rotation.source.look()
        swap(file, Authority(tmp_path, f"next-{file.parent.name}").file.read_bytes())
        assert rotation.source.look() != seen
        assert part(rotation.rotate().config) != part(rotation.running)


def test_a_proxys_login_rotates_and_waits_with_the_proxy(case: Case, tmp_path: Path) -> None:
    (tmp_path / "proxy").write_text("me:one")
    case.put("outbound", {"proxy_url": "http://proxy:3128", "proxy_credentials": f"file:{tmp_path / 'proxy'}"})
    rotation = Rotation(case, tmp_path)
    rotation.write("proxy", "me:two")
    taken = rotation.rotate()
    assert taken.unapplied == ()
    assert taken.config.outbound.proxy == ("proxy", 3128, "me:two")
    case.put("outbound/proxy_url", "http://elsewhere:3128")
    rotation.save()
    waits = rotation.rotate()
    assert waits.config.outbound.proxy == ("proxy", 3128, "me:one")
    assert waits.unapplied == ("outbound.proxy_credentials", "outbound.proxy_url")
