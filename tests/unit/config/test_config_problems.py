"""Every kind of problem, each at the path of its key, alone and together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cadence.loading import PACKAGED
from gateway.config import LEASE_MARGIN_SECONDS, ConfigError, Problem, ProblemReason, load
from gateway.content import DEFAULT_TEMPLATES
from gateway.dispatch import send
from tests.unit.config.case import Case, key

Edit = Callable[[Case], None]


def put(path: str, value: Any) -> Edit:
    return lambda case: case.put(path, value)


def variable(name: str, value: str) -> Edit:
    return lambda case: case.environ.__setitem__(name, value)


def text(content: str) -> Edit:
    return lambda case: setattr(case, "text", content)


def drop(path: str) -> Edit:
    return lambda case: case.drop(path)


def each_of(*edits: Edit) -> Edit:
    def edit(case: Case) -> None:
        for one in edits:
            one(case)

    return edit


SASL = {"protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "me", "sasl_password": "env:DSN"}

PLANS = put("kafka/repayments_topic", "repayments.events")

ASKS = {"url": "https://may.example.com", "token": "env:TEXT_KEY"}


def question(**changes: Any) -> Edit:
    return put("lenders/harbour/question", ASKS | changes)


# What is changed, and the one problem that must come of it.
ONE = [
    # the question to a lender's own service
    (question(url="http://may.example.com"), "lenders.harbour.question.url", "insecure_url"),
    (question(token="canary"), "lenders.harbour.question.token", "literal_secret"),
    (
        each_of(question(token="env:SPACED"), variable("SPACED", "canary two words")),
        "lenders.harbour.question.token",
        "wrong_value",
    ),
    (question(timeout_seconds=11), "lenders.harbour.question.timeout_seconds", "wrong_value"),
    (question(cache_seconds=61), "lenders.harbour.question.cache_seconds", "wrong_value"),
    # the file and its keys
    (text("a: [1"), "", "not_yaml"),
    (text("- a\n- b\n"), "", "not_yaml"),
    (text("a: 1\n---\nb: 2\n"), "", "not_yaml"),
    (put("http", None), "http", "wrong_value"),
    (drop("mode"), "mode", "missing"),
    (drop("kafka"), "kafka", "missing"),
    (drop("kafka/bootstrap"), "kafka.bootstrap", "missing"),
    (drop("http/public_url"), "http.public_url", "missing"),
    (drop("providers/texts/adapter"), "providers.texts.adapter", "missing"),
    (drop("providers/texts/settings/account"), "providers.texts.settings.account", "missing"),
    (put("retries", 3), "retries", "unknown_key"),
    (put("kafka/bootstrap_servers", "a:1"), "kafka.bootstrap_servers", "unknown_key"),
    (put("kafka/security", {"tls": True}), "kafka.security.tls", "unknown_key"),
    (put("providers/texts/retries", 3), "providers.texts.retries", "unknown_key"),
    (put("providers/texts/settings/colour", "red"), "providers.texts.settings.colour", "unknown_key"),
    (put("lenders/harbour/logo", "x"), "lenders.harbour.logo", "unknown_key"),
    (variable("GATEWAY__KAFAK__GROUP", "x"), "kafak.group", "unknown_key"),
    (variable("GATEWAY__KAFKA__GRUOP", "x"), "kafka.gruop", "unknown_key"),
    # the brakes
    (put("brakes", {"lenders": {"acme": {"per_hour": 1}}}), "brakes.lenders.acme", "unknown_lender"),
    (put("brakes", {"sources": {"core": {"spend_per_day": "1"}}}), "brakes.sources.core.spend_per_day", "unknown_key"),
    (put("brakes", {"sources": {"core": {"per_hour": 0}}}), "brakes.sources.core.per_hour", "wrong_value"),
    (put("brakes", {"timezone": "Mars/Olympus"}), "brakes.timezone", "wrong_value"),
    (put("brakes", {"currency": "yuan"}), "brakes.currency", "wrong_value"),
    (put("providers/texts/price", 0.045), "providers.texts.price", "wrong_value"),
    (put("providers/texts/price", "0.0000001"), "providers.texts.price", "wrong_value"),
    (put("dispatch/release_per_second", 0), "dispatch.release_per_second", "wrong_value"),
    # values
    (put("database/pool_size", 0), "database.pool_size", "wrong_value"),
    (put("database/pool_size", "ten"), "database.pool_size", "wrong_value"),
    (put("database/statement_cache", -1), "database.statement_cache", "wrong_value"),
    (variable("DSN", "mysql://h/d"), "database.dsn", "wrong_value"),
    (put("kafka/bootstrap", "localhost"), "kafka.bootstrap", "wrong_value"),
    (put("kafka/group", ""), "kafka.group", "wrong_value"),
    (put("kafka/requests_topic", "a topic"), "kafka.requests_topic", "wrong_value"),
    (put("kafka/repayments_topic", "reminders.requests"), "kafka.repayments_topic", "same_topic"),
    (each_of(PLANS, put("lenders/harbour/cadence", "gentle")), "lenders.harbour.cadence", "unknown_cadence"),
    (
        each_of(PLANS, put("lenders/harbour/cadences", {"cash-loan": "gentle"})),
        "lenders.harbour.cadences.cash-loan",
        "unknown_cadence",
    ),
    (put("cadences_path", "/nowhere"), "cadences_path", "wrong_value"),
    (put("kafka/session_timeout_seconds", float("inf")), "kafka.session_timeout_seconds", "wrong_value"),
    (put("kafka/security", {"protocol": "SSL", "ca_file": "/nowhere"}), "kafka.security.ca_file", "unreadable_file"),
    (put("tracing", {"endpoint": "https://c.example", "ca_file": "/nowhere"}), "tracing.ca_file", "unreadable_file"),
    (put("http/public_port", 65_536), "http.public_port", "wrong_value"),
    (put("http/public_url", "reminders.example.com"), "http.public_url", "wrong_value"),
    (put("http/public_url", "https://a:b@reminders.example.com"), "http.public_url", "wrong_value"),
    (put("http/max_body_bytes", 1 << 40), "http.max_body_bytes", "wrong_value"),
    (variable("GATEWAY__HTTP__APP_TOKENS", "a,b"), "http.app_tokens", "wrong_value"),
    (variable("GATEWAY__DATABASE__POOL_SIZE", "many"), "database.pool_size", "wrong_value"),
    (put("sealing/keys/2000000000000", "env:SEALING_1"), "sealing.keys.2000000000000", "wrong_value"),
    (put("lenders", {}), "lenders", "wrong_value"),
    (put("lenders/harbour/name", "two\nlines"), "lenders.harbour.name", "wrong_value"),
    (put("lenders/harbour/name", "x" * 41), "lenders.harbour.name", "wrong_value"),
    (put("lenders/harbour/routes", {}), "lenders.harbour.routes", "wrong_value"),
    (put("lenders/harbour/routes/fax", "texts"), "lenders.harbour.routes.fax", "wrong_value"),
    (put("lenders/har bour", {"name": "H", "routes": {"sms": "texts"}}), "lenders.har bour", "wrong_value"),
    (put("providers/Bell", {"adapter": "bell", "settings": {"base_url": "http://b"}}), "providers.Bell", "wrong_value"),
    (put("providers/texts/settings/base_url", "ftp://x"), "providers.texts.settings.base_url", "wrong_value"),
    (put("providers/texts/settings/limit", "much"), "providers.texts.settings.limit", "wrong_value"),
    (put("providers/texts/burst", 5), "providers.texts.burst", "wrong_value"),
    (put("providers/texts/rate_per_second", 0), "providers.texts.rate_per_second", "wrong_value"),
    (put("providers/texts/on_unknown", "guess"), "providers.texts.on_unknown", "wrong_value"),
    (put("providers/texts/receipt_window_hours", 0), "providers.texts.receipt_window_hours", "wrong_value"),
    (put("dispatch/backoff_cap_seconds", 5), "dispatch.backoff_cap_seconds", "wrong_value"),
    (put("dispatch/fast_path", "perhaps"), "dispatch.fast_path", "wrong_value"),
    (put("intake/freeze_share", 1.5), "intake.freeze_share", "wrong_value"),
    (put("roles", []), "roles", "wrong_value"),
    (put("roles", ["cook"]), "roles.0", "wrong_value"),
    (put("templates_path", "/does/not/exist"), "templates_path", "wrong_value"),
    (put("log_level", "loud"), "log_level", "wrong_value"),
    (put("mode", "Live"), "mode", "wrong_value"),
    (put("mode", "production"), "mode", "wrong_value"),
    (put("mode", None), "mode", "wrong_value"),
    (put("mode", ["live"]), "mode", "wrong_value"),
    (variable("GATEWAY__MODE", "lve"), "mode", "wrong_value"),
    (put("allowlist/indexes", ["0" * 32, "+8613912345678"]), "allowlist.indexes.1", "wrong_value"),
    (put("allowlist/indexes", ["A" * 32]), "allowlist.indexes.0", "wrong_value"),
    (put("allowlist/indexes", "0" * 32), "allowlist.indexes", "wrong_value"),
    (put("allowlist/file", "/does/not/exist"), "allowlist.file", "wrong_value"),
    (put("allowlist/numbers", []), "allowlist.numbers", "unknown_key"),
    # secrets
    (put("database/dsn", "postgresql://u:p@h/d"), "database.dsn", "literal_secret"),
    (put("database/dsn", "file:relative/path"), "database.dsn", "literal_secret"),
    (put("http/app_tokens", ["env:APP", "s" * 30]), "http.app_tokens.1", "literal_secret"),
    (put("http/app_tokens", [1234567890123456789012345]), "http.app_tokens.0", "literal_secret"),
    (put("sealing/keys/1", key(b"1")), "sealing.keys.1", "literal_secret"),
    (put("sealing/index_key", key(b"i")), "sealing.index_key", "literal_secret"),
    (put("kafka/security", SASL | {"sasl_password": "pw"}), "kafka.security.sasl_password", "literal_secret"),
    (put("providers/texts/callback_tokens", ["t" * 30]), "providers.texts.callback_tokens.0", "literal_secret"),
    (put("providers/texts/settings/key", "k"), "providers.texts.settings.key", "literal_secret"),
    (put("providers/texts/settings/older", ["env:APP", "k"]), "providers.texts.settings.older.1", "literal_secret"),
    (put("providers/texts/settings/by_name/a", "k"), "providers.texts.settings.by_name.a", "literal_secret"),
    (put("providers/texts/settings/nested/inner", "k"), "providers.texts.settings.nested.inner", "literal_secret"),
    (put("database/dsn", "env:NOWHERE"), "database.dsn", "secret_unavailable"),
    (variable("DSN", " "), "database.dsn", "secret_unavailable"),
    (put("database/dsn", "file:/does/not/exist"), "database.dsn", "secret_unavailable"),
    (put("sealing/keys/1", "env:NOWHERE"), "sealing.keys.1", "secret_unavailable"),
    (put("providers/texts/settings/key", "env:NOWHERE"), "providers.texts.settings.key", "secret_unavailable"),
    (put("kafka/bootstrap", "env:DSN"), "kafka.bootstrap", "not_a_secret"),
    (put("database/pool_size", "env:DSN"), "database.pool_size", "not_a_secret"),
    (put("providers/texts/settings/account", "env:DSN"), "providers.texts.settings.account", "not_a_secret"),
    (variable("APP", "a" * 21), "http.app_tokens.0", "weak_secret"),
    (variable("TEXT_TOKEN", "with/slash" * 4), "providers.texts.callback_tokens.0", "weak_secret"),
    (variable("SEALING_1", "bm90IDMyIGJ5dGVz"), "sealing.keys.1", "bad_key"),
    (variable("INDEX", "not base64!"), "sealing.index_key", "bad_key"),
    (variable("INDEX", key(b"1")), "sealing.index_key", "bad_key"),
    # what does not fit together
    (put("sealing/current", 2), "sealing.current", "unknown_key_id"),
    (put("http/public_url", "http://reminders.example.com"), "http.public_url", "insecure_url"),
    (put("http/public_url", "http://localhost.example.com"), "http.public_url", "insecure_url"),
    (
        each_of(
            put("mode", "simulate"),
            *(put(f"providers/{name}/settings/base_url", "http://127.0.0.1:9") for name in ("texts", "calls")),
        ),
        "providers.bells.settings.base_url",
        "not_loopback",
    ),
    (
        put("tracing", {"endpoint": "http://collector:4318/v1/traces", "headers": {"api-key": "env:TEXT_KEY"}}),
        "tracing.headers",
        "insecure_url",
    ),
    (put("http/internal_port", 8080), "http.internal_port", "same_port"),
    (put("kafka/events_topic", "reminders.requests"), "kafka.events_topic", "same_topic"),
    (put("kafka/deadletters_topic", "reminders.events"), "kafka.deadletters_topic", "same_topic"),
    (put("kafka/security", {"sasl_username": "me"}), "kafka.security.sasl_username", "incomplete_sasl"),
    (put("kafka/security", {**SASL, "sasl_mechanism": None}), "kafka.security.sasl_mechanism", "incomplete_sasl"),
    (put("kafka/security", {"ca_file": __file__}), "kafka.security.ca_file", "incomplete_tls"),
    (put("outbound/ca_file", __file__), "outbound.ca_file", "bad_certificate"),
    (put("providers/bells/outbound/ca_file", __file__), "providers.bells.outbound.ca_file", "bad_certificate"),
    (put("providers/bells/read_timeout_seconds", 9), "providers.bells.total_timeout_seconds", "timeouts"),
    (put("providers/bells/total_timeout_seconds", 11), "providers.bells.total_timeout_seconds", "timeouts"),
    (put("providers/bells/total_timeout_seconds", 23), "providers.bells.total_timeout_seconds", "lease_too_short"),
    (put("dispatch/heartbeat_seconds", 10.5), "dispatch.heartbeat_seconds", "lease_too_short"),
    (put("shutdown/drain_seconds", 18), "shutdown.budget_seconds", "over_budget"),
    (put("shutdown/budget_seconds", 22), "shutdown.budget_seconds", "over_budget"),
    (put("providers/bells/adapter", "bells"), "providers.bells.adapter", "unknown_adapter"),
    (put("lenders/harbour/routes/sms", "nobody"), "lenders.harbour.routes.sms", "unknown_provider"),
    (put("lenders/harbour/routes/sms", "bells"), "lenders.harbour.routes.sms", "wrong_channel"),
    (put("providers/texts/on_unknown", "resend"), "providers.texts.on_unknown", "cannot_resend"),
    (put("providers/bells/on_unknown", "lookup"), "providers.bells.on_unknown", "cannot_look_up"),
    (drop("providers/texts/callback_tokens"), "providers.texts.callback_tokens", "no_callback_token"),
    (put("lenders/harbour/default_locale", "fr"), "lenders.harbour.default_locale", "unknown_locale"),
    # provider templates
    (drop("providers/calls/templates"), "providers.calls.templates.repayment", "unmapped_template"),
    (
        each_of(
            drop("providers/calls/templates/repayment/*"),
            *(put(f"providers/calls/templates/repayment/{stage}/*/code", "T") for stage in
              ("d7", "due", "overdue_early", "overdue_mid", "overdue_late")),
            put("providers/calls/templates/repayment/d3/en/code", "T"),
        ),
        "providers.calls.templates.repayment.d3.zh-CN",
        "unmapped_template",
    ),
    (
        put("providers/calls/templates/wedding", {"*": {"*": {"code": "T"}}}),
        "providers.calls.templates.wedding",
        "unknown_template",
    ),
    (
        put("providers/calls/templates/repayment/d4", {"en": {"code": "T"}}),
        "providers.calls.templates.repayment.d4",
        "unknown_template",
    ),
    (
        put("providers/calls/templates/repayment/d3", {"fr": {"code": "T"}}),
        "providers.calls.templates.repayment.d3.fr",
        "unknown_template",
    ),
    (
        put("providers/calls/templates/repayment/*/*/params/who", "lendr"),
        "providers.calls.templates.repayment.*.*.params.who",
        "unknown_slot",
    ),
    (  # a call may be answered by anyone, so it never tells of a debt
        put("providers/calls/templates/repayment/*/*/params/who", "amount"),
        "providers.calls.templates.repayment.*.*.params.who",
        "unknown_slot",
    ),
    (
        put("providers/calls/templates/repayment/*/*/sound", "x"),
        "providers.calls.templates.repayment.*.*.sound",
        "unknown_key",
    ),
]  # fmt: skip

# These need a file, a text or a process of their own, below or elsewhere.
ELSEWHERE = {
    ProblemReason.UNREADABLE_FILE,
    ProblemReason.DUPLICATE_KEY,
    ProblemReason.BAD_TEMPLATES,
    ProblemReason.BAD_CADENCES,
    ProblemReason.EXTRA_MISSING,
}


@pytest.mark.parametrize(("edit", "path", "reason"), ONE, ids=[f"{path}-{reason}" for _, path, reason in ONE])
def test_one_mistake_is_one_problem_at_its_key(case: Case, edit: Edit, path: str, reason: str) -> None:
    edit(case)
    assert case.found() == {(path, reason)}


def test_the_case_itself_is_valid(case: Case) -> None:
    assert case.load().kafka.bootstrap == "localhost:9092"


def test_every_reason_has_a_case() -> None:
    assert {reason for _, _, reason in ONE} | {each.value for each in ELSEWHERE} == {
        each.value for each in ProblemReason
    }


def test_all_problems_are_told_at_once(case: Case) -> None:
    case.drop("mode")
    case.put("allowlist/indexes", ["me"])
    case.put("database/dsn", "postgresql://u:p@h/d")
    case.drop("kafka/bootstrap")
    case.put("http/public_url", "http://a.example.com")
    case.put("lenders/harbour/routes/sms", "calls")
    case.put("providers/texts/settings/key", "env:NOWHERE")
    case.put("providers/texts/settings/limit", "much")
    case.put("providers/texts/on_unknown", "resend")
    case.put("providers/calls/templates/repayment/*/*/params/who", "amount")
    case.put("providers/bells/adapter", "gong")
    case.put("dispatch/lease_seconds", 15)
    case.put("colour", "red")
    case.environ["GATEWAY__SHUTDOWN__BUDGET_SECONDS"] = "3"
    case.environ["GATEWAY__ROLES"] = "intake"
    too_short = {(f"providers.{name}.total_timeout_seconds", "lease_too_short") for name in ("texts", "bells", "calls")}
    assert case.found() == too_short | {
        ("mode", "missing"),
        ("allowlist.indexes.0", "wrong_value"),
        ("database.dsn", "literal_secret"),
        ("kafka.bootstrap", "missing"),
        ("http.public_url", "insecure_url"),
        ("lenders.harbour.routes.sms", "wrong_channel"),
        ("providers.texts.settings.key", "secret_unavailable"),
        ("providers.texts.settings.limit", "wrong_value"),
        ("providers.texts.on_unknown", "cannot_resend"),
        ("providers.calls.templates.repayment.*.*.params.who", "unknown_slot"),
        ("providers.bells.adapter", "unknown_adapter"),
        ("colour", "unknown_key"),
        ("shutdown.budget_seconds", "over_budget"),
        ("roles", "wrong_value"),
    }


def test_an_invalid_provider_is_not_called_unknown(case: Case) -> None:
    case.put("providers/texts/concurrency", 0)
    assert case.found() == {("providers.texts.concurrency", "wrong_value")}


def test_the_error_lists_every_problem_for_people(case: Case) -> None:
    case.put("colour", "red")
    case.drop("kafka")
    assert str(case.error()).splitlines() == [
        "colour: Extra inputs are not permitted (unknown_key)",
        "kafka: Field required (missing)",
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.yaml", {}, {})
    assert caught.value.problems == [Problem("", ProblemReason.UNREADABLE_FILE, f"cannot be read: {os.strerror(2)}")]


def test_a_file_that_is_not_text(case: Case, tmp_path: Path) -> None:
    case.path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        load(case.path, {}, {})
    assert [each.reason for each in caught.value.problems] == [ProblemReason.UNREADABLE_FILE]


@pytest.mark.parametrize(
    ("lines", "path", "reason"),
    [
        ("kafka: {group: a, group: b}", "kafka.group", "duplicate_key"),
        ("lenders: {a: {name: A}, a: {name: B}}", "lenders.a", "duplicate_key"),
        ("kafka: &k {security: *k}", "kafka.security", "not_yaml"),
        ("kafka: {group: !!python/name:os.system x}", "kafka.group", "not_yaml"),
        ("kafka: {[a]: b}", "kafka", "not_yaml"),
    ],
)
def test_yaml_says_what_it_means(case: Case, lines: str, path: str, reason: str) -> None:
    case.text = lines
    assert (path, reason) in case.found()


def test_every_fault_of_the_templates_is_told(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    (folder / "notice").mkdir(parents=True)
    (folder / "locales.yaml").write_bytes((DEFAULT_TEMPLATES / "locales.yaml").read_bytes())
    (folder / "notice" / "template.yaml").write_text(
        "{version: 1, stages: [d3], channels: [sms, voice], locales: [en], max_segments: 2}"
    )
    case.put("templates_path", str(folder))
    assert case.found() == {("templates_path", "bad_templates")}
    assert [each.message for each in case.problems()] == [
        "notice/d3/en/sms.j2: is missing",
        "notice/d3/en/voice.j2: is missing",
    ]


def test_every_fault_of_the_cadences_is_told(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "default"
    folder.mkdir()
    text = (PACKAGED / "default" / "1.yaml").read_text(encoding="utf-8")
    (folder / "1.yaml").write_text(text.replace("days: -7", "days: 7").replace("days: -3", "days: 3"), encoding="utf-8")
    case.put("cadences_path", str(tmp_path))
    assert case.found() == {("cadences_path", "bad_cadences")}
    assert [each.message for each in case.problems()] == [
        "default/1.yaml: d3: days: stage d3 is before the due date",
        "default/1.yaml: d7: days: stage d7 is before the due date",
    ]


def test_a_cadence_that_no_template_speaks_for(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "default"
    folder.mkdir()
    text = (PACKAGED / "default" / "1.yaml").read_text(encoding="utf-8")
    (folder / "1.yaml").write_text(text.replace("template: repayment", "template: dunning", 1), encoding="utf-8")
    case.put("cadences_path", str(tmp_path))
    PLANS(case)
    assert case.found() == {("lenders.harbour.cadence", "unknown_template")}
    assert [each.message for each in case.problems()] == ["default/1, d7: no template has words for it"]


def test_a_cadence_whose_messages_could_not_tell_of_the_rest(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    shutil.copytree(DEFAULT_TEMPLATES, folder)
    sms = folder / "repayment" / "d3" / "en" / "sms.j2"
    sms.write_text(
        sms.read_text(encoding="utf-8").replace("{% if also %} Also to be paid: {{ also }}.{% endif %}", ""),
        encoding="utf-8",
    )
    case.put("templates_path", str(folder))
    assert case.load()
    PLANS(case)
    assert case.found() == {("lenders.harbour.cadence", "unknown_template")}
    assert [each.message for each in case.problems()] == ["default/1, d3: an SMS of repayment has no slot also"]


def test_a_providers_template_that_could_not_tell_of_the_rest(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where plans are made, and only what a cadence sends by SMS."""
    monkeypatch.setattr(type(case.adapters["text"]), "needs_template", True)
    own = {"code": "T1", "params": {"sum": "amount"}}
    case.put("providers/texts/templates", {"repayment": {"*": {"*": own}, "d3": {"en": own}}})
    assert case.load()
    PLANS(case)
    path = "providers.texts.templates.repayment"
    assert case.found() == {(f"{path}.*.*.params", "missing"), (f"{path}.d3.en.params", "missing")}
    assert {each.message for each in case.problems()} == {
        "shows no slot also: lender harbour tells of everything due on a day in one message (default/1)"
    }
    own["params"] = {"sum": "amount", "rest": "also"}
    assert case.load()


def test_a_mapping_for_a_channel_the_template_lacks(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    shutil.copytree(DEFAULT_TEMPLATES, folder)
    spec = folder / "repayment" / "template.yaml"
    text = spec.read_text(encoding="utf-8").replace("push, voice", "push").replace("dialogue: true", "")
    spec.write_text(text, encoding="utf-8")
    for path in folder.rglob("voice*.j2"):
        path.unlink()
    case.put("templates_path", str(folder))
    assert case.found() == {("providers.calls.templates.repayment", "unknown_template")}


def test_a_signature_is_missing_where_the_adapter_needs_one(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(case.adapters["call"]), "needs_sign", True)
    assert case.found() == {("providers.calls.templates.repayment.*.*.sign", "missing")}
    case.put("providers/calls/templates/repayment/*/*/sign", "Harbour")
    assert case.load()


def test_templates_that_cannot_be_read_are_a_problem(case: Case, tmp_path: Path) -> None:
    (tmp_path / "locales.yaml").mkdir()
    case.put("templates_path", str(tmp_path))
    assert case.found() == {("templates_path", "bad_templates")}


def test_a_stage_may_differ_in_what_it_does_about_unknown_messages(case: Case) -> None:
    case.put("providers/bells/on_unknown_stages", {"due": "lookup", "d7": "wait"})
    assert case.found() == {("providers.bells.on_unknown_stages.due", "cannot_look_up")}
    case.put("providers/bells/on_unknown_stages", {"sometime": "wait"})
    assert {path for path, _ in case.found()} == {"providers.bells.on_unknown_stages.sometime"}


def test_the_margin_of_a_lease_covers_what_sending_needs() -> None:
    assert LEASE_MARGIN_SECONDS >= send.MARGIN_SECONDS
