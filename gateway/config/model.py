"""The whole configuration, section by section.  Its field names are the keys of the YAML file.

A value that does not fit another key of its own section is told by the section, at its own path; what spans sections
is told by `checks`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import AfterValidator, DirectoryPath, Field, PrivateAttr, ValidationInfo, field_validator

from gateway.config.allowlist import Allowlist
from gateway.config.base import Count, Seconds, Section
from gateway.config.brakes import Brakes
from gateway.config.connections import Database, Http, Kafka
from gateway.config.keys import Sealing
from gateway.config.outbound import Outbound
from gateway.config.problems import ProblemReason, misfit
from gateway.config.provider import Provider, ProviderName
from gateway.config.question import Question
from gateway.config.tracing import Tracing
from gateway.content import LENDER_LENGTH, plain
from schemas.messages import Ref
from schemas.vocabulary import Channel, Mode


class Role(StrEnum):
    """What a process does; each may run alone or with the others."""

    INTAKE = "intake"
    DISPATCH = "dispatch"
    CALLBACKS = "callbacks"
    RELAY = "relay"


def _reference(name: str) -> str:
    try:
        return msgspec.convert(name, Ref)
    except msgspec.ValidationError:
        raise misfit(ProblemReason.WRONG_VALUE, "must be a reference: letters, digits and . _ : / @ -") from None


LenderRef = Annotated[str, AfterValidator(_reference)]


class Lender(Section):
    """A legal entity or brand.  `name` is what the borrower reads; `routes` say which provider serves a channel.

    Its plans are made with `cadence`, those of a product with its own in `cadences`.  Its own service is asked the
    `question` before a reminder leaves.  `call_centre_per_hour` is how many planned contacts an hour may lead to a call
    with its people; None: any number.
    """

    name: str
    default_locale: Annotated[str, Field(min_length=1, max_length=35)] | None = None
    routes: Annotated[dict[Channel, str], Field(min_length=1)]
    cadence: str = "default"
    cadences: dict[str, str] = Field(default_factory=dict)
    question: Question | None = None
    call_centre_per_hour: Count | None = None

    def cadence_of(self, product: str | None) -> str:
        """By name."""
        return self.cadence if product is None else self.cadences.get(product, self.cadence)

    @field_validator("name")
    @classmethod
    def _can_be_shown(cls, name: str) -> str:
        shown = plain(name, LENDER_LENGTH)
        if shown is None:
            raise misfit(ProblemReason.WRONG_VALUE, f"must be one visible line of at most {LENDER_LENGTH} characters")
        return shown


class Dispatch(Section):
    """`slots` reminders are in hand at once, `urgent_share` of them for urgent ones only.

    Retries of `retry_attempts` are seconds long, inside the lease, and follow proof that no byte left; later tries are
    `max_tries`, with a backoff from base to cap.  A reminder rescued `max_rescues` times without an intent is held.
    What a freeze has held leaves `release_per_second`, by all processes together.
    """

    slots: Count = 512
    urgent_share: Annotated[float, Field(ge=0, lt=1)] = 0.25
    claim_batch: Count = 256
    poll_interval_seconds: Seconds = 0.5
    lease_seconds: Seconds = 30.0
    heartbeat_seconds: Seconds = 5.0
    backoff_base_seconds: Seconds = 30.0
    backoff_cap_seconds: Seconds = 3600.0
    max_tries: Count = 8
    max_rescues: Count = 5
    retry_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    release_per_second: Annotated[float, Field(gt=0, le=1000)] = 50.0
    fast_path: bool = True

    @field_validator("heartbeat_seconds")
    @classmethod
    def _beats_often(cls, heartbeat: float, info: ValidationInfo) -> float:
        lease = info.data.get("lease_seconds")
        if lease is not None and heartbeat * 3 > lease:
            raise misfit(ProblemReason.LEASE_TOO_SHORT, "must be at most a third of lease_seconds")
        return heartbeat

    @field_validator("backoff_cap_seconds")
    @classmethod
    def _caps(cls, cap: float, info: ValidationInfo) -> float:
        if cap < info.data.get("backoff_base_seconds", 0):
            raise misfit(ProblemReason.WRONG_VALUE, "must be at least backoff_base_seconds")
        return cap


class Intake(Section):
    """A source is frozen when more than `freeze_share` of its records in the window, and at least
    `freeze_min_records`, are dead letters.  Above `backlog_limit` due reminders little more is read.  A client that
    makes no progress for `watchdog_seconds` is rebuilt.
    """

    freeze_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    freeze_min_records: Count = 100
    freeze_window_seconds: Seconds = 600.0
    watchdog_seconds: Seconds = 60.0
    backlog_limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000  # the depth gauge looks no further


class Shutdown(Section):
    """From SIGTERM to the exit: 1 not ready + 15 drain + 5 flush + 2 leave = 23 of 25 seconds.

    A send that outlives `drain_seconds` is cut off and its attempt becomes unknown.
    """

    not_ready_seconds: Annotated[float, Field(ge=0)] = 1.0
    drain_seconds: Seconds = 15.0
    flush_seconds: Seconds = 5.0
    leave_seconds: Seconds = 2.0
    budget_seconds: Seconds = 25.0

    @field_validator("budget_seconds")
    @classmethod
    def _covers_the_phases(cls, budget: float, info: ValidationInfo) -> float:
        phases = sum(info.data.values())
        if phases > budget:
            raise misfit(ProblemReason.OVER_BUDGET, f"must cover the phases, which take {phases:g} seconds")
        return budget


class Secrets(Section):
    """Secrets in files are looked at again every `reload_seconds`, and at SIGHUP."""

    reload_seconds: Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)] = 30.0


class Config(Section):
    """Everything the service is told at its start.  Made by `load`; its repr holds no secret.

    `mode` has no default: nobody reaches real people by leaving something out.
    """

    mode: Mode
    allowlist: Allowlist = Allowlist()
    database: Database
    kafka: Kafka
    http: Http
    sealing: Sealing
    lenders: Annotated[dict[LenderRef, Lender], Field(min_length=1)]
    outbound: Outbound = Outbound()
    providers: dict[ProviderName, Provider] = Field(default_factory=dict)
    dispatch: Dispatch = Dispatch()
    intake: Intake = Intake()
    brakes: Brakes = Brakes()
    shutdown: Shutdown = Shutdown()
    secrets: Secrets = Secrets()
    tracing: Tracing | None = None  # None: no spans are made
    roles: Annotated[frozenset[Role], Field(min_length=1)] = frozenset(Role)
    templates_path: DirectoryPath | None = None  # None: the packaged ones
    cadences_path: DirectoryPath | None = None  # None: the packaged ones
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Where each secret came from, by its path.
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    # What stands in the allowlist's file, read once.
    _filed: frozenset[str] = PrivateAttr(default=frozenset())
    # The tree it was made of, references as they were written.
    _written: dict[str, Any] = PrivateAttr(default_factory=dict)

    def origin(self, path: str) -> str:
        """env:NAME or file:/path of the secret at `path`."""
        return self._origins.get(path, "given")

    def with_origins(self, origins: Mapping[str, str]) -> Self:
        self._origins.update(origins)
        return self

    @property
    def origins(self) -> Mapping[str, str]:
        return self._origins

    @property
    def written(self) -> Mapping[str, Any]:
        return self._written

    def with_written(self, tree: Mapping[str, Any]) -> Self:
        self._written = dict(tree)
        return self

    @property
    def listed(self) -> frozenset[str]:
        """The blind index of every listed address, wherever it is written; only mode allowlist asks."""
        return self._filed.union(self.allowlist.indexes)

    def with_filed(self, indexes: Collection[str]) -> Self:
        self._filed = frozenset(indexes)
        return self
