"""Every misbehaviour on order: what the client sees, and what the log says really happened."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from simulator_bench import Start
from simulator_clients import aliyun_call, aliyun_text, fcm_send, google_token

from gateway.dev.simulator import Action, Rule, Script, Vendor
from gateway.dev.simulator.codes import FAULTS

PHONE = "+14155550100"


@pytest.mark.parametrize("action", [Action.RESET, Action.DROP])
async def test_a_reset_connection(start: Start, action: Action) -> None:
    bench = await start(Rule(recipient=PHONE, action=action))
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await bench.sms(PHONE)
    assert len(bench.lines("accepted")) == (action is Action.RESET)
    assert len(bench.lines("dropped")) == (action is Action.DROP)


@pytest.mark.parametrize("action", [Action.HANG, Action.STALL])
async def test_silence(start: Start, action: Action) -> None:
    bench = await start(Rule(action=action))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.sms(PHONE), 0.4)
    assert len(bench.lines("accepted")) == (action is Action.HANG)
    assert len(bench.lines("dropped")) == (action is Action.STALL)


async def test_silence_ends_after_its_seconds(start: Start) -> None:
    bench = await start(Rule(action=Action.HANG, seconds=0.2))
    began = time.monotonic()
    with pytest.raises(aiohttp.ClientOSError):
        await bench.sms(PHONE)
    assert 0.2 <= time.monotonic() - began < 20


async def test_a_stop_does_not_wait_for_held_connections(start: Start) -> None:
    bench = await start(Rule(action=Action.HANG))
    sending = asyncio.create_task(bench.sms(PHONE))
    await bench.logged("accepted")
    async with asyncio.timeout(20):
        await bench.simulator.stop()
    with pytest.raises(aiohttp.ClientError):
        await sending


async def test_half_an_answer(start: Start) -> None:
    bench = await start(Rule(action=Action.TRUNCATE))
    with pytest.raises(aiohttp.ClientPayloadError):
        await bench.sms(PHONE)
    assert len(bench.lines("accepted")) == 1


async def test_latency(start: Start) -> None:
    bench = await start(Rule(latency=(0.3, 0.3)))
    began = time.monotonic()
    assert (await bench.sms(PHONE))[0] == 201
    assert time.monotonic() - began >= 0.3


async def test_an_error_after_acceptance(start: Start) -> None:
    bench = await start(Rule(action=Action.ERROR, status=503, after_accept=True))
    status, answer = await bench.sms(PHONE)
    assert status == 503
    assert "html" in answer["text"], "a proxy's error, not the vendor's"
    assert len(bench.lines("accepted")) == 1
    assert not bench.lines("refused")


async def test_a_bare_error_is_not_an_acceptance(start: Start) -> None:
    bench = await start(Rule(action=Action.ERROR, status=502))
    assert (await bench.sms(PHONE))[0] == 502
    assert [line["code"] for line in bench.lines("refused")] == ["http_502"]
    assert not bench.lines("accepted")


async def test_every_listed_code_can_be_ordered(start: Start) -> None:
    bench = await start()
    token = await google_token(bench)
    for vendor in (Vendor.TWILIO, Vendor.TWILIO_VOICE, Vendor.FCM, Vendor.ALIYUN, Vendor.ALIYUN_SMS):
        for code, fault in FAULTS[vendor].items():
            bench.simulator.perform(Script(rules=(Rule(vendor=vendor, action=Action.ERROR, code=code),)))
            if vendor is Vendor.TWILIO:
                status, answer = await bench.sms(PHONE)
                told = str(answer["code"])
            elif vendor is Vendor.TWILIO_VOICE:
                status, answer = await bench.call(to=PHONE)
                told = str(answer["code"])
            elif vendor is Vendor.FCM:
                status, answer = await fcm_send(bench, "device-1", token=token)
                told = answer["error"].get("details", [{}])[0].get("errorCode", answer["error"]["status"])
            else:
                status, answer = await (aliyun_call if vendor is Vendor.ALIYUN else aliyun_text)(bench)
                told = answer["Code"]
            assert (status, told) == (fault.status, code if code != "BAD_PAYLOAD" else "INVALID_ARGUMENT")
    assert not bench.lines("accepted")


async def test_the_token_endpoint_misbehaves_too(start: Start) -> None:
    bench = await start(Rule(vendor=Vendor.OAUTH, action=Action.ERROR, code="internal_failure", times=1))
    with pytest.raises(KeyError):
        await google_token(bench)
    assert await google_token(bench)
    assert (await fcm_send(bench, "device-1"))[0] == 200


async def test_retry_after_in_each_vendors_words(start: Start) -> None:
    bench = await start(
        Rule(vendor=Vendor.TWILIO, action=Action.ERROR, code="20429", retry_after=3),
        Rule(action=Action.ERROR, status=503, retry_after=4),
    )
    secrets = bench.simulator.credentials
    url = f"{bench.base}/2010-04-01/Accounts/{secrets.twilio_account_sid}/Messages.json"
    basic = aiohttp.encode_basic_auth(secrets.twilio_account_sid, secrets.twilio_auth_token)
    form = {"To": PHONE, "From": PHONE, "Body": "M-1"}
    for expected in (3, 4):
        async with bench.session.post(url, data=form, headers={"Authorization": basic}) as response:
            assert response.headers["Retry-After"] == str(expected)
        bench.simulator.perform(Script(rules=(Rule(action=Action.ERROR, status=503, retry_after=4),)))


async def test_refused_connections(start: Start) -> None:
    bench = await start()
    assert (await bench.sms(PHONE))[0] == 201
    bench.simulator.refuse(0.4)
    await asyncio.sleep(0.1)
    with pytest.raises(aiohttp.ClientConnectorError):
        await bench.sms(PHONE)
    await asyncio.sleep(0.5)
    assert (await bench.sms(PHONE))[0] == 201
    assert len(bench.lines("accepted")) == 2


async def test_refusing_can_be_ordered_over_http(start: Start) -> None:
    bench = await start()
    assert (await bench.control("refuse", {"seconds": 0.3}))[0] == 200
    await asyncio.sleep(0.1)
    with pytest.raises(aiohttp.ClientConnectorError):
        await bench.sms(PHONE)
    await bench.simulator.stop()


async def test_a_wrong_path_is_nobodys(start: Start) -> None:
    bench = await start()
    async with bench.session.get(f"{bench.base}/twilio/Messages.json") as response:
        assert response.status == 404
    assert bench.lines("refused")[-1]["code"] == "no_such_path"
