"""What is a trace context, by W3C's own examples; what is not is none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tracing import Context, clean, is_sampled, read

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("given_", "means"),
    [
        # Of the recommendation, §3.2.2.5 and §3.2.3 (one recorded, one not).
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        # Flags we know are kept, others mean nothing yet.
        (f"00-{TRACE}-{SPAN}-03", f"00-{TRACE}-{SPAN}-03"),
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-03"),
        (f"00-{TRACE}-{SPAN}-09", f"00-{TRACE}-{SPAN}-01"),
        # Of W3C's test suite (test_traceparent_version_0xcc and following): versions to come.
        (f"cc-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", f"00-{TRACE}-{SPAN}-01"),
    ],
)
def test_what_is_one(given_: str, means: str) -> None:
    assert clean(given_) == means


@pytest.mark.parametrize(
    "value",
    [
        # Of W3C's test suite, by the names of its cases.
        pytest.param(f"cc-{TRACE}-{SPAN}-01.what-the-future-will-not-be-like", id="version_0xcc"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="version_0xff"),
        pytest.param(f".0-{TRACE}-{SPAN}-01", id="version_illegal_characters"),
        pytest.param(f"000-{TRACE}-{SPAN}-01", id="version_too_long"),
        pytest.param(f"0-{TRACE}-{SPAN}-01", id="version_too_short"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="trace_id_all_zero"),
        pytest.param(f"00-.{TRACE[1:]}-{SPAN}-01", id="trace_id_illegal_characters"),
        pytest.param(f"00-{TRACE}0-{SPAN}-01", id="trace_id_too_long"),
        pytest.param(f"00-{TRACE[1:]}-{SPAN}-01", id="trace_id_too_short"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", id="trace_id_uppercase"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="parent_id_all_zero"),
        pytest.param(f"00-{TRACE}-.{SPAN[1:]}-01", id="parent_id_illegal_characters"),
        pytest.param(f"00-{TRACE}-{SPAN}0-01", id="parent_id_too_long"),
        pytest.param(f"00-{TRACE}-{SPAN[1:]}-01", id="parent_id_too_short"),
        pytest.param(f"00-{TRACE}-{SPAN}-.0", id="trace_flags_illegal_characters"),
        pytest.param(f"00-{TRACE}-{SPAN}-001", id="trace_flags_too_long"),
        pytest.param(f"00-{TRACE}-{SPAN}-1", id="trace_flags_too_short"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-what-the-future-will-be-like", id="more_in_version_00"),
        pytest.param(f" 00-{TRACE}-{SPAN}-01", id="a_blank_before"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\n", id="a_line_end"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-{'x' * 512}", id="too_long_for_any_version"),
        pytest.param("", id="nothing"),
        pytest.param(None, id="null"),
        pytest.param(1, id="a number"),
        pytest.param([f"00-{TRACE}-{SPAN}-01"], id="a list"),
        pytest.param("٠٠" + f"-{TRACE}-{SPAN}-01", id="digits_of_another_script"),
    ],
)
def test_what_is_none(value: object) -> None:
    assert clean(value) is None


hex_ = st.text("0123456789abcdef")


@given(st.one_of(st.text(), hex_, st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")))
def test_whatever_comes_is_one_or_none_and_never_anything_else(value: str) -> None:
    found = clean(value)
    if found is not None:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", found, re.ASCII)
        assert clean(found) == found
        assert is_sampled(found) is bool(int(value[53:55], 16) & 1)
        assert str(read(found)) == found


def test_only_what_is_recorded_is_recorded() -> None:
    assert [is_sampled(str(Context(TRACE, SPAN, flags))) for flags in range(4)] == [False, True, False, True]
    assert not is_sampled(None)
