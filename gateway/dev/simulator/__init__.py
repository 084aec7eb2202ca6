"""The providers, simulated: Twilio and Aliyun, SMS and Voice, and FCM on loopback, for development and proof.

It checks signatures as the vendors do, writes down what it accepted before it says so, sends receipts, holds the
dialogues of calls, and misbehaves on order.  It shares no code with the adapters it meets, so that a mistake of theirs
cannot hide in it.

    async with Simulator(SimulatorConfig(log=Path("simulator.jsonl"))) as simulator:
        simulator.urls.base, simulator.credentials, simulator.service_account()

Pointing the vendors' own SDKs at it:
    Twilio:   client = twilio.rest.Client(sid, token); client.api.base_url = urls.base
    Aliyun:   Client(Config(endpoint=urls.host_port, protocol="HTTP", ...))
    Firebase: messaging._get_messaging_service(app)._fcm_url = urls.base + "/v1/projects/<project>/messages:send",
              credentials from `service_account()`
"""

from gateway.dev.simulator.callee import Callee
from gateway.dev.simulator.config import CallSettings, ReceiptSettings, SimulatorConfig, load_config
from gateway.dev.simulator.credentials import Credentials
from gateway.dev.simulator.names import Action, Ending, Kind, Outcome, Pickup, Vendor
from gateway.dev.simulator.script import ReceiptPlan, Rule, Script
from gateway.dev.simulator.serve import serve
from gateway.dev.simulator.server import Simulator
from gateway.dev.simulator.urls import Urls

__all__ = [
    "Action",
    "CallSettings",
    "Callee",
    "Credentials",
    "Ending",
    "Kind",
    "Outcome",
    "Pickup",
    "ReceiptPlan",
    "ReceiptSettings",
    "Rule",
    "Script",
    "Simulator",
    "SimulatorConfig",
    "Urls",
    "Vendor",
    "load_config",
    "serve",
]
