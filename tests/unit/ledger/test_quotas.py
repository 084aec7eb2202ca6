"""The volume brake's arithmetic."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.quotas import Breach, Quota, QuotaRule, Quotas, Volume, VolumeKind

NOON = dt.datetime(2026, 11, 2, 12, 30, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("zone", "moment", "day_ends"),
    [
        ("UTC", "2026-11-02T12:30Z", "2026-11-03T00:00Z"),
        ("Asia/Shanghai", "2026-11-02T12:30Z", "2026-11-02T16:00Z"),
        ("Asia/Shanghai", "2026-11-02T16:00Z", "2026-11-03T16:00Z"),
        ("Asia/Kolkata", "2026-11-02T12:30Z", "2026-11-02T18:30Z"),
        # A day of 25 hours and one of 23.
        ("America/New_York", "2026-11-01T05:30Z", "2026-11-02T05:00Z"),
        ("America/New_York", "2026-03-08T05:30Z", "2026-03-09T04:00Z"),
        # Midnight comes twice.
        ("America/Havana", "2026-11-01T05:30Z", "2026-11-02T05:00Z"),
    ],
)
def test_a_day_begins_at_midnight_where_it_is_counted(zone: str, moment: str, day_ends: str) -> None:
    now = dt.datetime.fromisoformat(moment)
    span = Quotas(timezone=zone).span(now)
    assert span.end(QuotaRule.PER_DAY) == span.end(QuotaRule.SPEND_PER_DAY) == dt.datetime.fromisoformat(day_ends)
    assert span.day <= now < span.next_day
    assert span.hour <= now < span.end(QuotaRule.PER_HOUR)


def test_who_is_named_has_its_own_quota_and_the_others_the_default() -> None:
    own, rest = Quota(per_hour=1), Quota(per_hour=2)
    quotas = Quotas(sources={"core": own}, lenders={"acme": own}, default_source=rest)
    assert quotas.of("core", "acme") == {("source", "core"): own, ("lender", "acme"): own}
    assert quotas.of("other", "other") == {("source", "other"): rest}
    assert Quotas(lenders={"acme": own}).of("core", "other") == {}


@given(
    limits=st.tuples(*[st.none() | st.integers(1, 20)] * 3), costs=st.lists(st.integers(0, 5), min_size=1, max_size=40)
)
def test_what_fits_is_never_more_than_any_quota_and_never_less(
    limits: tuple[int | None, int | None, int | None], costs: list[int]
) -> None:
    quota = Quota(*limits)
    span = Quotas().span(NOON)
    volume = Volume(span.hour, span.day)
    for cost in costs:
        after = (volume.hour_sent + 1, volume.day_sent + 1, volume.day_spent + cost)
        broken = [
            rule for rule, n, limit in zip(QuotaRule, after, limits, strict=True) if limit is not None and n > limit
        ]
        assert volume.broken_by(cost, quota) == broken
        if not broken:
            volume.add(cost)
    assert all(limit is None or volume.used(rule) <= limit for rule, limit in zip(QuotaRule, limits, strict=True))


def test_counters_begin_anew_with_their_hour_and_day_and_no_clock_turns_them_back() -> None:
    quotas = Quotas()
    now = quotas.span(NOON)
    volume = Volume(now.hour, now.day, 3, 5, 7, set(QuotaRule))
    volume.roll(now)
    assert (volume.hour_sent, volume.day_sent, volume.day_spent) == (3, 5, 7)
    volume.roll(quotas.span(NOON - HOUR))
    volume.roll(quotas.span(NOON - 24 * HOUR))
    assert (volume.hour_sent, volume.day_sent, volume.day_spent) == (3, 5, 7)
    volume.roll(quotas.span(NOON + HOUR))
    assert (volume.hour_sent, volume.day_sent, volume.day_spent) == (0, 5, 7)
    assert volume.over == {QuotaRule.PER_DAY, QuotaRule.SPEND_PER_DAY}
    volume.roll(quotas.span(NOON + 24 * HOUR))
    assert (volume.hour_sent, volume.day_sent, volume.day_spent, volume.over) == (0, 0, 0, set())


def test_a_breach_says_what_is_used_up() -> None:
    breach = Breach(VolumeKind.LENDER, "acme", (QuotaRule.PER_HOUR, QuotaRule.PER_DAY), NOON)
    assert breach.reason == "per_hour and per_day used up"
