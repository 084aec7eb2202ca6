"""From an origin to a connection on which its requests may be written: direct, or through a proxy."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import cast

from gateway.dispatch.transport.connection import Connection
from gateway.dispatch.transport.outcomes import NotSent, Timeouts, Wire
from gateway.dispatch.transport.request import Origin
from gateway.dispatch.transport.tunnel import NoTunnel, Proxy, through
from gateway.loopback import is_loopback, is_loopback_address


@dataclass(frozen=True, slots=True)
class Way:
    """How providers are reached: whose certificates count, and through which proxy.

    What is on loopback is never asked of a proxy.  With `loopback_only` nothing else is reached, and no proxy is: it
    could carry a name that stands for this machine to anywhere.
    """

    tls: ssl.SSLContext
    proxy: Proxy | None = None
    loopback_only: bool = False

    async def dial(self, loop: asyncio.AbstractEventLoop, origin: Origin, timeouts: Timeouts) -> Connection | NotSent:
        """A new connection, or why there is none.  TLS is the provider's from end to end, under the provider's name."""
        connection = Connection(loop, timeouts)
        try:
            if self.loopback_only:
                await self._straight(loop, origin, connection, await _on_loopback(loop, origin))
            elif self.proxy is None or is_loopback(origin.host):
                await self._straight(loop, origin, connection, origin.host)
            else:
                await self._through(loop, origin, connection, self.proxy)
        except _Elsewhere:
            return NotSent(Wire.NOT_LOOPBACK)
        except NoTunnel as none:
            return NotSent(none.wire)
        except TimeoutError:
            return NotSent(Wire.CONNECT_TIMEOUT)
        except socket.gaierror:
            return NotSent(Wire.DNS)
        except ssl.SSLError:  # certificate errors included
            return NotSent(Wire.TLS)
        except OSError:
            return NotSent(Wire.REFUSED)
        except (ValueError, UnicodeError):
            return NotSent(Wire.BAD_REQUEST)  # a host that is no name, a port that is none
        return connection

    async def _straight(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, connection: Connection, host: str
    ) -> None:
        await loop.create_connection(
            lambda: connection, host, origin.port, ssl=self.tls if origin.tls else None,
            server_hostname=origin.host if origin.tls else None,
        )  # fmt: skip

    async def _through(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, connection: Connection, proxy: Proxy
    ) -> None:
        joined = await through(loop, proxy, origin)
        try:
            if origin.tls:
                upgraded = await loop.start_tls(joined, connection, self.tls, server_hostname=origin.host)
                connection.connection_made(cast("asyncio.Transport", upgraded))
            else:
                joined.set_protocol(connection)
                connection.connection_made(joined)
                joined.resume_reading()
        except BaseException:
            joined.abort()
            raise


async def _on_loopback(loop: asyncio.AbstractEventLoop, origin: Origin) -> str:
    """The address to connect to: looked up here, so that nothing else is looked up when the connection is made.

    One address elsewhere is enough to refuse the name; raises _Elsewhere.
    """
    if not is_loopback(origin.host):
        raise _Elsewhere
    found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    if not addresses or not all(map(is_loopback_address, addresses)):
        raise _Elsewhere
    return addresses[0]


class _Elsewhere(Exception):
    """The name leads off this machine."""
