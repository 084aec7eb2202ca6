"""A Postgres whose disk is small and can be filled."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.stack.postgres import PostgresServer

MEBIBYTE: Final = 2**20
_PAGE: Final = 4096
# What an empty server takes, some databases and the log it writes ahead; the rest is what a test may fill.
_SIZE: Final = 320 * MEBIBYTE


def can_mount() -> bool:
    """A disk of one's own is for the superuser, and for whoever becomes it without being asked."""
    if shutil.which("mount") is None:
        return False
    return os.geteuid() == 0 or (
        shutil.which("sudo") is not None and subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0
    )


def _as_superuser(*command: str) -> None:
    subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command], check=True)


class SmallDisk(PostgresServer):
    """Everything it writes is on a disk of its own, in memory."""

    _mounted: Path | None = None

    async def _prepare(self, home: Path) -> None:
        place = home / "data"
        place.mkdir(mode=0o700)
        options = f"size={_SIZE},mode=0700,uid={os.geteuid()},gid={os.getegid()}"
        _as_superuser("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place))
        self._mounted = place
        await super()._prepare(home)

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.kill()
        if self._mounted is not None:
            _as_superuser("umount", "--lazy", str(self._mounted))
            self._mounted = None
        await super().stop()

    def fill(self) -> None:
        """No byte is left, whoever else takes some meanwhile."""
        piece = 64 * MEBIBYTE
        with (self._data / "ballast").open("ab") as file:
            while shutil.disk_usage(self._data).free:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), piece)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece = max(piece // 2, _PAGE)

    def make_room(self) -> None:
        (self._data / "ballast").unlink(missing_ok=True)
