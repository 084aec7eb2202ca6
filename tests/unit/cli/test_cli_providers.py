"""What `providers` tells of adapters: what each needs and can, whose it is, and never a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import Field, SecretStr
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.providers import circuits_in, settings_of
from gateway.dispatch.circuit import CircuitState
from gateway.observability.metrics import Metrics
from providers import catalog
from providers.contract import Adapter, ProviderSettings, Secret
from schemas.vocabulary import Channel, FailureScope

CANARY = "canary-secret"


class TheirSettings(ProviderSettings):
    """Either `pin` or
    `token`."""

    user: str
    region: str = "eu"
    token: Secret
    pin: Annotated[SecretStr, Field(min_length=1)] = SecretStr(CANARY)
    old_tokens: tuple[Secret, ...] | None = (SecretStr(CANARY),)
    extra: dict[str, int] = Field(default_factory=lambda: {"a": 1})


class Theirs(Adapter):
    name = "theirs"
    channel = Channel.VOICE
    settings_type = TheirSettings
    interactive = True
    receipts = False


def test_the_settings_of_an_adapter() -> None:
    assert [tuple(each.values()) for each in settings_of(Theirs())] == [
        ("base_url", True, False, None),
        ("user", True, False, None),
        ("region", False, False, "eu"),
        ("token", True, True, None),
        ("pin", False, True, None),
        ("old_tokens", False, True, None),
        ("extra", False, False, "{'a': 1}"),
    ]


def test_third_parties_adapters_are_there_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "_third_party", lambda: [Theirs()])
    for as_json in (["--json"], []):
        ran = CliRunner().invoke(app, ["providers", "--config", str(tmp_path / "none.yaml"), *as_json])
        assert ran.exit_code == 0, ran.output
        assert CANARY not in ran.output
        assert "none.yaml is not there: no provider is configured" in ran.stderr
        for word in (
            "theirs",
            "twilio_sms",
            "aliyun_voice",
            "fcm",
            "old_tokens",
            "interactive",
            "Either `pin` or `token`",
        ):
            assert word in ran.stdout
    rows = [
        json.loads(line) for line in CliRunner().invoke(app, ["providers", "--json", "-c", "none"]).stdout.splitlines()
    ]
    theirs = next(each for each in rows if each["adapter"] == "theirs")
    assert (theirs["channel"], theirs["capabilities"], theirs["providers"]) == ("voice", ["interactive"], [])
    assert theirs["module"] == __name__
    twilio = next(each for each in rows if each["adapter"] == "twilio_sms")
    assert twilio["capabilities"] == ["receipts", "signs_callbacks"]
    assert {each["name"]: (each["needed"], each["secret"]) for each in twilio["settings"]}["auth_tokens"] == (
        False,
        True,
    )


def exposed(**states: CircuitState) -> str:
    registry = CollectorRegistry()
    metrics = Metrics(registry, {"sms_one": Channel.SMS})
    scopes: dict[Any, Any] = dict.fromkeys(FailureScope, CircuitState.CLOSED)
    metrics.watch_circuits("sms_one", lambda: scopes | {FailureScope(name): state for name, state in states.items()})
    return generate_latest(registry).decode()


def test_the_circuits_of_several_gateways_are_the_worst_of_each() -> None:
    found = circuits_in([
        exposed(account=CircuitState.HALF_OPEN, sender=CircuitState.OPEN),
        exposed(account=CircuitState.OPEN, sender=CircuitState.HALF_OPEN, template=CircuitState.HALF_OPEN),
    ])  # fmt: skip
    assert found["sms_one"] == {
        "account": "open", "sender": "open", "template": "half_open", "recipient": "closed",
    }  # fmt: skip
    assert circuits_in([exposed()])["sms_one"] == dict.fromkeys(map(str, FailureScope), "closed")
