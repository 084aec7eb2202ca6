"""The volume brake's arithmetic: how much of a slice's quotas is used, and whether one more fits.  Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.zones import in_zone

MILLIONTHS: Final = 1_000_000
_HOUR: Final = dt.timedelta(hours=1)


class VolumeKind(StrEnum):
    """The kinds of slices that can have quotas; the same list as the constraint `volume_kind_known`."""

    SOURCE = "source"
    LENDER = "lender"


class QuotaRule(StrEnum):
    """What can run out."""

    PER_HOUR = "per_hour"
    PER_DAY = "per_day"
    SPEND_PER_DAY = "spend_per_day"


Slice = tuple[str, str]  # a VolumeKind and its value


@dataclass(frozen=True, slots=True)
class Quota:
    """How much may be intended; None is no limit.  `spend_per_day` in millionths."""

    per_hour: int | None = None
    per_day: int | None = None
    spend_per_day: int | None = None

    def limit(self, rule: QuotaRule) -> int | None:
        match rule:
            case QuotaRule.PER_HOUR:
                return self.per_hour
            case QuotaRule.PER_DAY:
                return self.per_day
            case QuotaRule.SPEND_PER_DAY:
                return self.spend_per_day


@dataclass(frozen=True, slots=True)
class Span:
    """The hour and the day a moment is in; a day begins at midnight in the zone of the quotas."""

    hour: dt.datetime
    day: dt.datetime
    next_day: dt.datetime

    def end(self, rule: QuotaRule) -> dt.datetime:
        return self.hour + _HOUR if rule is QuotaRule.PER_HOUR else self.next_day


@dataclass(frozen=True, slots=True)
class Quotas:
    """Who has which; `default_*` is for those not named."""

    sources: Mapping[str, Quota] = field(default_factory=dict)
    lenders: Mapping[str, Quota] = field(default_factory=dict)
    default_source: Quota | None = None
    default_lender: Quota | None = None
    timezone: str = "UTC"

    def of(self, source: str, lender: str) -> dict[Slice, Quota]:
        """The quotas that one reminder counts against."""
        found = {
            (VolumeKind.SOURCE.value, source): self.sources.get(source, self.default_source),
            (VolumeKind.LENDER.value, lender): self.lenders.get(lender, self.default_lender),
        }
        return {slice_: quota for slice_, quota in found.items() if quota is not None}

    def span(self, now: dt.datetime) -> Span:
        local = in_zone(now, self.timezone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        tomorrow = (midnight + dt.timedelta(days=1)).replace(fold=0)
        hour = now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
        return Span(hour, midnight.astimezone(dt.UTC), tomorrow.astimezone(dt.UTC))


@dataclass(slots=True)
class Volume:
    """What has been intended for a slice in the hour and the day it is in, and which quotas have run out."""

    hour: dt.datetime
    day: dt.datetime
    hour_sent: int = 0
    day_sent: int = 0
    day_spent: int = 0
    over: set[QuotaRule] = field(default_factory=set)

    def roll(self, span: Span) -> None:
        """Begins a new hour or day.  Never an earlier one, whatever a clock that is a little behind says."""
        if span.hour > self.hour:
            self.hour, self.hour_sent = span.hour, 0
            self.over.discard(QuotaRule.PER_HOUR)
        if span.day > self.day:
            self.day, self.day_sent, self.day_spent = span.day, 0, 0
            self.over -= {QuotaRule.PER_DAY, QuotaRule.SPEND_PER_DAY}

    def used(self, rule: QuotaRule) -> int:
        match rule:
            case QuotaRule.PER_HOUR:
                return self.hour_sent
            case QuotaRule.PER_DAY:
                return self.day_sent
            case QuotaRule.SPEND_PER_DAY:
                return self.day_spent

    def broken_by(self, cost: int, quota: Quota) -> list[QuotaRule]:
        """The quotas that one more would exceed."""
        more = {QuotaRule.PER_HOUR: 1, QuotaRule.PER_DAY: 1, QuotaRule.SPEND_PER_DAY: cost}
        return [
            rule
            for rule in QuotaRule
            if (limit := quota.limit(rule)) is not None and self.used(rule) + more[rule] > limit
        ]

    def add(self, cost: int) -> None:
        self.hour_sent += 1
        self.day_sent += 1
        self.day_spent += cost


@dataclass(frozen=True, slots=True)
class Breach:
    """A slice whose quotas one more message would exceed: it is to be frozen until the last of them begins anew."""

    kind: VolumeKind
    value: str
    rules: tuple[QuotaRule, ...]
    until: dt.datetime

    @property
    def reason(self) -> str:
        return f"{' and '.join(self.rules)} used up"
