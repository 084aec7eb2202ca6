"""The vendors of one simulator, and the paths they live on.

The paths do not collide, so no prefix is needed and every base URL is `http://host:port`: Twilio
`/2010-04-01/Accounts/{sid}/Messages.json` and `Calls.json`, FCM `/v1/projects/{project}/messages:send`, Google's token
endpoint `/token`, Aliyun `/` (its SDKs take a host and port and always call the root: the action's header tells the
product).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.dev.simulator.aliyun import Account as AliyunAccount
from gateway.dev.simulator.aliyun_sms import AliyunSms
from gateway.dev.simulator.aliyun_voice import AliyunVoice
from gateway.dev.simulator.config import SimulatorConfig
from gateway.dev.simulator.console import Console
from gateway.dev.simulator.credentials import Credentials
from gateway.dev.simulator.desk import Desk
from gateway.dev.simulator.fcm import Fcm
from gateway.dev.simulator.oauth import TokenOffice
from gateway.dev.simulator.twilio import Twilio
from gateway.dev.simulator.twilio_account import Account as TwilioAccount
from gateway.dev.simulator.twilio_voice import TwilioVoice
from gateway.dev.simulator.wire import Wire


class Vendors:
    """One wire per product; products of one vendor share its account."""

    def __init__(self, credentials: Credentials, twilio: TwilioAccount, config: SimulatorConfig) -> None:
        receipts = config.receipts
        self.office = TokenOffice(credentials)
        self.twilio_account = twilio
        self.twilio = Twilio(twilio, receipts.twilio_sms_url)
        self.twilio_voice = TwilioVoice(twilio)
        self.fcm = Fcm(credentials, self.office, receipts)
        self.aliyun = AliyunAccount(credentials)
        self.aliyun_voice = AliyunVoice(self.aliyun, receipts, receipts.aliyun_url)
        self.aliyun_sms = AliyunSms(self.aliyun, receipts, receipts.aliyun_sms_url)
        self.console = Console(self.aliyun_voice, self.aliyun_sms, self.fcm, self.twilio)

    def routes(self, desk: Desk) -> list[web.RouteDef]:
        """Every vendor's door; behind each the same desk."""

        def door(wire: Wire) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
            async def handle(request: web.Request) -> web.StreamResponse:
                return await desk.serve(wire, request)

            return handle

        async def aliyun(request: web.Request) -> web.StreamResponse:
            sms = request.headers.get("x-acs-action") == AliyunSms.action
            return await desk.serve(self.aliyun_sms if sms else self.aliyun_voice, request)

        return [
            web.post("/2010-04-01/Accounts/{sid}/Messages.json", door(self.twilio)),
            web.post("/2010-04-01/Accounts/{sid}/Calls.json", door(self.twilio_voice)),
            web.post("/v1/projects/{project}/messages:send", door(self.fcm)),
            web.post("/token", door(self.office)),
            web.post("/", aliyun),
        ]
