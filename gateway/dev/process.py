"""Child processes that do not outlive their owner, even when it is killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]  # it ships no types

from gateway.dev.host import StackError

_LEASH = Path(__file__).with_name("leash.py")


class Child:
    """One child process on a leash (see leash.py). Bound to no event loop, so fixtures of any scope can share it.

    Start it from the main thread: the leash is tied to the thread that started it. Signals reach its whole tree.
    """

    def __init__(self, name: str, log: Path, *, user: str = "") -> None:
        self.name = name
        self.log = log
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Self:
        """Start the command; output is appended to the log. `env` replaces the environment when given."""
        if self.alive:
            raise StackError(f"{self.name} is already running")
        leash = [sys.executable, "-I", "-S", _LEASH, str(os.getpid()), self._user, *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argument list, no shell
                leash,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=self.log.parent,
                process_group=0,  # a terminal's Ctrl-C is for the owner, who stops its children in order
            )
        return self

    @property
    def pid(self) -> int:
        if self._process is None:
            raise StackError(f"{self.name} was never started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.poll()

    async def ready(self, probe: Callable[[], Awaitable[bool]], *, within: float) -> None:
        """Wait until `probe` says yes; StackError with the end of the log if the process dies or the time is up."""
        end = time.monotonic() + within
        while not await probe():
            if not self.alive:
                raise StackError(f"{self.name} ended with {self.returncode}\n{self.tail()}")
            if time.monotonic() > end:
                raise StackError(f"{self.name} was not ready within {within:g} s\n{self.tail()}")
            await asyncio.sleep(0.02)

    async def wait(self, *, within: float) -> int:
        """The exit code; StackError when it is still running after `within` seconds."""
        end = time.monotonic() + within
        while self._process is not None and self._process.poll() is None:
            if time.monotonic() > end:
                raise StackError(f"{self.name} did not end within {within:g} s\n{self.tail()}")
            await asyncio.sleep(0.005)
        return 0 if self._process is None else self._process.returncode

    async def finished(self, *, within: float) -> int:
        """As `wait`, for a tool that must not outlive whoever waits for it: its files may be removed next."""
        try:
            return await self.wait(within=within)
        finally:
            await self.kill()

    async def stop(self, *, within: float = 10, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Ask it to end and wait; after `within` seconds kill it. The exit code, or None if it never ran."""
        if not self.alive:
            return self.returncode
        self.resume()
        os.kill(self.pid, how)
        try:
            return await self.wait(within=within)
        except StackError:
            await self.kill()
            return self.returncode

    async def kill(self) -> None:
        """SIGKILL to it and to all its descendants; returns when every one of them is gone."""
        if not self.alive:
            return
        family = self._freeze()
        _each(family, psutil.Process.kill)
        await self.wait(within=10)
        while not all(map(_gone, family)):  # noqa: ASYNC110 - nothing tells us when somebody else's child is gone
            await asyncio.sleep(0.005)

    def pause(self) -> None:
        """SIGSTOP to it and to all its descendants."""
        self._freeze()

    def resume(self) -> None:
        """SIGCONT to it and to all its descendants."""
        if self.alive:
            _each(reversed(_family(self.pid)), psutil.Process.resume)

    def tail(self, lines: int = 30) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _freeze(self) -> list[psutil.Process]:
        """Stop the parent before the children, so that no new child escapes."""
        if not self.alive:
            return []
        os.kill(self.pid, signal.SIGSTOP)
        family = _family(self.pid)
        _each(family, psutil.Process.suspend)
        return family


def _family(pid: int) -> list[psutil.Process]:
    """The process and its descendants, parents first."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _each(family: Iterable[psutil.Process], action: Callable[[psutil.Process], None]) -> None:
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            action(process)


def _gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
