"""A Postgres whose disk is small and can be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.stack.postgres import PostgresServer

MEBIBYTE: Final = 2**20
# What an empty server takes, some databases and the log it writes ahead; the rest is what a test may fill.
_SIZE: Final = 320 * MEBIBYTE


def can_mount() -> bool:
    """A disk of one's own is for the superuser."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


class SmallDisk(PostgresServer):
    """Everything it writes is on a disk of its own, in memory."""

    _mounted: Path | None = None

    async def _prepare(self, home: Path) -> None:
        place = home / "data"
        place.mkdir(mode=0o700)
        options = f"size={_SIZE},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
        self._mounted = place
        await super()._prepare(home)

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.kill()
        if self._mounted is not None:
            subprocess.run(["umount", "--lazy", self._mounted], check=True)
            self._mounted = None
        await super().stop()

    def fill(self) -> None:
        """No byte is left."""
        ballast = self._data / "ballast"
        with ballast.open("ab") as file:
            free = shutil.disk_usage(self._data).free
            os.posix_fallocate(file.fileno(), file.tell(), free)
        assert shutil.disk_usage(self._data).free == 0

    def make_room(self) -> None:
        (self._data / "ballast").unlink(missing_ok=True)
