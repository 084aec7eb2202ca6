"""A configured provider: which adapter, with which settings, how fast, how long, and under which templates."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, InstanceOf, ValidationInfo, field_validator

from gateway.config.base import Count, Seconds, Section, Token
from gateway.config.brakes import Amount
from gateway.config.outbound import Outbound
from gateway.config.problems import ProblemReason, misfit
from providers.contract import ProviderSettings
from schemas.vocabulary import Stage

ProviderName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
ANY = "*"


class OnUnknown(StrEnum):
    """What follows when nobody knows whether the provider took a message."""

    WAIT = "wait"  # for the receipt, at most the receipt window
    RESEND = "resend"  # only where a repeat replaces the first on the screen
    LOOKUP = "lookup"  # ask the provider: refused as long as no adapter can


class TemplateCode(Section):
    """The provider's own template for one of ours: `params` maps its parameter names to our slots."""

    code: Annotated[str, Field(min_length=1, max_length=200)]
    sign: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    params: dict[Annotated[str, Field(min_length=1)], str] = Field(default_factory=dict)


class Provider(Section):
    """Its name is a label of the metrics.  Of `callback_tokens` the first is current, the others still open the path.

    `on_unknown_stages` says where a stage differs.  `concurrency` and the rate count for each process.  `templates` go
    by template, stage and locale; "*" stands for every stage or every locale.  `price` is that of one segment of an
    SMS, of one push, of one call.  What `outbound` leaves out is as for all providers.
    """

    adapter: Annotated[str, Field(min_length=1)]
    settings: InstanceOf[ProviderSettings]
    concurrency: Count = 32
    rate_per_second: Annotated[float, Field(gt=0)] | None = None
    burst: Count | None = None
    connect_timeout_seconds: Seconds = 3.0
    read_timeout_seconds: Seconds = 8.0
    total_timeout_seconds: Seconds = 12.0
    receipt_window_hours: Annotated[float, Field(gt=0, le=24 * 31)] = 72.0
    on_unknown: OnUnknown = OnUnknown.WAIT
    on_unknown_stages: dict[Stage, OnUnknown] = Field(default_factory=dict)
    ttl_seconds: Annotated[int, Field(ge=1, le=2_419_200)] | None = None
    price: Amount | None = None
    callback_tokens: tuple[Token, ...] = ()
    templates: dict[str, dict[str, dict[str, TemplateCode]]] = Field(default_factory=dict)
    outbound: Outbound = Outbound()

    def resends(self) -> frozenset[Stage]:
        """The stages whose unknown messages are sent again."""
        return frozenset(
            stage for stage in Stage if self.on_unknown_stages.get(stage, self.on_unknown) is OnUnknown.RESEND
        )

    @field_validator("burst")
    @classmethod
    def _needs_a_rate(cls, burst: int | None, info: ValidationInfo) -> int | None:
        if burst is not None and info.data.get("rate_per_second", 0) is None:
            raise misfit(ProblemReason.WRONG_VALUE, "needs rate_per_second")
        return burst

    @field_validator("total_timeout_seconds")
    @classmethod
    def _fires_last(cls, total: float, info: ValidationInfo) -> float:
        # If it fired first it would hide whether the request had left.
        parts = [info.data.get(f"{part}_timeout_seconds") for part in ("connect", "read")]
        known = [part for part in parts if part is not None]
        if total <= sum(known):
            raise misfit(ProblemReason.TIMEOUTS, "must be more than connect and read together")
        return total

    def mappings(self) -> dict[tuple[str, str, str], TemplateCode]:
        """The templates by (template, stage or "*", locale or "*")."""
        return {
            (template, stage, locale): code
            for template, stages in self.templates.items()
            for stage, locales in stages.items()
            for locale, code in locales.items()
        }
