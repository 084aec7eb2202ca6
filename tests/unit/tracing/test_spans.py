"""Which traces are told of, and where a span stands in one."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import gateway
from gateway.tracing import Context, Field, Kind, Span, SpanName, Tracer, is_sampled, read

CAME = Context("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)


def tracer(told: list[Span], ratio: float = 1.0, chance: bytes = b"\x5a") -> Tracer:
    ticks = itertools.count(1_000)
    return Tracer(told.append, ratio, lambda n: chance * n, lambda: next(ticks))


def test_the_sender_decides_about_a_trace_of_his() -> None:
    for ratio in (0.0, 1.0):
        of = tracer([], ratio)
        first = of.first(str(CAME))
        assert first is not None
        assert (first.trace, first.sampled) == (CAME.trace, True)
        assert first.span != CAME.span
        assert of.first(str(CAME._replace(flags=0))) is None
        assert of.first(str(CAME._replace(flags=2))) is None


def test_of_the_others_a_share_begins_one() -> None:
    assert tracer([], 0.0).first(None) is None
    assert tracer([], 0.0, b"\0").first(None) is None
    for chance in (b"\0", b"\x5a", b"\xff"):
        first = tracer([], 1.0, chance).first(None)
        assert first is not None
        assert read(str(first)) == first, "zeros are no ids"
    assert tracer([], 0.5, b"\x7f").first(None) is not None
    assert tracer([], 0.5, b"\x80").first(None) is None


@given(st.floats(0, 1))
def test_the_share_is_a_share(ratio: float) -> None:
    of = Tracer(lambda span: None, ratio)
    n = sum(of.first(None) is not None for _ in range(400))
    assert abs(n - 400 * ratio) < 80, "eight times what chance makes of it"


def test_what_nobody_records_is_not_told() -> None:
    told: list[Span] = []
    of = tracer(told)
    for traceparent in (None, str(CAME._replace(flags=0))):
        of.tell_below(SpanName.RECEIPT, Kind.SERVER, traceparent, 1, {})
    assert told == []


def test_a_span_stands_below_what_is_on_the_row() -> None:
    told: list[Span] = []
    tracer(told).tell_below(
        SpanName.RECEIPT, Kind.SERVER, str(CAME), 7, {Field.PROVIDER: "texts", Field.FAILURE: None}, failed=True
    )
    [span] = told
    assert (span.parent, span.context.trace, span.began, span.ended) == (CAME, CAME.trace, 7, 1_000)
    assert span.context.span not in (CAME.span, "0" * 16)
    assert span.attributes == {Field.PROVIDER: "texts"}
    assert is_sampled(str(span.context))


def test_time_never_runs_backwards_in_a_span() -> None:
    told: list[Span] = []
    tracer(told).tell(SpanName.SEND, Kind.CLIENT, CAME, None, 2_000, {}, ended=1_500)
    assert (told[0].began, told[0].ended) == (2_000, 2_000)


def test_only_one_module_knows_opentelemetry() -> None:
    root = Path(gateway.__file__).parent
    words = re.compile(r"^\s*(?:from|import) opentelemetry", re.MULTILINE)
    assert [path.name for path in root.rglob("*.py") if words.search(path.read_text())] == ["otlp.py"]
