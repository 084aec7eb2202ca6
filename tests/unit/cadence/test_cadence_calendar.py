"""Local times as moments, on the days that are not like others too."""

import datetime as dt
import zoneinfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.cadence.calendar import Hours, Span, resolve, spans, within

DAY = Hours(dt.time(9), dt.time(20))


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("date", "time", "zone", "moment"),
    [
        ("2026-12-10", "09:00", "Asia/Shanghai", "2026-12-10T01:00"),
        ("2026-12-10", "09:00", "UTC", "2026-12-10T09:00"),
        ("2026-12-10", "09:00", "Asia/Kathmandu", "2026-12-10T03:15"),
        ("2026-03-29", "01:59", "Europe/Berlin", "2026-03-29T00:59"),
        ("2026-03-29", "02:00", "Europe/Berlin", "2026-03-29T01:00"),  # there is no such time: the first after the gap
        ("2026-03-29", "02:30", "Europe/Berlin", "2026-03-29T01:00"),
        ("2026-03-29", "03:00", "Europe/Berlin", "2026-03-29T01:00"),
        ("2026-10-25", "02:30", "Europe/Berlin", "2026-10-25T00:30"),  # it comes twice: the first
        ("2026-10-25", "03:00", "Europe/Berlin", "2026-10-25T02:00"),
        ("2026-03-08", "02:30", "America/New_York", "2026-03-08T07:00"),
        ("2026-11-01", "01:30", "America/New_York", "2026-11-01T05:30"),
        ("2026-10-04", "02:15", "Australia/Lord_Howe", "2026-10-03T15:30"),  # half an hour is left out
        ("2026-09-06", "00:00", "America/Santiago", "2026-09-06T04:00"),  # midnight is left out
        ("2011-12-30", "09:00", "Pacific/Apia", "2011-12-30T10:00"),  # the whole day is: midnight of the next
    ],
)
def test_a_local_time_is_one_moment(date: str, time: str, zone: str, moment: str) -> None:
    assert resolve(dt.date.fromisoformat(date), dt.time.fromisoformat(time), zone) == utc(moment)


@given(
    st.dates(dt.date(1990, 1, 1), dt.date(2045, 1, 1)),
    st.times().map(lambda time: time.replace(second=0, microsecond=0)),
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]),
)
@example(dt.date(2026, 3, 29), dt.time(2, 30), "Europe/Berlin")
@example(dt.date(2011, 12, 30), dt.time(12), "Pacific/Apia")
def test_it_is_the_first_moment_at_which_the_clock_has_come_so_far(date: dt.date, time: dt.time, zone: str) -> None:
    """By the clock itself, asked each minute around it."""
    naive = dt.datetime.combine(date, time)
    there = zoneinfo.ZoneInfo(zone)
    found = resolve(naive.date(), naive.time(), zone)

    def clock(moment: dt.datetime) -> dt.datetime:
        return moment.astimezone(there).replace(tzinfo=None)

    assert clock(found) >= naive
    assert all(clock(found - dt.timedelta(minutes=back)) < naive for back in (1, 2, 29, 30, 31, 59, 60, 61, 119))
    # Only where the clock leaves it out does it show another time.
    assert clock(found) == naive or clock(found - dt.timedelta(seconds=1)) < naive - dt.timedelta(seconds=1)


def test_a_window_that_a_change_leaves_out_is_none() -> None:
    night = Hours(dt.time(2), dt.time(3))
    assert spans(dt.date(2026, 3, 29), [night], "Europe/Berlin") == []
    assert spans(dt.date(2011, 12, 30), [DAY], "Pacific/Apia") == []
    assert spans(dt.date(2026, 10, 25), [night], "Europe/Berlin") == [
        Span(utc("2026-10-25T00:00"), utc("2026-10-25T02:00"))
    ]
    assert spans(dt.date(2026, 3, 29), [Hours(dt.time(1), dt.time(4))], "Europe/Berlin")[0].length == dt.timedelta(
        hours=2
    )


@pytest.mark.parametrize(
    ("times", "hours"),
    [
        (None, ["09:00-20:00"]),
        ([("10:00", "12:00")], ["10:00-12:00"]),
        ([("08:00", "10:00"), ("18:00", "23:00")], ["09:00-10:00", "18:00-20:00"]),
        ([("22:00", "10:00")], ["09:00-10:00"]),  # past midnight
        ([("19:00", "09:30")], ["09:00-09:30", "19:00-20:00"]),
        ([("10:00", "13:00"), ("12:00", "14:00")], ["10:00-14:00"]),
        ([("10:00", "12:00"), ("12:00", "14:00")], ["10:00-14:00"]),
        ([("09:00", "09:00")], ["09:00-20:00"]),  # a whole day
        ([("20:00", "23:00")], []),
        ([("02:00", "09:00")], []),
    ],
)
def test_what_is_left_of_a_window(times: list[tuple[str, str]] | None, hours: list[str]) -> None:
    assert [f"{each.opens:%H:%M}-{each.closes:%H:%M}" for each in within(DAY, times)] == hours
