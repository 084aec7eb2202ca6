"""Who takes a rotation of Kafka's password: both clients, and only then."""

from typing import Any

import pytest

from gateway import parameters
from gateway.composition.ground import renew_client
from gateway.config import Config, Kafka
from tests.unit.config.case import Case


def with_password(config: Config, password: str) -> Config:
    security: dict[str, Any] = {
        "protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "gateway", "sasl_password": password,
    }  # fmt: skip
    return config.model_copy(update={"kafka": Kafka.model_validate({"bootstrap": "b:1", "security": security})})


@pytest.fixture
def config(tmp_path: Any) -> Config:
    return Case(tmp_path).load()


def test_a_client_is_renewed_when_its_login_has_changed(config: Config) -> None:
    renewed: list[None] = []
    was = with_password(config, "one")
    renew_client(lambda: renewed.append(None), was, with_password(config, "one"))
    assert renewed == []
    now = with_password(config, "two")
    renew_client(lambda: renewed.append(None), was, now)
    assert len(renewed) == 1
    renew_client(lambda: renewed.append(None), None, now)  # nobody knows what it has
    assert len(renewed) == 2
    for options in (parameters.consumer_options(now.kafka), parameters.producer_options(now.kafka)):
        assert options["sasl_plain_password"] == "two"
