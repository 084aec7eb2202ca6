"""A real Postgres whose databases are clones of one migrated template."""

import itertools
import shutil
import subprocess
from pathlib import Path

from gateway.dev.embedded import EmbeddedPostgres

_TEMPLATE = "migrated"


class PostgresServer(EmbeddedPostgres):
    """The embedded server plus `fresh_database()`. kill(), restart(), pause() and heal() come with Server."""

    _numbers = itertools.count(1)
    _has_template = False

    async def fresh_database(self) -> str:
        """The name of a new database with the current schema and no rows, cloned in some tens of milliseconds."""
        if not self._has_template:
            from gateway.ledger.schema import migrate

            await self.execute(f'DROP DATABASE IF EXISTS "{_TEMPLATE}"')  # a half migrated one, had that failed
            await migrate(await self.create_database(_TEMPLATE))
            self._has_template = True
        name = f"test_{next(self._numbers)}"
        await self.create_database(name, template=_TEMPLATE)
        return name

    async def drop_database(self, name: str) -> None:
        """Disconnect whoever is in it, and remove it."""
        await self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def keep(self) -> None:
        """Stops, copies everything, and goes on: `go_back` has this moment again."""
        await self.halt()
        self._copy(self._data, self._kept)
        await self.launch()

    async def go_back(self) -> None:
        """What was committed since `keep` is gone, as when a standby that had not heard of it takes over."""
        await self.kill()
        shutil.rmtree(self._data)
        self._copy(self._kept, self._data)
        await self.launch()

    @property
    def _kept(self) -> Path:
        return self._data.with_name("kept")

    def _copy(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", source, target], check=True)
