"""Plain clients for two vendors, signed by the vendors' own signers."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest
from google.auth import jwt as google_jwt
from google.auth.crypt import RSASigner
from simulator_bench import Bench
from yarl import URL

from gateway.dev.simulator.oauth import AUDIENCE, GRANT

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of nothing


async def aliyun_call(
    bench: Bench,
    number: str = "13900001234",
    reference: str = "REF",
    params: dict[str, str] | None = None,
    **signing: Any,
) -> tuple[int, dict[str, Any]]:
    """One SingleCallByTts."""
    query = {"CalledNumber": number, "TtsCode": "TTS_1", "TtsParam": json.dumps(params or {}), "OutId": reference}
    return await _aliyun(bench, "SingleCallByTts", query, **signing)


async def aliyun_text(
    bench: Bench,
    numbers: str = "13900001234",
    reference: str = "REF",
    params: dict[str, Any] | None = None,
    **signing: Any,
) -> tuple[int, dict[str, Any]]:
    """One SendSms."""
    query = {
        "PhoneNumbers": numbers, "SignName": "示例银行", "TemplateCode": "SMS_1",
        "TemplateParam": json.dumps(params or {}), "OutId": reference,
    }  # fmt: skip
    return await _aliyun(bench, "SendSms", query, **signing)


async def _aliyun(
    bench: Bench,
    action: str,
    query: dict[str, str],
    at: datetime | None = None,
    nonce: str | None = None,
    digest: str = EMPTY,
) -> tuple[int, dict[str, Any]]:
    """`at`, `nonce` and `digest` may be wrong, the signature over them is not."""
    request = DaraRequest()
    request.method, request.pathname, request.query = "POST", "/", query
    request.headers = {
        "host": bench.simulator.urls.host_port,
        "x-acs-action": action,
        "x-acs-version": "2017-05-25",
        "x-acs-date": f"{at or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "x-acs-signature-nonce": nonce or uuid.uuid4().hex,
        "x-acs-content-sha256": digest,
    }
    secrets = bench.simulator.credentials
    request.headers["Authorization"] = Utils.get_authorization(
        request, "ACS3-HMAC-SHA256", EMPTY, secrets.aliyun_access_key_id, secrets.aliyun_access_key_secret
    )
    url = URL(f"{bench.base}/?{urlencode(request.query)}", encoded=True)
    async with bench.session.post(url, headers=request.headers) as response:
        return response.status, json.loads(await response.text())


def google_assertion(bench: Bench) -> str:
    """An assertion signed by google-auth."""
    account = bench.simulator.service_account()
    now = int(time.time())
    claims = {
        "iss": account["client_email"],
        "aud": AUDIENCE,
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "iat": now,
        "exp": now + 3600,
    }
    return str(google_jwt.encode(RSASigner.from_service_account_info(account), claims), "ascii")


async def google_token(bench: Bench) -> str:
    grant = {"grant_type": GRANT, "assertion": await asyncio.to_thread(google_assertion, bench)}
    async with bench.session.post(bench.simulator.urls.token, data=grant) as response:
        return str((await response.json())["access_token"])


async def fcm_send(
    bench: Bench, device: str, *, mid: str | None = None, body: str = "M-1", tag: str | None = None,
    token: str | None = None,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    message: dict[str, Any] = {"token": device, "notification": {"title": "Due", "body": body}}
    if mid is not None:
        message["data"] = {"mid": mid}
    if tag is not None:
        message["android"] = {"notification": {"tag": tag}}
    project = bench.simulator.credentials.google_project_id
    url = f"{bench.base}/v1/projects/{project}/messages:send"
    headers = {"Authorization": f"Bearer {token or await google_token(bench)}"}
    async with bench.session.post(url, json={"message": message}, headers=headers) as response:
        return response.status, await response.json()
