"""Ports and directories on this machine that are ours alone and leave nothing behind, even when we are killed."""

import contextlib
import fcntl
import os
import random
import shutil
import socket
import tempfile
from pathlib import Path

_PREFIX = "reminder-gateway-"
# Below the range from which systems pick ports for outgoing connections (Linux 32768, BSD and macOS 49152): a client
# that keeps reconnecting to a stopped server could otherwise be given that very port and block the restart.
_PORTS = range(20_000, 30_000)


class StackError(RuntimeError):
    """A part of the development stack is missing, did not start or did not stop; the message says which and why."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses, and that no other caller of this function gets while we live."""
    for port in random.sample(_PORTS, 200):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        claim.detach()  # the UDP port of the same number is the claim; it is held until this process ends
        return port
    raise StackError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


class Home:
    """A fresh directory, removed by `close()`, or by the next `Home` of this user if its owner was killed.

    Others may pass through it but not list it, so that a server can run under another account inside.
    """

    def __init__(self, name: str) -> None:
        _sweep()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}-"))
            self._lock = os.open(self.path, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self.path.exists():  # else a sweep got in between creation and lock
                break
            os.close(self._lock)
        self.path.chmod(0o711)

    def close(self) -> None:
        """Remove the directory. Harmless when repeated."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _sweep() -> None:
    """Remove the directories of dead owners: a living owner holds the lock."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
