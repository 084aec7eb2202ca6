"""The signatures that the vendors publish in their documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from providers.auth import acs3, twilio
from providers.contract import Callback

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "provider-signatures.json").read_text()
)


def named(group: str) -> Any:
    return pytest.mark.parametrize("vector", VECTORS[group], ids=[vector["name"] for vector in VECTORS[group]])


@named("twilio_request_signature")
def test_twilio(vector: dict[str, Any]) -> None:
    params = [(name, value) for name, value in vector["params"]]
    token, expected = vector["auth_token"].encode(), vector["expected_signature"].encode()
    assert twilio.signature(twilio.signed_text(vector["url"], params), token) == expected
    headers = {"x-twilio-signature": expected.decode(), "content-type": twilio.FORM}
    callback = Callback(vector["url"], headers, urlencode(params).encode())
    assert twilio.authenticate(callback, [b"other", token])


@named("aliyun_acs3")
def test_aliyun(vector: dict[str, Any]) -> None:
    query = acs3.canonical_query(vector["query"])
    keys = vector["access_key_id"], vector["access_key_secret"]
    signed = acs3.authorization(vector["method"], vector["path"], query, vector["headers_to_sign"], *keys)
    assert signed == vector["expected_authorization"]
    assert vector["headers_to_sign"]["x-acs-content-sha256"] == acs3.EMPTY_BODY
