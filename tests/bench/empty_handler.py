"""The yardstick for callbacks: an aiohttp handler that does nothing.  `python -m tests.bench.empty_handler PORT`."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import web


async def empty(_: web.Request) -> web.Response:
    return web.Response(status=204)


async def main(port: int) -> None:
    app = web.Application()
    app.router.add_post("/callbacks/{provider}/{token}/{attempt}", empty)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
