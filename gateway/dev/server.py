"""What every server of the development stack has in common: a directory, a process, and the ways to disturb it."""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from gateway.dev.host import Home, StackError
from gateway.dev.process import Child

# Nothing else of our environment reaches a server, so that it behaves the same everywhere.
_KEPT = ("HOME", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
_READY_WITHIN = 60.0


class Server(ABC):
    """One server of our own; `async with` starts and stops it. Not bound to an event loop.

    Start it from the main thread. It ends when this process ends, however that happens (see leash.py).
    """

    name: str
    _stop_signal = signal.SIGTERM
    _patience = 10.0
    _home: Home | None = None
    _child: Child | None = None

    @abstractmethod
    async def _prepare(self, home: Path) -> None:
        """Once, before the first launch: find the program, create its files."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]: ...

    @abstractmethod
    async def _answers(self) -> bool:
        """Does it serve requests?"""

    def _environment(self) -> Mapping[str, str]:
        return {}

    def _account(self) -> str:
        """The system account to run as; empty for our own."""
        return ""

    @property
    def process(self) -> Child:
        """The server's process, as last launched."""
        if self._child is None:
            raise StackError(f"{self.name} was never started")
        return self._child

    async def start(self) -> None:
        """Prepare and launch; returns once it serves requests. StackError says what is missing or went wrong."""
        self._home = Home(self.name)
        try:
            await self._prepare(self._home.path)
            self._child = Child(self.name, self._home.path / f"{self.name}.log", user=self._account())
            await self.launch()
        except BaseException:
            await self.stop()
            raise

    async def launch(self) -> None:
        """Start the process on the files that are there; returns once it serves requests."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self.process.spawn(self._command(), env={**kept, **self._environment()})
        await self.process.ready(self._answers, within=_READY_WITHIN)

    async def stop(self) -> None:
        """End the process and remove its files. Harmless when repeated, or after a failed start."""
        if self._child is not None:
            await self._child.stop(within=self._patience, how=self._stop_signal)
        if self._home is not None:
            self._home.close()

    async def halt(self) -> None:
        """End the process in its own orderly way; its files and its port stay."""
        await self.process.stop(within=self._patience, how=self._stop_signal)

    async def kill(self) -> None:
        """SIGKILL; its files and its port stay."""
        await self.process.kill()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self.process.pause()

    def resume(self) -> None:
        """End a pause."""
        self.process.resume()

    async def restart(self) -> None:
        """An orderly stop, then launch."""
        await self.halt()
        await self.launch()

    async def heal(self) -> None:
        """Whatever a test did to it: afterwards it serves requests."""
        self.resume()
        if self.process.alive:
            await self.process.ready(self._answers, within=_READY_WITHIN)
        else:
            await self.launch()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
