"""What a loaded configuration says and does; variables over the file; the example."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from gateway import parameters
from gateway.config import Config, OnUnknown, Role, describe, load
from gateway.ledger.quotas import Quota
from gateway.ledger.standing import Rules
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC, REQUESTS_TOPIC
from schemas.vocabulary import Channel
from tests.unit.config.case import SECRETS, Case, key

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "gateway.yaml"


def test_the_defaults_are_those_of_the_service(case: Case) -> None:
    config = case.load()
    kafka, provider = config.kafka, config.providers["texts"]
    assert (kafka.requests_topic, kafka.events_topic, kafka.deadletters_topic) == (
        REQUESTS_TOPIC,
        EVENTS_TOPIC,
        DEADLETTERS_TOPIC,
    )
    assert config.roles == frozenset(Role)
    assert provider.on_unknown is OnUnknown.WAIT
    assert provider.total_timeout_seconds > provider.connect_timeout_seconds + provider.read_timeout_seconds
    assert config.lenders["harbour"].routes == {Channel.SMS: "texts", Channel.PUSH: "bells", Channel.VOICE: "calls"}


def test_settings_are_what_the_adapter_reads(case: Case) -> None:
    config = case.load()
    for name, provider in config.providers.items():
        assert type(provider.settings) is case.adapters[provider.adapter].settings_type, name
    hash(config.providers["bells"].settings)


def test_it_cannot_be_changed(case: Case) -> None:
    config = case.load()
    with pytest.raises(ValidationError):
        config.log_level = "debug"
    with pytest.raises(ValidationError):
        config.http.public_port = 1


@pytest.mark.parametrize(
    ("name", "value", "path", "shown"),
    [
        ("GATEWAY__KAFKA__BOOTSTRAP", "a:1,b:2", "kafka.bootstrap", "a:1,b:2"),
        ("gateway__kafka__group", "other", "kafka.group", "other"),
        ("GATEWAY__DATABASE__POOL_SIZE", "3", "database.pool_size", "3"),
        ("GATEWAY__DISPATCH__FAST_PATH", "false", "dispatch.fast_path", "False"),
        ("GATEWAY__LOG_LEVEL", "debug", "log_level", "debug"),
        ("GATEWAY__ROLES", '["intake", "relay"]', "roles", "intake, relay"),
        ("GATEWAY__KAFKA__SECURITY", '{"protocol": "SSL"}', "kafka.security.protocol", "SSL"),
        ("GATEWAY__KAFKA__SECURITY__PROTOCOL", "SSL", "kafka.security.protocol", "SSL"),
        ("GATEWAY__LENDERS__HARBOUR__NAME", "Port", "lenders.harbour.name", "Port"),
        ("GATEWAY__PROVIDERS__TEXTS__RATE_PER_SECOND", "7", "providers.texts.rate_per_second", "7.0"),
        ("GATEWAY__PROVIDERS__TEXTS__SETTINGS__ACCOUNT", "0012", "providers.texts.settings.account", "0012"),
        ("GATEWAY__PROVIDERS__TEXTS__SETTINGS__ACCOUNT", "1e9", "providers.texts.settings.account", "1e9"),
        ("GATEWAY__PROVIDERS__TEXTS__SETTINGS__LIMIT", "5", "providers.texts.settings.limit", "5"),
        ("GATEWAY__SEALING__KEYS__1", "env:OTHER", "sealing.keys.1", "*** (env:OTHER), needs a restart"),
    ],
)
def test_a_variable_overrides_the_file(case: Case, name: str, value: str, path: str, shown: str) -> None:
    case.environ |= {name: value, "OTHER": key(b"o")}
    after = dict(describe(case.load()))
    assert after[path] == shown
    del case.environ[name]
    before = dict(describe(case.load()))
    assert [each for each in before if before[each] != after[each]] == [path]


@pytest.mark.parametrize(
    ("name", "value", "path", "shown"),
    [
        ("GATEWAY__LENDERS", '{"harbour-credit": {"name": "Port"}}', "lenders.harbour-credit.name", "Port"),
        (
            "GATEWAY__PROVIDERS__CALLS__TEMPLATES",
            '{"repayment": {"*": {"zh-CN": {"code": "T3"}}}}',
            "providers.calls.templates.repayment.*.zh-CN.code",
            "T3",
        ),
    ],
)
def test_what_no_variable_can_name_is_overridden_by_the_mapping_above(
    case: Case, name: str, value: str, path: str, shown: str
) -> None:
    """As docs/configuration.md says: capitals and hyphens.  The JSON joins the file's mapping."""
    case.tree["lenders"]["harbour-credit"] = case.tree["lenders"].pop("harbour")
    case.put("providers/calls/templates/repayment/*/zh-CN", {"code": "T2", "params": {"who": "lender"}})
    before = dict(describe(case.load()))
    case.environ[name] = value
    after = dict(describe(case.load()))
    assert after[path] == shown
    assert [each for each in before if before[each] != after[each]] == [path]


def test_only_our_variables_count(case: Case) -> None:
    case.environ |= {"GATEWAY_PORT": "tcp://1", "KAFKA__GROUP": "x", "XGATEWAY__LOG_LEVEL": "debug"}
    assert case.load().log_level == "info"


def test_it_builds_a_sealer_that_opens_what_older_keys_sealed(case: Case) -> None:
    sealed = case.load().sealing.sealer().seal(b"hello", 7, "name")
    case.environ["GATEWAY__SEALING__KEYS__2"] = key(b"2")
    case.environ["GATEWAY__SEALING__CURRENT"] = "2"
    sealer = case.load().sealing.sealer()
    assert sealer.open(sealed, 7, "name") == b"hello"
    assert sealer.seal(b"hello", 7, "name")[1:5] == (2).to_bytes(4, "big")


def test_what_aiokafka_is_given(case: Case) -> None:
    options = case.load().kafka.client_options()
    assert options == {
        "bootstrap_servers": ["localhost:9092"],
        "client_id": "reminder-gateway",
        "security_protocol": "PLAINTEXT",
    }
    secured = {
        "protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": "me",
        "sasl_password": "env:TEXT_KEY",
    }
    case.put("kafka/security", secured)
    options = case.load().kafka.client_options()
    assert isinstance(options.pop("ssl_context"), ssl.SSLContext)
    assert options == {
        "bootstrap_servers": ["localhost:9092"],
        "client_id": "reminder-gateway",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "me",
        "sasl_plain_password": SECRETS["TEXT_KEY"],
    }


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:1", "https://a.example"])
def test_http_is_for_loopback(case: Case, url: str) -> None:
    case.put("http/public_url", f"{url}/base/")
    assert case.load().http.public_url == f"{url}/base"


def test_ports_the_system_chooses_may_be_the_same(case: Case) -> None:
    case.put("http/public_port", 0)
    case.put("http/internal_port", 0)
    assert case.load().http.internal_port == 0


def test_templates_go_by_template_stage_and_locale(case: Case) -> None:
    case.put("providers/calls/templates/repayment/d3", {"en": {"code": "T2", "sign": "S"}})
    mapped = case.load().providers["calls"].mappings()
    assert {key: each.code for key, each in mapped.items()} == {
        ("repayment", "*", "*"): "T1",
        ("repayment", "d3", "en"): "T2",
    }


def test_keys_are_taken_as_they_are_written(case: Case) -> None:
    """YAML would make a truth value of the locale `no` and a number of the lender `007`."""
    case.text = """
lenders: {007: {name: Agency, colour: red}}
providers: {calls: {adapter: call, templates: {repayment: {d3: {no: {code: T}}}}}}
"""
    assert {path for path, _ in case.found()} >= {"lenders.007.colour"}
    case.text = None
    case.tree["lenders"]["007"] = case.tree["lenders"].pop("harbour")
    case.put("providers/calls/templates/repayment/d3", {"no": {"code": "T"}})
    case.text = yaml.safe_dump(case.tree).replace("'007'", "007").replace("'no'", "no")
    assert case.found() == {("providers.calls.templates.repayment.d3.no", "unknown_template")}


def test_an_anchor_may_be_used_again(case: Case) -> None:
    shared = {"repayment": {"d3": {"en": {"code": "T"}}}}
    case.put("providers/texts/templates", shared)
    case.put("providers/bells/templates", shared)
    assert "*id001" in yaml.safe_dump(case.tree)
    assert case.load().providers["bells"].mappings().keys() == {("repayment", "d3", "en")}


def test_everything_in_force_is_described_once(case: Case) -> None:
    rows = describe(case.load())
    paths = [path for path, _ in rows]
    assert len(set(paths)) == len(paths)
    sections = {path.partition(".")[0] for path in paths}
    assert sections == set(Config.model_fields)
    assert dict(rows)["dispatch.lease_seconds"] == "30.0"
    assert dict(rows)["providers.texts.settings.base_url"] == "https://text.example.com"


def _example_secrets() -> dict[str, str]:
    pem = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )
    return {
        "GATEWAY_DATABASE_DSN": "postgresql://reminders:canary@localhost:5432/reminders",
        "KAFKA_PASSWORD": "canary-kafka",
        "APP_TOKEN": "canary-app-token-0123456789",
        "SEALING_KEY_1": key(b"1"),
        "SEALING_INDEX_KEY": key(b"i"),
        "TWILIO_AUTH_TOKEN": "canary-twilio",
        "TWILIO_CALLBACK_TOKEN": "canary-twilio-callback-0123",
        "FCM_PRIVATE_KEY": pem,
        "ALIYUN_ACCESS_KEY_SECRET": "canary-aliyun",
        "ALIYUN_CALLBACK_TOKEN": "canary-aliyun-callback-0123",
    }


def test_the_example_loads_with_the_adapters_there_are() -> None:
    secrets = _example_secrets()
    config = load(EXAMPLE, secrets)
    adapters = {each.adapter for each in config.providers.values()}
    assert adapters == {"twilio_sms", "twilio_voice", "fcm", "aliyun_voice", "aliyun_sms"}
    shown = repr(config) + repr(describe(config))
    assert not [value for value in secrets.values() if value in shown]


def test_the_example_names_the_secrets_it_needs() -> None:
    named = set(re.findall(r"env:([A-Z0-9_]+)", re.sub(r"#.*", "", EXAMPLE.read_text(encoding="utf-8"))))
    assert named == set(_example_secrets())


PRICES = {"providers/texts/price": "0.045", "providers/bells/price": "0", "providers/calls/price": "0.2"}


def test_quotas_are_taken_exactly_and_the_default_is_for_the_rest(case: Case) -> None:
    for path, price in PRICES.items():
        case.put(path, price)
    case.put("brakes", {
        "timezone": "Asia/Shanghai", "currency": "CNY",
        "sources": {"default": {"per_hour": 100}, "//core.example.com/x": {"per_day": 7}},
        "lenders": {"harbour": {"per_hour": 5, "spend_per_day": "1500.000001"}},
    })  # fmt: skip
    config = case.load()
    quotas = parameters.quotas(config)
    assert quotas is not None
    assert quotas.of("//core.example.com/x", "harbour") == {
        ("source", "//core.example.com/x"): Quota(per_day=7),
        ("lender", "harbour"): Quota(per_hour=5, spend_per_day=1_500_000_001),
    }
    assert quotas.of("other", "other") == {("source", "other"): Quota(per_hour=100)}
    assert quotas.timezone == "Asia/Shanghai"
    assert parameters.rules(config, parameters.cadences(config), case.adapters).quotas == quotas
    assert parameters.millionths(config.providers["texts"].price) == 45_000
    shown = dict(describe(config))
    assert shown["brakes.lenders.harbour.spend_per_day"] == "1500.000001"
    assert shown["brakes.sources.default.per_hour"] == "100"


def test_without_quotas_there_is_nothing_to_count(case: Case) -> None:
    config = case.load()
    assert parameters.rules(config, parameters.cadences(config), case.adapters).quotas is None


@pytest.mark.parametrize("who", ["harbour", "default"])
def test_a_cap_of_spending_needs_a_currency_and_the_price_of_every_provider_it_pays(case: Case, who: str) -> None:
    case.put("brakes", {"lenders": {who: {"spend_per_day": "10"}}})
    case.put("providers/texts/price", "0.045")
    assert case.found() == {
        (f"brakes.lenders.{who}.spend_per_day", "missing"),
        ("providers.bells.price", "missing"),
        ("providers.calls.price", "missing"),
    }


def test_what_ladders_climb_by(case: Case) -> None:
    case.put("lenders/harbour/call_centre_per_hour", 40)

    def rules() -> Rules:
        config = case.load()
        return parameters.rules(config, parameters.cadences(config), case.adapters)

    found = rules()
    assert found.call_centre == {"harbour": 40}
    assert {"default/1/d7", "default/1/t30"} <= found.climbs.keys()
    assert found.receipts == {"texts", "calls", "bells"}
    assert found.replaces == {"bells"}
    case.put("http/app_tokens", [])
    assert rules().receipts == {"texts", "calls"}  # of a push the lender's app tells, and nobody else
