"""Callbacks written byte by byte: to every route, with its token, signed as the vendor would sign these very bytes."""

import asyncio
import contextlib
import hashlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import psutil  # type: ignore[import-untyped]  # it ships no types

from gateway.dev.settings import LENDER_IN_CHINA, LENDER_THAT_ASKS
from gateway.dev.simulator.twilio_account import sign
from gateway.ids import to_reference
from tests.stack.gateway import GatewayProcess, address, requested
from tests.stack.scene import Scene

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

# How each borrower is reached, so that every provider with callbacks has a message that waits for its receipt.
CONTACTS: Final[Mapping[str, dict[str, Any]]] = {
    "twilio": {"channels": ["sms"]},
    "aliyun": {"channels": ["voice"]},
    "fcm": {"channels": ["push"]},
    "aliyun_sms": {"channels": ["sms"], "lender": LENDER_IN_CHINA},
    "twilio_voice": {"channels": ["voice"], "lender": LENDER_THAT_ASKS},
}


@dataclass(frozen=True)
class Door:
    """One way in: where it is, what a good callback says, and how any body is made authentic."""

    name: str
    path: Callable[[bytes], str]
    kind: str
    body: bytes
    authentic: Callable[[bytes], Mapping[str, str]]
    good: int = 200

    def head(self, body: bytes, *headers: str, path: str | None = None) -> bytes:
        """Of a POST without its length: whoever calls says how the body is delimited."""
        lines = [f"POST {path or self.path(body)} HTTP/1.1", "Host: gateway", f"Content-Type: {self.kind}"]
        lines += [f"{name}: {value}" for name, value in self.authentic(body).items()]
        return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1")

    def whole(self, body: bytes | None = None, *headers: str) -> bytes:
        """A request as a client would send it, after which it wants no more."""
        body = self.body if body is None else body
        return self.head(body, f"Content-Length: {len(body)}", "Connection: close", *headers) + body

    @property
    def reads_json(self) -> bool:
        return self.kind == JSON


def order(number: int, provider: str) -> dict[str, Any]:
    """A request that goes out by this provider."""
    wanted = dict(CONTACTS[provider])
    return requested(number, wanted.pop("channels"), **wanted)


def doors(scene: Scene, attempts: Mapping[str, int], numbers: Mapping[str, int]) -> list[Door]:
    """Every route.  The good body of each says that its provider's message has arrived."""
    environ = scene.gateway.settings.environ
    base, token = scene.gateway.settings.tree["http"]["public_url"], environ["GATEWAY_CALLBACK_TOKEN"]
    secret, app = environ["TWILIO_AUTH_TOKEN"], environ["GATEWAY_APP_TOKEN"]

    def plain(path: str) -> Callable[[bytes], str]:
        return lambda body: path

    def signed(path: str) -> Callable[[bytes], Mapping[str, str]]:
        def headers(body: bytes) -> Mapping[str, str]:
            fields = parse_qsl(body.decode(errors="replace"), keep_blank_values=True)
            return {"X-Twilio-Signature": sign(base + path, fields, secret)}

        return headers

    def hashed(path: str) -> Callable[[bytes], str]:
        return lambda body: f"{path}?bodySHA256={hashlib.sha256(body).hexdigest()}"

    def signed_by_hash(path: str) -> Callable[[bytes], Mapping[str, str]]:
        return lambda body: {"X-Twilio-Signature": sign(base + hashed(path)(body), (), secret)}

    reference = {name: to_reference(attempt) for name, attempt in attempts.items()}
    phones = {name: address("sms", number) for name, number in numbers.items()}
    sms, call = f"/callbacks/twilio/{token}", f"/callbacks/twilio_voice/{token}/{reference['twilio_voice']}"
    mine = f"{sms}/{reference['twilio']}"
    said = {"MessageSid": "SM" + "1" * 32, "MessageStatus": "delivered"}
    answered = {"CallSid": "CA" + "1" * 32, "CallStatus": "completed", "AnsweredBy": "human"}
    pressed = {"CallSid": "CA" + "1" * 32, "Digits": "2"}
    called = [{"status_code": "200000", "call_id": "1^1", "out_id": reference["aliyun"]}]
    texted = {
        "phone_number": phones["aliyun_sms"].removeprefix("+86"), "success": True, "err_code": "DELIVERED",
        "biz_id": "1^2", "out_id": reference["aliyun_sms"],
    }  # fmt: skip
    opened = {"attempt": reference["fcm"], "kind": "opened", "at": "2026-03-02T09:00:00Z"}
    reply = {"MessageSid": "SM" + "2" * 32, "SmsStatus": "received", "From": phones["twilio"], "Body": "hello"}

    def nothing(body: bytes) -> Mapping[str, str]:
        return {}

    def form(fields: Mapping[str, str]) -> bytes:
        return urlencode(fields).encode()

    return [
        Door("twilio", plain(mine), FORM, form(said), signed(mine), 204),
        Door("twilio-json", hashed(mine), JSON, json.dumps(said | {"No": "2"}).encode(), signed_by_hash(mine), 204),
        Door("twilio-reply", plain(sms), FORM, form(reply), signed(sms), 204),
        Door("twilio-voice", plain(call), FORM, form(answered), signed(call)),
        Door("twilio-key", plain(f"{call}?step=identity"), FORM, form(pressed), signed(f"{call}?step=identity")),
        Door("aliyun", plain(f"/callbacks/aliyun/{token}"), JSON, json.dumps(called).encode(), nothing),
        Door("aliyun-sms", plain(f"/callbacks/aliyun_sms/{token}"), JSON, json.dumps([texted]).encode(), nothing),
        Door("push", plain("/events/push"), JSON, json.dumps(opened).encode(),
             lambda body: {"Authorization": f"Bearer {app}"}, 204),
    ]  # fmt: skip


@asynccontextmanager
async def line(scene: Scene) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the public listener, whose pieces leave as they are written."""
    url = urlsplit(scene.gateway.settings.tree["http"]["public_url"])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def said(scene: Scene, pieces: Iterable[bytes], pause: float = 0.0, within: float = 30.0) -> list[int]:
    """The statuses of all answers until the listener hangs up, which it must."""
    heard = b""
    async with line(scene) as (reader, writer):

        async def write() -> None:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    if pause:
                        await asyncio.sleep(pause)

        writing = asyncio.create_task(write())
        try:
            async with asyncio.timeout(within):
                while data := await reader.read(65536):
                    heard += data
        except ConnectionError:
            pass
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
    return [int(each) for each in _STATUS.findall(heard)]


class Memory:
    """What a gateway takes from here on: the highest it ever was, not what is left when somebody looks.

    Where the kernel does not say (it is no Linux), what is left.
    """

    def __init__(self, gateway: GatewayProcess) -> None:
        self._process = psutil.Process(gateway.child.pid)
        self._folder = Path(f"/proc/{gateway.child.pid}")
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "clear_refs").write_text("5")  # the highest begins anew, proc_pid_clear_refs(5)
        self._before = self._rss()

    def grown_mib(self) -> float:
        with contextlib.suppress(FileNotFoundError):
            [peak] = re.findall(r"VmHWM:\s+(\d+) kB", (self._folder / "status").read_text())
            return int(peak) / 1024 - self._before
        return self._rss() - self._before

    def _rss(self) -> float:
        return float(self._process.memory_info().rss) / 2**20


def cpu_seconds(gateway: GatewayProcess) -> float:
    times = psutil.Process(gateway.child.pid).cpu_times()
    return float(times.user + times.system)
