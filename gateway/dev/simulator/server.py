"""The simulator as one object: one port on loopback, every vendor on its own paths."""

from __future__ import annotations

import asyncio
import socket
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from gateway.dev.simulator.calls import Switchboard
from gateway.dev.simulator.config import SimulatorConfig
from gateway.dev.simulator.control import Control
from gateway.dev.simulator.courier import Courier
from gateway.dev.simulator.credentials import Credentials
from gateway.dev.simulator.desk import Desk, reset
from gateway.dev.simulator.journal import Journal
from gateway.dev.simulator.names import Kind
from gateway.dev.simulator.outward import Outward
from gateway.dev.simulator.pace import Pace, RealPace
from gateway.dev.simulator.script import Director, Script
from gateway.dev.simulator.twilio_account import Account as TwilioAccount
from gateway.dev.simulator.upstream import Letter, Upstream, Written
from gateway.dev.simulator.urls import Urls
from gateway.dev.simulator.vendors import Vendors

_BACKLOG = 1024
_MAX_BODY = 256 * 1024
_MAX_LINE = 32 * 1024  # Aliyun takes a thousand numbers in the query
_STOP = 2.0  # seconds an answer under way has when the simulator stops


class Simulator:
    """The vendors on loopback.  Started once; `stop` is safe at any time and may be repeated."""

    def __init__(
        self, config: SimulatorConfig, credentials: Credentials | None = None, pace: Pace | None = None
    ) -> None:
        """`pace` keeps its time; without one it is real."""
        pace = pace or RealPace()
        self.config = config
        if credentials is None and config.credentials is not None:
            credentials = Credentials.load_or_create(config.credentials)
        self.credentials = credentials or Credentials.generate()
        self.journal = Journal(config.log, fsync=config.fsync, pace=pace)
        self._director = Director(config.script)
        self._outward = Outward(config.receipts.connections)
        self._courier = Courier(self.journal, self._outward, config.receipts, pace)
        twilio = TwilioAccount(self.credentials, config.receipts.retry_scale)
        switchboard = Switchboard(
            twilio, self.journal, self._courier, self._outward, config.calls, config.receipts, config.marker
        )
        self._desk = Desk(self.journal, self._director, self._courier, switchboard, config.marker)
        self._vendors = Vendors(self.credentials, twilio, config)
        self.console = self._vendors.console
        self._upstream = Upstream(self.journal, self._courier, self._vendors.aliyun_sms, self._vendors.twilio)
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite | None = None
        self._port = config.port
        self._outage: asyncio.Task[None] | None = None
        self._urls: Urls | None = None

    @property
    def urls(self) -> Urls:
        """Raises RuntimeError before `start`."""
        if self._urls is None:
            raise RuntimeError("the simulator was not started")
        return self._urls

    async def start(self) -> None:
        """Re-reads the log, then listens.  Raises OSError when the port is taken or another simulator has the log."""
        for line in self.journal.open():
            self._director.recall(line)
            if line.get("nonce"):
                self._vendors.aliyun.nonces.fresh(line["nonce"], datetime.fromisoformat(line["at"]))
        try:
            await self._outward.start()
            self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_STOP, max_line_size=_MAX_LINE)
            await self._runner.setup()
            await self._listen(self._port)
            self._urls = Urls.at(self.config.host, self._port)
            self._vendors.office.token_uri = self._urls.token
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stops listening, drops held connections and receipts under way, and closes the log."""
        if self._outage is not None:
            self._outage.cancel()
            await asyncio.gather(self._outage, return_exceptions=True)
        self._desk.closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._courier.stop()
        await self._outward.stop()
        self.journal.close()

    @property
    def pending_receipts(self) -> int:
        """Receipts, retries included, that have not had their last answer, and calls that go on."""
        return self._courier.pending

    async def settled(self) -> None:
        """Returns once every call has ended and every receipt, retries included, has had its last answer."""
        await self._courier.settled()

    def perform(self, script: Script) -> None:
        """Replaces the script; the recipients' turns go on."""
        self._director.script = script

    def write_back(self, letter: Letter) -> Written | None:
        """A borrower writes back to an SMS; None as long as the console has no URL for it."""
        return self._upstream.write(letter)

    def promote_twilio_token(self, token: str, secondary: str | None = None) -> None:
        """The account's primary auth token from now on, and the secondary one while it has two."""
        self._vendors.twilio_account.promote(token, secondary)

    def service_account(self) -> dict[str, Any]:
        """A Google key file that asks this simulator for tokens."""
        return self.credentials.service_account(self.urls.token)

    @property
    def access_tokens(self) -> tuple[str, ...]:
        """The access tokens granted since the start: whoever asks wants to know that they stand nowhere."""
        return tuple(self._vendors.office.granted)

    def refuse(self, seconds: float) -> None:
        """For that long, new connections are refused and open ones reset: nothing can have been sent."""
        if self._outage is None or self._outage.done():
            self._outage = asyncio.get_running_loop().create_task(self._be_gone(seconds))

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY)
        control = Control(self.journal, self._director, self._courier, self.console, self._upstream, self.refuse)
        app.add_routes(
            [
                *self._vendors.routes(self._desk),
                *control.routes(),
                web.route("*", "/{unknown:.*}", self._nobody),
            ]
        )
        return app

    async def _nobody(self, _request: web.Request) -> web.Response:
        """No vendor lives here: most likely a wrong base URL."""
        self.journal.write(Kind.REFUSED, vendor=None, code="no_such_path")
        return web.Response(status=404)

    async def _listen(self, port: int) -> None:
        if self._runner is None:
            raise RuntimeError("the simulator is stopping")
        address = (self.config.host, port)
        family = socket.AF_INET6 if ":" in self.config.host else socket.AF_INET
        sock = socket.create_server(address, family=family, backlog=_BACKLOG)
        self._site = web.SockSite(self._runner, sock, backlog=_BACKLOG)
        await self._site.start()
        self._port = sock.getsockname()[1]

    async def _be_gone(self, seconds: float) -> None:
        if self._site is None or self._runner is None or self._runner.server is None:
            return
        await self._site.stop()
        for connection in self._runner.server.connections:
            reset(connection.transport)
        await asyncio.sleep(seconds)
        await self._listen(self._port)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
