"""The internal listener's routes: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from gateway.internal.health import Health
from schemas.vocabulary import Mode


def build(registry: CollectorRegistry, health: Health, mode: Mode) -> web.Application:
    """The application; it needs neither the database nor Kafka, so it answers while they are away.

    200 or 503 with JSON: {"alive": …} or {"ready": …}, and `reasons` by component, empty when all is well.  `degraded`
    names what is in trouble and does not make the process unready.  `/readyz` also says in which `mode` it runs.
    """

    async def livez(request: web.Request) -> web.Response:
        return _answer("alive", health.dead())

    async def readyz(request: web.Request) -> web.Response:
        reasons = health.unready()
        return _answer("ready", reasons, degraded=health.degraded(), mode=mode)

    application = web.Application()
    application.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/metrics", make_aiohttp_handler(registry)),
        ]
    )
    return application


def _answer(what: str, reasons: Mapping[str, str], **more: object) -> web.Response:
    return web.json_response(
        {what: not reasons, "reasons": reasons, **more},
        status=503 if reasons else 200,
        headers={"Cache-Control": "no-store"},
    )
