"""One flipped bit in anything a vendor's authentication covers is refused, on the raw wire.

The requests are the bytes the vendors' own SDKs send, caught on a socket.  Covered are: for Aliyun the request line,
every signed header, the Authorization header and the body; for Google's token endpoint the whole form; for Twilio and
FCM the request line and the Authorization header.  Basic and Bearer do not cover a body: no vendor could notice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from aiohttp import encode_basic_auth
from alibabacloud_dysmsapi20170525 import models as dysms
from alibabacloud_dysmsapi20170525.client import Client as DysmsClient
from alibabacloud_dyvmsapi20170525 import models as dyvms
from alibabacloud_dyvmsapi20170525.client import Client as DyvmsClient
from alibabacloud_tea_openapi.models import Config
from darabonba.runtime import RuntimeOptions
from simulator_bench import Bench, Start
from simulator_clients import google_assertion, google_token
from twilio.rest import Client as TwilioClient

from gateway.dev.simulator.oauth import GRANT


async def caught(send: Callable[[str], Any]) -> bytes:
    """The bytes that `send(host:port)` puts on the wire."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        seen.append(head + (await reader.readexactly(int(length[1])) if length else b""))
        answer = b'{"Code":"OK","sid":"SM"}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(answer), answer))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    await asyncio.to_thread(send, f"{host}:{port}")
    server.close()
    await server.wait_closed()
    return seen[0]


async def status(bench: Bench, raw: bytes) -> int:
    """The status the simulator answers to raw bytes; 0 when it hangs up without one."""
    host, _, port = bench.simulator.urls.host_port.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    line = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    return int(line.split()[1]) if line else 0


def covered(raw: bytes, headers: set[str], *, body: bool) -> Iterator[int]:
    """The positions of the method, the target, the named headers' values and, when asked, the body."""
    head, _, content = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    yield from range(lines[0].rindex(b" "))
    at = len(lines[0]) + 2
    for line in lines[1:]:
        name, _, value = line.partition(b": ")
        if name.decode().lower() in headers:
            yield from range(at + len(name) + 2, at + len(name) + 2 + len(value))
        at += len(line) + 2
    if body:
        yield from range(len(head) + 4, len(head) + 4 + len(content))


def taken(bench: Bench) -> int:
    return len([line for line in bench.lines() if line["kind"] in ("accepted", "validated", "token")])


async def refuses_every_flip(bench: Bench, raw: bytes, positions: Iterator[int]) -> int:
    """Flips three bits of every position, one request each: the lowest, the case bit, and one that goes round.

    Of the last position all eight: an encoding may have spare bits there.
    """
    where = list(positions)
    flips = {(p, bit) for n, p in enumerate(where) for bit in (0, 5, n % 8)} | {(where[-1], bit) for bit in range(8)}
    gate = asyncio.Semaphore(16)
    before = taken(bench)
    passed: list[tuple[int, int, int]] = []

    async def attempt(position: int, bit: int) -> None:
        flipped = bytearray(raw)
        flipped[position] ^= 1 << bit
        async with gate:
            answer = await status(bench, bytes(flipped))
        if not (answer == 0 or 400 <= answer < 500):
            passed.append((position, bit, answer))

    await asyncio.gather(*(attempt(*flip) for flip in flips))
    assert passed == []
    assert taken(bench) == before
    return len(flips)


def config(bench: Bench, host_port: str) -> Config:
    secrets = bench.simulator.credentials
    return Config(
        access_key_id=secrets.aliyun_access_key_id,
        access_key_secret=secrets.aliyun_access_key_secret,
        endpoint=host_port,
        protocol="HTTP",
    )


def call(bench: Bench, host_port: str, param: str | None = None) -> None:
    """One call by Aliyun's official client."""
    request = dyvms.SingleCallByTtsRequest(
        called_number="13900001234", tts_code="TTS_1", tts_param=param, out_id="0ABCDEFGHJKMN"
    )
    client = DyvmsClient(config(bench, host_port))
    client.single_call_by_tts_with_options(request, RuntimeOptions(autoretry=False))


def text(bench: Bench, host_port: str, param: str | None = None) -> None:
    """One SMS by Aliyun's official client."""
    request = dysms.SendSmsRequest(
        phone_numbers="13900001234", sign_name="示例银行", template_code="SMS_1", template_param=param,
        out_id="0ABCDEFGHJKMN",
    )  # fmt: skip
    client = DysmsClient(config(bench, host_port))
    client.send_sms_with_options(request, RuntimeOptions(autoretry=False))


@pytest.mark.parametrize("send", [call, text])
async def test_aliyun(start: Start, send: Callable[[Bench, str, str], None]) -> None:
    bench = await start()
    raw = await caught(lambda host_port: send(bench, host_port, '{"a":"王 +~M-1"}'))
    signed = re.search(rb"SignedHeaders=([^,]+)", raw)
    assert signed is not None
    headers = {*signed[1].decode().split(";"), "authorization"}
    assert {"host", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256", "user-agent"} <= headers
    assert await refuses_every_flip(bench, raw, covered(raw, headers, body=True)) > 1500
    with_body = raw.replace(b"Content-Length: 0", b"Content-Length: 3") + b"a=1"
    assert await status(bench, with_body) == 400, "the signature covers that there is no body"
    assert await status(bench, raw) == 200, "the flips did not spend the nonce of the true request"
    (line,) = bench.lines("accepted")
    assert line["params"] == {"a": "王 +~M-1"}
    assert await status(bench, raw) == 400
    assert bench.lines("refused")[-1]["code"] == "SignatureNonceUsed"


@pytest.mark.parametrize("voice", [False, True], ids=["messages", "calls"])
async def test_twilio(start: Start, voice: bool) -> None:
    bench = await start()
    secrets = bench.simulator.credentials

    def send(host_port: str) -> None:
        client = TwilioClient(secrets.twilio_account_sid, secrets.twilio_auth_token)
        client.api.base_url = f"http://{host_port}"
        if voice:
            client.calls.create(to="+14155550100", from_="+14155550000", twiml="<Response/>")
        else:
            client.messages.create(to="+14155550100", from_="+14155550000", body="M-1")

    raw = await caught(send)
    assert await refuses_every_flip(bench, raw, covered(raw, {"authorization"}, body=False)) > 400
    assert await status(bench, raw) == 201


def post(path: str, headers: dict[str, str], body: str) -> bytes:
    given = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n{body}".encode()


async def test_google_token_endpoint(start: Start) -> None:
    bench = await start()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    raw = post("/token", form, f"grant_type={GRANT}&assertion={google_assertion(bench)}")
    assert await refuses_every_flip(bench, raw, covered(raw, set(), body=True)) > 1000
    assert await status(bench, raw) == 200


async def test_fcm(start: Start) -> None:
    bench = await start()
    token = await google_token(bench)
    project = bench.simulator.credentials.google_project_id
    body = '{"message":{"token":"device-1"}}'
    raw = post(f"/v1/projects/{project}/messages:send", {"Authorization": f"Bearer {token}"}, body)
    assert await refuses_every_flip(bench, raw, covered(raw, {"authorization"}, body=False)) > 300
    assert await status(bench, raw) == 200


async def test_no_body_makes_a_vendor_stumble(start: Start) -> None:
    bench = await start()
    secrets = bench.simulator.credentials
    google = {"Authorization": f"Bearer {await google_token(bench)}"}
    message = (
        '{"message":{"token":"d","notification":{"title":"t","body":"b"},"data":{"mid":"m"},'
        '"android":{"notification":{"tag":"g"}}}}'
    )
    basic = {"Authorization": encode_basic_auth(secrets.twilio_account_sid, secrets.twilio_auth_token)}
    form = "To=%2B14155550100&From=%2B14155550000&Body=M-1"
    call = "To=%2B14155550100&From=%2B14155550000&Twiml=<Response><Say>M<%2FSay><%2FResponse>"
    for raw in (
        post(f"/v1/projects/{secrets.google_project_id}/messages:send", google, message),
        post(f"/2010-04-01/Accounts/{secrets.twilio_account_sid}/Messages.json", basic, form),
        post(f"/2010-04-01/Accounts/{secrets.twilio_account_sid}/Calls.json", basic, call),
    ):
        for position in range(raw.index(b"\r\n\r\n") + 4, len(raw)):
            for bit in range(8):
                flipped = bytearray(raw)
                flipped[position] ^= 1 << bit
                assert await status(bench, bytes(flipped)) < 500
    for scalar in ("1", "[]", '{"message":[]}', '{"message":{"token":"d","data":"x"}}', '{"message":{"data":null}}'):
        path = f"/v1/projects/{secrets.google_project_id}/messages:send"
        assert await status(bench, post(path, google, scalar)) == 400


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-acs-extra", "1"), ("X-Acs-Security-Token", "t")],
    ids=["unsigned public header", "unsigned security token"],
)
async def test_aliyun_refuses_an_unsigned_public_header(start: Start, name: str, value: str) -> None:
    bench = await start()
    raw = await caught(partial(call, bench))
    added = raw.replace(b"\r\n", f"\r\n{name}: {value}\r\n".encode(), 1)
    assert await status(bench, added) == 400
    assert await status(bench, raw) == 200
