"""The configuration in force: one place that holds it and hands it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.config import Config

Take = Callable[[Config | None, Config], None]


@dataclass(slots=True)
class _Taker:
    take: Take
    has: Config | None  # None when it may have taken a part


class InForce:
    """`config` is what counts now.  A replacement reaches everybody who takes it before anything else runs.

    Who takes it does not wait, so that no request is built with one half of the old and one of the new.  What nobody
    takes counts from the start: a rotation leaves it as it was.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._takers: list[_Taker] = []

    @property
    def config(self) -> Config:
        return self._config

    @property
    def whole(self) -> bool:
        """False once a replacement was taken by some and not by all, until one is taken by everybody: even that by
        `config` itself, which some no longer have.
        """
        return all(each.has is self._config for each in self._takers)

    def taken_by(self, take: Take) -> None:
        """`take(was, now)` hears of every replacement from now on.

        `was` is what this one has taken before, which need not be what counted; None when it raised, and may have a
        part of anything: then it takes all of `now`.
        """
        self._takers.append(_Taker(take, self._config))

    def replace(self, config: Config) -> None:
        """Once all takers have been asked, raises an ExceptionGroup of what they raised; it may be tried again."""
        errors = []
        for each in self._takers:
            was, each.has = each.has, None
            try:
                each.take(was, config)
            except Exception as error:
                errors.append(error)
            else:
                each.has = config
        if errors:
            raise ExceptionGroup("not taken", errors)
        self._config = config
