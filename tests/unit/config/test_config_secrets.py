"""Secrets come from the environment or from files, and show up nowhere else."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import pytest

from gateway.config import describe
from tests.unit.config.case import SECRETS, Case, key

CANARIES = (*SECRETS.values(), "canary")


def assert_silent(*texts: str) -> None:
    for text in texts:
        for canary in CANARIES:
            assert canary not in text


def test_a_config_never_shows_a_secret(case: Case) -> None:
    config = case.load()
    rows = describe(config)
    assert_silent(repr(config), str(config), repr(rows), str(config.model_dump()), config.model_dump_json())
    assert_silent(*(repr(each.settings) for each in config.providers.values()), repr(config.sealing.sealer()))
    assert config.database.dsn.get_secret_value() == SECRETS["DSN"]


def test_describe_says_where_each_secret_came_from(case: Case, tmp_path: Path) -> None:
    kept = tmp_path / "key"
    kept.write_text(SECRETS["TEXT_KEY"] + "\n")
    case.put("providers/texts/settings/key", f"file:{kept}")
    case.put("providers/texts/settings/older", ["env:TEXT_KEY"])
    case.environ["GATEWAY__DATABASE__DSN"] = SECRETS["DSN"]
    case.environ["GATEWAY__HTTP__APP_TOKENS"] = f'["{SECRETS["APP"]}", "env:TEXT_TOKEN"]'
    rows = dict(describe(case.load()))
    assert rows["providers.texts.settings.key"] == f"*** (file:{kept}), reloads"
    assert rows["providers.texts.settings.older.0"] == "*** (env:TEXT_KEY), needs a restart"
    assert rows["database.dsn"] == "*** (env:GATEWAY__DATABASE__DSN), needs a restart"
    assert rows["http.app_tokens.0"] == "*** (env:GATEWAY__HTTP__APP_TOKENS), needs a restart"
    assert rows["http.app_tokens.1"] == "*** (env:TEXT_TOKEN), needs a restart"
    assert rows["sealing.keys.1"] == "*** (env:SEALING_1), needs a restart"
    assert not [path for path, value in rows.items() if value == "*** (given)"]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_a_file_is_the_secret_without_its_last_line_end(case: Case, tmp_path: Path, ending: str) -> None:
    kept = tmp_path / "dsn"
    kept.write_bytes((SECRETS["DSN"] + ending).encode())
    case.put("database/dsn", f"file:{kept}")
    assert case.load().database.dsn.get_secret_value() == SECRETS["DSN"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe canary", b"canary" * 20_000])
def test_a_file_that_is_no_secret(case: Case, tmp_path: Path, content: bytes) -> None:
    kept = tmp_path / "dsn"
    kept.write_bytes(content)
    case.put("database/dsn", f"file:{kept}")
    assert case.found() == {("database.dsn", "secret_unavailable")}
    assert_silent(str(case.error()))


def test_a_variable_may_hold_the_secret_itself(case: Case) -> None:
    case.drop("database")
    case.environ["GATEWAY__DATABASE__DSN"] = "postgresql://other/one"
    case.environ["GATEWAY__PROVIDERS__TEXTS__SETTINGS__KEY"] = "0012345"
    case.environ["GATEWAY__PROVIDERS__TEXTS__SETTINGS__OLDER"] = '["a", "b"]'
    case.environ["GATEWAY__SEALING__KEYS__2"] = key(b"2")
    config = case.load()
    settings = config.providers["texts"].settings.model_dump()
    assert config.database.dsn.get_secret_value() == "postgresql://other/one"
    assert settings["key"].get_secret_value() == "0012345"
    assert [each.get_secret_value() for each in settings["older"]] == ["a", "b"]
    assert sorted(config.sealing.keys) == [1, 2]


def test_a_variable_may_refer_to_another_place(case: Case, tmp_path: Path) -> None:
    kept = tmp_path / "dsn"
    kept.write_text(SECRETS["DSN"])
    case.environ["GATEWAY__DATABASE__DSN"] = f"file:{kept}"
    assert case.load().database.dsn.get_secret_value() == SECRETS["DSN"]


def test_a_reference_that_is_overridden_is_not_followed(case: Case) -> None:
    del case.environ["DSN"]
    case.environ["GATEWAY__DATABASE__DSN"] = "postgresql://other/one"
    assert case.load().database.dsn.get_secret_value() == "postgresql://other/one"


def test_a_literal_stays_a_problem_when_it_is_overridden(case: Case) -> None:
    case.put("database/dsn", SECRETS["DSN"])
    case.environ["GATEWAY__DATABASE__DSN"] = "postgresql://other/one"
    assert case.found() == {("database.dsn", "literal_secret")}


def test_which_settings_are_secrets_follows_the_adapter_in_force(case: Case) -> None:
    case.put("providers/texts/adapter", "bell")
    case.put("providers/texts/settings/key", SECRETS["TEXT_KEY"])
    case.environ["GATEWAY__PROVIDERS__TEXTS__ADAPTER"] = "text"
    assert case.found() == {("providers.texts.settings.key", "literal_secret")}
    assert_silent(str(case.error()))


def test_no_error_shows_a_secret(case: Case) -> None:
    """Secrets of every kind in wrong places, wrong forms, and in the words of an adapter's own validator."""
    case.put("database/dsn", "canary-not-a-dsn")
    case.put("http/app_tokens", ["canary literal with spaces", "env:DSN"])
    case.put("sealing/keys/1", "canary-literal-key")
    case.put("sealing/index_key", "env:TEXT_KEY")
    case.put("kafka/security", {"protocol": "PLAINTEXT", "sasl_password": "canary-sasl"})
    case.environ["BAD"] = "bad-canary-account"
    case.environ["GATEWAY__PROVIDERS__TEXTS__SETTINGS__KEY"] = "bad-canary-account"
    case.put("providers/texts/settings/account", "bad-canary-account")
    case.put("providers/texts/settings/older", ["canary-older"])
    case.put("providers/texts/settings/limit", "env:TEXT_KEY")
    case.put("providers/texts/callback_tokens", ["canary-short"])
    case.environ["GATEWAY__LENDERS"] = "canary-not-json"
    case.environ["GATEWAY__DATABASE__NSD"] = SECRETS["DSN"]
    error = case.error()
    told = "".join(traceback.format_exception(error))
    assert_silent(str(error), repr(error), repr(error.problems), repr(error.args), told)
    assert error.__context__ is None
    assert b"canary" not in pickle.dumps(error.problems)
    assert ("providers.texts.settings.account", "wrong_value") in case.found()
    assert [each for each in error.problems if "no such account: ***" in each.message]


@pytest.mark.parametrize("text", ["a: [canary-password", "a: 'canary-password", "canary-password\nb: c", "a: *canary"])
def test_a_broken_file_is_not_quoted(case: Case, text: str) -> None:
    case.text = text
    assert_silent(str(case.error()), "".join(traceback.format_exception(case.error())))
