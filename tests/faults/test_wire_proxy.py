"""The way through an HTTP proxy: what it does wrong lies before the first byte, and it never sees what is sent.

One proxy is ours and misbehaves; another (proxy.py, from PyPI) is somebody else's, and judges what we say to it.
"""

import asyncio
import base64
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import uvloop

from gateway.dev.host import free_port
from gateway.dev.process import Child
from gateway.dispatch.transport import MaybeSent, NotSent, Proxy, Timeouts, Transport, Wire
from providers.contract import HttpRequest, HttpResponse
from tests.faults.connect_proxy import ConnectProxy, connect_proxy
from tests.faults.wire import BODY, OK, QUICK, Answer, Provider, never, provider, request, says, transport
from tests.stack.certificates import Authority, serving

# The hook that is to replace this fixture speaks for every test of a run, not for a module.
pytestmark = pytest.mark.filterwarnings('ignore:Overriding the "event_loop_policy" fixture')

WELL = says(OK)
NAME = "api.provider.test"  # nobody but the proxy can find it
LOGIN = "gateway:canary-proxy-password"


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("providers"))
    made.pair("named", [NAME])
    return made


class Stage:
    """A provider with TLS under NAME, a proxy that knows it, and a transport that trusts and uses them."""

    def __init__(self, server: Provider, proxy: ConnectProxy, wire: Transport) -> None:
        self.server, self.proxy, self.wire = server, proxy, wire

    async def post(self, host: str = NAME) -> HttpResponse | NotSent | MaybeSent:
        return await self.wire.post(request(f"https://{host}/send"))


@asynccontextmanager
async def stage(
    authority: Authority,
    answer: Answer = WELL,
    timeouts: Timeouts = QUICK,
    *,
    proxy: ConnectProxy | None = None,
    login: str | None = None,
    keep_alive: bool = True,
) -> AsyncIterator[Stage]:
    trust = ssl.create_default_context(cafile=authority.file)
    named = authority.home / "named.crt"
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(named, named.with_suffix(".key"))
    async with provider(answer, keep_alive=keep_alive, tls=server_tls) as server:
        it = proxy or ConnectProxy()
        it.names = {f"{NAME}:443": server.port, "other.provider.test:443": server.port}
        async with (
            connect_proxy(it),
            transport(timeouts, tls=trust, proxy=Proxy("127.0.0.1", it.port, login)) as wire,
        ):
            yield Stage(server, it, wire)


async def test_a_request_goes_through_encrypted_from_end_to_end(authority: Authority) -> None:
    async with stage(authority, login=LOGIN) as it:
        for _ in range(3):
            answer = await it.post()
            assert isinstance(answer, HttpResponse)
            assert (answer.status, answer.body) == (200, b"ok")
        assert len(it.server.requests) == 3
        assert len(it.proxy.heads) == 1  # one tunnel, used again
        credentials = base64.b64encode(LOGIN.encode())
        assert it.proxy.heads[0] == (
            b"CONNECT api.provider.test:443 HTTP/1.1\r\nhost: api.provider.test:443\r\n"
            b"proxy-authorization: Basic " + credentials + b"\r\n\r\n"
        )
        assert b"/send" not in it.proxy.carried
        assert BODY not in it.proxy.carried
        assert b"proxy-authorization" not in b"".join(it.server.requests).lower()


async def test_the_providers_name_is_verified_not_the_proxys(authority: Authority) -> None:
    async with stage(authority) as it:
        assert await it.post("other.provider.test") == NotSent(Wire.TLS)
        assert it.server.requests == []


async def test_a_proxy_that_answers_for_the_provider_is_found_out(authority: Authority, tmp_path: Path) -> None:
    """It ends TLS itself, under a certificate that nobody here trusts."""
    between = serving(Authority(tmp_path, "between").pair("fake", [NAME]))
    async with provider(says(OK), tls=between) as fake, stage(authority) as it:
        it.proxy.names = {f"{NAME}:443": fake.port}
        assert await it.post() == NotSent(Wire.TLS)
        assert fake.requests == []


async def test_without_tls_it_is_a_tunnel_too(authority: Authority) -> None:
    async with provider(says(OK)) as plain, stage(authority) as it:
        it.proxy.names = {"plain.provider.test:80": plain.port}
        assert isinstance(await it.wire.post(request("http://plain.provider.test/send")), HttpResponse)
        assert it.proxy.heads[0].startswith(b"CONNECT plain.provider.test:80 HTTP/1.1\r\n")
        assert plain.requests[0].startswith(b"POST /send HTTP/1.1\r\n")


def closes(raw: bytes) -> ConnectProxy:
    async def misbehave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return ConnectProxy(misbehave=misbehave)


@pytest.mark.parametrize(
    ("raw", "wire"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n", Wire.PROXY_LOGIN),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", Wire.PROXY_REFUSED),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Wire.PROXY_REFUSED),
        (b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\n\r\n", Wire.PROXY_REFUSED),
        (b"HTTP/1.1 100 Continue\r\n\r\n", Wire.PROXY_REFUSED),
        (b"HTTP/2 200 OK\r\n\r\n", Wire.PROXY_REFUSED),
        (b"HTTP/1.1 20 OK\r\n\r\n", Wire.PROXY_REFUSED),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", Wire.PROXY_REFUSED),
        (b"HTTP/1.1 200 OK\r\n", Wire.PROXY_REFUSED),  # and closes
        (b"", Wire.PROXY_REFUSED),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5000, Wire.PROXY_REFUSED),
        # An answer to a request that nobody has made yet: it must not answer the one to come.
        (b"HTTP/1.1 200 OK\r\n\r\n" + OK, Wire.PROXY_REFUSED),
        (b"HTTP/1.1 200 OK\r\n\r\n", Wire.TLS),  # and closes, in the middle of the handshake
    ],
)
async def test_whatever_a_proxy_says_instead_was_not_sent(authority: Authority, raw: bytes, wire: Wire) -> None:
    async with stage(authority, timeouts=Timeouts(2.0, 2.0, 5.0), proxy=closes(raw), login=LOGIN) as it:
        result = await it.post()
        # How a close in the middle of a handshake is told depends on the loop.
        assert result in ({NotSent(Wire.TLS), NotSent(Wire.REFUSED)} if wire is Wire.TLS else {NotSent(wire)})
        assert "canary" not in repr(result)
        assert it.server.requests == []
        assert it.wire._open == set()
        assert it.wire._reserved == 0


async def test_an_answer_in_pieces_is_an_answer(authority: Authority) -> None:
    async with provider(says(OK), tls=serving(authority.pair("pieces", [NAME]))) as server:

        async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for byte in b"HTTP/1.0 200 Connection established\r\nproxy-agent: slow\r\n\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            await proxy.join(reader, writer, server.port, b"")

        proxy = ConnectProxy(misbehave=dribble)
        async with stage(authority, timeouts=Timeouts(2.0, 2.0, 5.0), proxy=proxy) as it:
            assert isinstance(await it.post(), HttpResponse)
            assert len(server.requests) == 1


async def test_a_proxy_that_hangs_was_not_sent(authority: Authority) -> None:
    async with stage(authority, proxy=ConnectProxy(misbehave=never)) as it:
        assert await it.post() == NotSent(Wire.CONNECT_TIMEOUT)
        assert it.wire._reserved == 0


async def test_a_tunnel_that_hangs_in_the_handshake_was_not_sent(authority: Authority) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await never(reader, writer)

    async with stage(authority, proxy=ConnectProxy(misbehave=mute)) as it:
        assert await it.post() == NotSent(Wire.CONNECT_TIMEOUT)
        assert it.wire._reserved == 0


async def test_a_proxy_that_is_not_there_was_not_sent(authority: Authority) -> None:
    trust = ssl.create_default_context(cafile=authority.file)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for host, port in (("127.0.0.1", taken.getsockname()[1]), ("proxy.invalid", 3128)):
            async with transport(Timeouts(10, 1, 20), tls=trust, proxy=Proxy(host, port)) as wire:
                assert await wire.post(request(f"https://{NAME}/send")) == NotSent(Wire.PROXY_UNREACHABLE)


async def test_a_cancellation_in_the_tunnel_was_not_sent(authority: Authority) -> None:
    async with stage(authority, timeouts=Timeouts(10, 10, 30), proxy=ConnectProxy(misbehave=never)) as it:
        task = asyncio.create_task(it.post())
        while not it.proxy.heads:
            await asyncio.sleep(0.01)
        task.cancel()
        assert await task == NotSent(Wire.CANCELLED)
        assert it.wire._reserved == 0


async def test_no_socket_is_left_behind(authority: Authority) -> None:
    """Whichever way the proxy fails us, and when it is we who go."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await never(reader, writer)

    async def not_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await reader.read(1)
        writer.write(b"220 mail.example ESMTP\r\n")
        await never(reader, writer)

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        await never(reader, writer)  # keeps its end open

    for misbehave in (never, mute, not_tls, refuses):
        async with stage(authority, proxy=ConnectProxy(misbehave=misbehave)) as it:
            posts = [asyncio.create_task(it.post()) for _ in range(4)]
            while len(it.proxy.heads) < 4:
                await asyncio.sleep(0.01)
            for each in posts[2:]:
                each.cancel()
            results = await asyncio.gather(*posts)
            assert {type(each) for each in results} == {NotSent}
            async with asyncio.timeout(20):
                while _connected_to(it.proxy.port):
                    await asyncio.sleep(0.01)
            assert (it.wire._open, it.wire._reserved) == (set(), 0)


def _connected_to(port: int) -> list[str]:
    found = psutil.Process().net_connections("tcp")
    return [each.status for each in found if each.raddr and each.raddr.port == port]


async def test_a_tunnel_that_breaks_after_the_request_may_have_been_sent(authority: Authority) -> None:
    async def gone(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with stage(authority, answer=gone) as it:
        assert await it.post() == MaybeSent(Wire.DISCONNECTED)
        assert len(it.server.requests) == 1


async def test_what_is_on_loopback_is_never_asked_of_a_proxy(authority: Authority) -> None:
    async with provider(says(OK)) as near, stage(authority) as it:
        assert isinstance(await it.wire.post(request(near.url())), HttpResponse)
        assert it.proxy.heads == []


async def test_mode_simulate_takes_no_proxy(authority: Authority) -> None:
    """A proxy could carry a name that stands for this machine to anywhere; and other names are not for it either."""
    async with provider(says(OK)) as near, stage(authority) as it:
        wire = Transport(QUICK, 4, proxy=Proxy("127.0.0.1", it.proxy.port), loopback_only=True)
        await wire.open()
        assert await wire.post(request(f"https://{NAME}/send")) == NotSent(Wire.NOT_LOOPBACK)
        assert isinstance(await wire.post(request(f"http://localhost:{near.port}/send")), HttpResponse)
        assert it.proxy.heads == []
        await wire.close()
        await asyncio.sleep(0)


async def test_what_is_sent_after_a_renewal_goes_the_new_way(authority: Authority) -> None:
    """A login that was renewed, and a certificate authority that was taken away; connections that stand or not."""
    go = asyncio.Event()

    async def when_told(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(OK)

    async with stage(authority, answer=when_told, timeouts=Timeouts(5, 5, 12), login=LOGIN) as it:
        under_way = asyncio.create_task(it.post())
        while not it.server.requests:
            await asyncio.sleep(0.01)
        trust = ssl.create_default_context(cafile=authority.file)
        it.wire.renew(trust, Proxy("127.0.0.1", it.proxy.port, "gateway:another"))
        go.set()
        assert isinstance(await under_way, HttpResponse)
        for _ in range(2):
            assert isinstance(await it.post(), HttpResponse)
        sent = [head.split(b"Basic ")[1].split(b"\r\n")[0] for head in it.proxy.heads]
        assert [base64.b64decode(each) for each in sent] == [LOGIN.encode(), b"gateway:another"]
        it.wire.renew(None, Proxy("127.0.0.1", it.proxy.port))
        assert await it.post() == NotSent(Wire.TLS)
        assert it.wire._reserved == 0


async def test_no_adapter_speaks_to_the_proxy(authority: Authority) -> None:
    async with stage(authority, login=LOGIN) as it:
        bad = HttpRequest(f"https://{NAME}/send", {"Proxy-Authorization": "Basic x"}, BODY)
        assert await it.wire.post(bad) == NotSent(Wire.BAD_REQUEST)
    assert "canary" not in repr(Proxy("proxy", 3128, LOGIN))


# --- a proxy that we did not write ------------------------------------------------------------------------------------


async def test_another_proxy_carries_it_and_wants_its_login(authority: Authority, tmp_path: Path) -> None:
    """It looks names up as we do, so the provider is asked for by an address of this machine that is not 127.0.0.1."""
    here = _own_address()
    tls = serving(authority.pair("oracle", [here]))
    port = free_port()
    child = Child("proxy.py", tmp_path / "proxy.log")
    child.spawn([
        sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", str(port), "--num-workers", "1",
        "--num-acceptors", "1", "--basic-auth", LOGIN, "--log-level", "WARNING", "--data-dir", str(tmp_path),
    ])  # fmt: skip
    try:
        await child.ready(lambda: _listens(port), within=30)
        async with provider(says(OK), keep_alive=True, tls=tls, host=here) as server:
            trust = ssl.create_default_context(cafile=authority.file)
            url = f"https://{here}:{server.port}/send"
            patient = Timeouts(10, 10, 30)
            for login, expected in ((LOGIN, None), ("gateway:wrong", Wire.PROXY_LOGIN), (None, Wire.PROXY_LOGIN)):
                async with transport(patient, tls=trust, proxy=Proxy("127.0.0.1", port, login)) as wire:
                    result = await wire.post(request(url))
                    if expected is None:
                        assert isinstance(result, HttpResponse)
                        assert isinstance(await wire.post(request(url)), HttpResponse)
                    else:
                        assert result == NotSent(expected)
            assert len(server.requests) == 2
            assert server.connections == 1
        async with transport(patient, tls=trust, proxy=Proxy("127.0.0.1", port, LOGIN)) as wire:
            assert await wire.post(request(url)) == NotSent(Wire.PROXY_REFUSED)  # nobody is there any more
    finally:
        await child.kill()


def _own_address() -> str:
    """One of this machine's that is not on loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
