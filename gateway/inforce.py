"""The configuration in force: one place that holds it and hands it on."""

from __future__ import annotations

from collections.abc import Callable

from gateway.config import Config


class InForce:
    """`config` is what counts now.  A replacement reaches everybody who takes it before anything else runs.

    Who takes it does not wait, so that no request is built with one half of the old and one of the new.  What nobody
    takes counts from the start: a rotation leaves it as it was.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._takers: list[Callable[[Config, Config], None]] = []

    @property
    def config(self) -> Config:
        return self._config

    def taken_by(self, take: Callable[[Config, Config], None]) -> None:
        """`take(was, now)` hears of every replacement from now on."""
        self._takers.append(take)

    def replace(self, config: Config) -> None:
        """Once all takers have been asked, raises an ExceptionGroup of what they raised; it may be tried again."""
        errors = []
        for take in self._takers:
            try:
                take(self._config, config)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("not taken", errors)
        self._config = config
