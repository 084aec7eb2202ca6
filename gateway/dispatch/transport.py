"""The only file that speaks HTTP to providers.

Its one question: may the provider have the request?  Connect and read timeouts are set apart, because only that
tells "not sent" from "maybe sent".  Sends are POST: aiohttp silently repeats idempotent methods on a dropped
keep-alive connection.  Redirects are never followed.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp
from yarl import URL

from providers.contract import HttpRequest, HttpResponse

_BODY_LIMIT: Final = 256 * 1024
_BREAKS: Final = re.compile(r"[\r\n\0]").search


class Wire(StrEnum):
    """What went wrong on the wire; values are attempt codes."""

    REFUSED = "connect_refused"
    DNS = "dns_failure"
    TLS = "tls_failure"
    CONNECT_TIMEOUT = "connect_timeout"
    READ_TIMEOUT = "read_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    DISCONNECTED = "disconnected"
    GARBLED = "garbled_answer"
    TOO_LARGE = "answer_too_large"
    CANCELLED = "cancelled"
    BAD_REQUEST = "unsendable_request"


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proof that no byte of the request left."""

    wire: Wire


@dataclass(frozen=True, slots=True)
class MaybeSent:
    """Bytes may have left and no readable answer came."""

    wire: Wire


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds.  `total` exceeds `connect` plus `read`, so that it never fires first and hides the phase."""

    connect: float
    read: float
    total: float


class Transport:
    """One pool of connections to one provider."""

    def __init__(self, timeouts: Timeouts, connections: int) -> None:
        self._timeouts = aiohttp.ClientTimeout(
            total=timeouts.total, connect=timeouts.connect, sock_connect=timeouts.connect, sock_read=timeouts.read
        )
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        # Shorter than a provider's own idle timeout: a connection it just closed makes a send ambiguous.
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=15, ttl_dns_cache=30)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeouts,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def post(self, request: HttpRequest) -> HttpResponse | NotSent | MaybeSent:
        """One POST, exactly once.  Never raises for what the network does; a cancellation is answered as MaybeSent
        and asked again of the caller's task by `asyncio.Task.cancelling`."""
        url = _sendable(request)
        if self._session is None or url is None:
            return NotSent(Wire.BAD_REQUEST)
        try:
            async with self._session.post(
                url, data=request.body, headers=request.headers, allow_redirects=False
            ) as response:
                body = await response.content.read(_BODY_LIMIT + 1)
                while len(body) <= _BODY_LIMIT and not response.content.at_eof():
                    body += await response.content.read(_BODY_LIMIT + 1 - len(body))
                if len(body) > _BODY_LIMIT:
                    return MaybeSent(Wire.TOO_LARGE)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HttpResponse(response.status, headers, body)
        except aiohttp.ClientConnectorDNSError:
            return NotSent(Wire.DNS)
        except (aiohttp.ClientConnectorSSLError, aiohttp.ClientConnectorCertificateError):
            return NotSent(Wire.TLS)
        except aiohttp.ClientConnectorError:
            return NotSent(Wire.REFUSED)
        except aiohttp.ConnectionTimeoutError:
            return NotSent(Wire.CONNECT_TIMEOUT)
        except aiohttp.InvalidURL:
            return NotSent(Wire.BAD_REQUEST)
        except aiohttp.SocketTimeoutError:
            return MaybeSent(Wire.READ_TIMEOUT)
        except TimeoutError:
            return MaybeSent(Wire.TOTAL_TIMEOUT)
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError):
            return MaybeSent(Wire.GARBLED)
        except (aiohttp.ClientError, OSError, ValueError):
            return MaybeSent(Wire.DISCONNECTED)
        except asyncio.CancelledError:
            # Shutdown has waited long enough.  The outcome is still recorded; then the task ends.
            return MaybeSent(Wire.CANCELLED)


def _sendable(request: HttpRequest) -> URL | None:
    """The URL of a request that can be put on the wire as it is; aiohttp finds some faults only on the connection."""
    url, texts = request.url, (*request.headers, *request.headers.values())
    if request.method != "POST" or not url.startswith(("http://", "https://")) or not url.isascii():
        return None
    if not url.isprintable() or " " in url or any(not isinstance(text, str) or _BREAKS(text) for text in texts):
        return None
    try:
        return URL(url, encoded=True)
    except ValueError:
        return None
