"""The simulator as a process: `serve` blocks until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from gateway.dev.simulator.config import SimulatorConfig, load_config
from gateway.dev.simulator.server import Simulator


def serve(config_path: Path | None, **overrides: Any) -> None:
    """Runs one simulator with the file's settings under the overrides.

    Once it listens it writes one JSON line to standard output: event, pid, urls, log, credentials (a path).  Without
    `credentials` in the settings they are kept beside the log.  Raises what `load_config` and `Simulator.start` raise.
    """
    config = load_config(config_path, **overrides)
    if config.credentials is None:
        config = config.model_copy(update={"credentials": config.log.with_suffix(".credentials.json")})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config))


async def _serve(config: SimulatorConfig) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with Simulator(config) as simulator:
        urls = simulator.urls
        ready = {
            "event": "simulator.ready",
            "pid": os.getpid(),
            "urls": {"base": urls.base, "token": urls.token, "control": urls.control},
            "log": str(config.log),
            "credentials": str(config.credentials),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()
