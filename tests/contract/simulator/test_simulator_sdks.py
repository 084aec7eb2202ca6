"""The vendors' own SDKs are satisfied: what they send is accepted, what they parse they can read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import firebase_admin
import pytest
from alibabacloud_dyvmsapi20170525 import models as dyvms
from alibabacloud_dyvmsapi20170525.client import Client as DyvmsClient
from alibabacloud_tea_openapi import exceptions as tea
from alibabacloud_tea_openapi.models import Config
from darabonba.runtime import RuntimeOptions
from firebase_admin import credentials as firebase_credentials
from firebase_admin import messaging
from google.auth import exceptions as google_exceptions
from google.auth.transport.requests import Request as GoogleRequest
from google.oauth2 import service_account
from simulator_bench import Bench, Start
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client as TwilioClient

from gateway.dev.simulator import Action, Rule, Script, Simulator, Vendor

# firebase-admin 7.7 deprecates Message.token in favour of `fid`; real borrowers' apps still register tokens.
pytestmark = pytest.mark.filterwarnings("ignore:Message.token is deprecated:DeprecationWarning")


def twilio(simulator: Simulator, token: str | None = None) -> TwilioClient:
    secrets = simulator.credentials
    client = TwilioClient(secrets.twilio_account_sid, token or secrets.twilio_auth_token)
    client.api.base_url = simulator.urls.base
    return client


def aliyun(simulator: Simulator, secret: str | None = None) -> DyvmsClient:
    secrets = simulator.credentials
    return DyvmsClient(
        Config(
            access_key_id=secrets.aliyun_access_key_id,
            access_key_secret=secret or secrets.aliyun_access_key_secret,
            endpoint=simulator.urls.host_port,
            protocol="HTTP",
        )
    )


def call(bench: Bench, **fields: Any) -> Any:
    request = dyvms.SingleCallByTtsRequest(
        **{"called_number": "13900001234", "tts_code": "TTS_1", "out_id": "0ABCDEFGHJKMN", **fields}
    )
    client = aliyun(bench.simulator)
    return client.single_call_by_tts_with_options(request, RuntimeOptions(autoretry=False)).body


@asynccontextmanager
async def firebase(simulator: Simulator) -> AsyncIterator[firebase_admin.App]:
    app = firebase_admin.initialize_app(
        firebase_credentials.Certificate(simulator.service_account()), name=simulator.urls.base
    )
    project = simulator.credentials.google_project_id
    messaging._get_messaging_service(app)._fcm_url = f"{simulator.urls.base}/v1/projects/{project}/messages:send"
    try:
        yield app
    finally:
        # It runs an event loop of its own to close its asynchronous half.
        await asyncio.to_thread(firebase_admin.delete_app, app)


async def test_twilio_sends(start: Start) -> None:
    bench = await start()
    message = await asyncio.to_thread(
        lambda: twilio(bench.simulator).messages.create(
            to="+8613900001234",
            from_="+14155550000",
            body="您好 M-7Q 到期",
            status_callback="http://127.0.0.1:9/cb/T/REF1",
        )
    )
    assert message.sid.startswith("SM")
    assert len(message.sid) == 34
    assert message.status == "queued"
    assert message.error_code is None
    assert message.date_created is not None
    (line,) = bench.lines("accepted")
    assert {name: line[name] for name in ("vendor", "id", "recipient", "text_or_template", "reference", "marker")} == {
        "vendor": "twilio",
        "id": message.sid,
        "recipient": "+8613900001234",
        "text_or_template": "您好 M-7Q 到期",
        "reference": "REF1",
        "marker": "M-7Q",
    }
    assert "/cb/T/" not in bench.log.read_text(), "the path token of the callback is a secret"


async def test_twilio_queues_at_a_messaging_service(start: Start) -> None:
    bench = await start()
    message = await asyncio.to_thread(
        lambda: twilio(bench.simulator).messages.create(to="+14155550100", messaging_service_sid="MG1", body="M-1")
    )
    assert message.status == "accepted"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"to": "12345"}, 21211),
        ({"from_": ""}, 21603),
        ({"body": ""}, 21602),
        ({"body": "x" * 1601}, 21617),
        ({"status_callback": "ftp://x/y"}, 21609),
        ({"status_callback": "http://[/y"}, 21609),
    ],
)
async def test_twilio_refuses_bad_fields(start: Start, fields: dict[str, str], code: int) -> None:
    bench = await start()
    given = {"to": "+14155550100", "from_": "+14155550000", "body": "M-1", **fields}
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(lambda: twilio(bench.simulator).messages.create(**given))
    assert (refused.value.status, refused.value.code) == (400, code)
    assert [line["code"] for line in bench.lines("refused")] == [str(code)]
    assert not bench.lines("accepted")


async def test_twilio_refuses_a_wrong_token(start: Start) -> None:
    bench = await start()
    client = twilio(bench.simulator, token="0" * 32)
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(lambda: client.messages.create(to="+14155550100", from_="+14155550000", body="M-1"))
    assert (refused.value.status, refused.value.code) == (401, 20003)


@pytest.mark.parametrize(("code", "status"), [("21610", 400), ("20429", 429), ("20503", 503)])
async def test_twilio_reads_scripted_errors(start: Start, code: str, status: int) -> None:
    bench = await start(Rule(vendor=Vendor.TWILIO, action=Action.ERROR, code=code))
    client = twilio(bench.simulator)
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(lambda: client.messages.create(to="+14155550100", from_="+14155550000", body="M-1"))
    assert (refused.value.status, refused.value.code) == (status, int(code))


async def test_aliyun_calls(start: Start) -> None:
    bench = await start()
    body = await asyncio.to_thread(
        call, bench, tts_param=json.dumps({"name": "张 三~*", "ref": "M-42"}, ensure_ascii=False), play_times=2
    )
    assert body.code == "OK"
    (line,) = bench.lines("accepted")
    assert line["id"] == body.call_id
    assert line["recipient"] == "13900001234"
    assert line["text_or_template"] == "TTS_1"
    assert line["params"] == {"name": "张 三~*", "ref": "M-42"}
    assert (line["reference"], line["marker"]) == ("0ABCDEFGHJKMN", "M-42")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"called_number": "abc"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"tts_param": "{"}, "isv.INVALID_JSON_PARAM"),
        ({"tts_param": "[]"}, "isv.INVALID_JSON_PARAM"),
        ({"out_id": "0" * 16}, "isv.INVALID_PARAMETERS"),
        ({"play_times": 4}, "isv.INVALID_PARAMETERS"),
    ],
)
async def test_aliyun_refuses_bad_fields_with_http_200(start: Start, fields: dict[str, Any], code: str) -> None:
    bench = await start()
    body = await asyncio.to_thread(lambda: call(bench, **fields))
    assert body.code == code
    assert body.call_id is None
    assert not bench.lines("accepted")


async def test_aliyun_refuses_a_wrong_secret(start: Start) -> None:
    bench = await start()
    client = aliyun(bench.simulator, secret="x" * 30)
    with pytest.raises(tea.ClientException) as refused:
        await asyncio.to_thread(
            client.single_call_by_tts, dyvms.SingleCallByTtsRequest(called_number="13900001234", tts_code="TTS_1")
        )
    assert (refused.value.status_code, refused.value.code) == (400, "SignatureDoesNotMatch")


async def test_aliyun_reads_scripted_errors(start: Start) -> None:
    bench = await start(Rule(vendor=Vendor.ALIYUN, action=Action.ERROR, code="Throttling.User", retry_after=1.5))
    with pytest.raises(tea.ThrottlingException) as throttled:
        await asyncio.to_thread(call, bench)
    assert throttled.value.retry_after == 1500
    bench.simulator.perform(Script(rules=(Rule(vendor=Vendor.ALIYUN, action=Action.ERROR, code="InternalError"),)))
    with pytest.raises(tea.ServerException):
        await asyncio.to_thread(call, bench)
    bench.simulator.perform(
        Script(rules=(Rule(vendor=Vendor.ALIYUN, action=Action.ERROR, code="isv.BUSINESS_LIMIT_CONTROL"),))
    )
    assert (await asyncio.to_thread(call, bench)).code == "isv.BUSINESS_LIMIT_CONTROL"


async def test_firebase_sends(start: Start) -> None:
    bench = await start()
    android = messaging.AndroidConfig(
        collapse_key="k", ttl=3600, notification=messaging.AndroidNotification(tag="due-1")
    )
    message = messaging.Message(
        token="device-1",
        notification=messaging.Notification("Due soon", "Please pay M-9"),
        data={"mid": "0ABCDEFGHJKMN"},
        android=android,
    )
    async with firebase(bench.simulator) as app:
        name = await asyncio.to_thread(messaging.send, message, app=app)
        dry = await asyncio.to_thread(messaging.send, message, True, app)
    project = bench.simulator.credentials.google_project_id
    assert name.startswith(f"projects/{project}/messages/")
    assert dry.startswith(f"projects/{project}/messages/")
    (line,) = bench.lines("accepted")
    assert line["id"] == name
    assert line["recipient"] == "device-1"
    assert line["text_or_template"] == "Due soon\nPlease pay M-9"
    assert line["params"]["data"] == {"mid": "0ABCDEFGHJKMN"}
    assert (line["reference"], line["marker"], line["replaces"]) == ("0ABCDEFGHJKMN", "M-9", "due-1")
    assert len(bench.lines("validated")) == 1, "a dry run is not a message"
    assert len(bench.lines("token")) == 1, "the SDK asked once and kept the token"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("UNREGISTERED", messaging.UnregisteredError),
        ("SENDER_ID_MISMATCH", messaging.SenderIdMismatchError),
        ("QUOTA_EXCEEDED", messaging.QuotaExceededError),
        ("THIRD_PARTY_AUTH_ERROR", messaging.ThirdPartyAuthError),
        ("INVALID_ARGUMENT", firebase_admin.exceptions.InvalidArgumentError),
        ("UNAUTHENTICATED", firebase_admin.exceptions.UnauthenticatedError),
        ("PERMISSION_DENIED", firebase_admin.exceptions.PermissionDeniedError),
    ],
)
async def test_firebase_reads_scripted_errors(start: Start, code: str, error: type[Exception]) -> None:
    bench = await start(Rule(vendor=Vendor.FCM, action=Action.ERROR, code=code))
    async with firebase(bench.simulator) as app:
        with pytest.raises(error):
            await asyncio.to_thread(messaging.send, messaging.Message(token="device-1"), app=app)


async def test_firebase_refuses_what_google_refuses(start: Start) -> None:
    bench = await start()
    async with firebase(bench.simulator) as app:
        messages = [
            messaging.Message(token="t", data={"from": "x"}),
            messaging.Message(token="t", notification=messaging.Notification("x" * 5000, "y")),
        ]
        for message in messages:
            with pytest.raises(firebase_admin.exceptions.InvalidArgumentError):
                await asyncio.to_thread(messaging.send, message, app=app)
    assert [line["code"] for line in bench.lines("refused")] == ["BAD_PAYLOAD", "BAD_PAYLOAD"]


async def test_google_auth_gets_tokens_only_for_the_right_key(
    start: Start,
) -> None:
    bench = await start()
    account = service_account.Credentials.from_service_account_info(
        bench.simulator.service_account(), scopes=["https://www.googleapis.com/auth/firebase.messaging"]
    )
    await asyncio.to_thread(account.refresh, GoogleRequest())
    assert account.valid
    other = await asyncio.to_thread(type(bench.simulator.credentials).generate)
    stranger = bench.simulator.credentials.model_copy(update={"google_private_key": other.google_private_key})
    forged = service_account.Credentials.from_service_account_info(
        stranger.service_account(bench.simulator.urls.token),
        scopes=["https://www.googleapis.com/auth/firebase.messaging"],
    )
    with pytest.raises(google_exceptions.RefreshError, match="invalid_grant"):
        await asyncio.to_thread(forged.refresh, GoogleRequest())
    unscoped = account.with_scopes(["https://www.googleapis.com/auth/devstorage.read_only"])
    with pytest.raises(google_exceptions.RefreshError, match="invalid_scope"):
        await asyncio.to_thread(unscoped.refresh, GoogleRequest())
