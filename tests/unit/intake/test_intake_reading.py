"""The strict reader against the standard library's."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.intake.faults import Fault
from gateway.intake.reading import MAX_DEPTH, has_nul, read
from schemas.vocabulary import Rejection as R

TEXT = st.text(max_size=6) | st.text(':"\\/{}[]u0a3\0 ', max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


class Twice(Exception):
    pass


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise Twice
    return dict(pairs)


def refuse(_: str) -> None:
    raise ValueError


def finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError
    return number


def by_the_library(raw: bytes) -> Any:
    """The value, or the Rejection."""
    try:
        text = raw.decode()
        value = json.loads(text, parse_constant=refuse, parse_float=finite)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        return R.INVALID_UTF8
    except ValueError:  # UnicodeEncodeError too: a lone surrogate
        return R.NOT_JSON
    try:
        return json.loads(text, object_pairs_hook=once)
    except Twice:
        return R.DUPLICATE_KEY


def outcome(raw: bytes) -> Any:
    value = read(raw)
    return value.reason if isinstance(value, Fault) else value


@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]), st.sampled_from([":", " : ", "\n:\r", ": "]))
def test_what_the_library_writes_reads_back(value: Any, ascii_only: bool, indent: Any, colon: str) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent, separators=(",", colon)).encode()
    assert outcome(raw) == value
    assert has_nul(raw) == ("\0" in "".join(texts(value)))


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for each in inner for text in texts(each)]


@st.composite
def objects_with_repeats(draw: st.DrawFn) -> str:
    """JSON text of objects whose keys come from a few, so that they often repeat, written with and without escapes."""

    def text(value: str) -> str:
        if draw(st.booleans()):
            return json.dumps(value, ensure_ascii=False)
        return '"' + "".join(f"\\u{ord(char):04{draw(st.sampled_from('xX'))}}" for char in value) + '"'

    def value(depth: int) -> str:
        kind = draw(st.integers(0, 3 if depth else 1))
        if kind == 0:
            return text(draw(st.sampled_from(["", ":", '":', "a", ": :"])))
        if kind == 1:
            return draw(st.sampled_from(["1", "null", "[]", "{}"]))
        space = draw(st.sampled_from(["", " ", "\n"]))
        if kind == 2:
            return "[" + ",".join(value(depth - 1) for _ in range(draw(st.integers(0, 3)))) + "]"
        keys = draw(st.lists(st.sampled_from(["a", "b", ":", '"', '":', ""]), max_size=4))
        return "{" + ",".join(f"{text(key)}{space}:{value(depth - 1)}" for key in keys) + "}"

    return value(3)


@given(objects_with_repeats())
@example('{"a":"","a":"\\u003a"}')
@example('{"a":"\\u003a\\u003a","a":1}')
@example('{"\\u0061":1,"a":2}')
@example('{"a":1,"b":{"a":1}}')
def test_repeated_keys_are_found_however_they_are_written(text: str) -> None:
    assert outcome(text.encode()) == by_the_library(text.encode())


@given(st.binary(max_size=40) | st.text('{}[]",:\\u0dD8123.eE+- tfn\n', max_size=30).map(str.encode))
@example(b'"\\ud83d\\ude00"')
@example(b'"\\ud83d"')
@example(b"1e400")
@example(b"-0")
@example(b"\x00")
def test_any_bytes_are_judged_as_the_library_judges_them(raw: bytes) -> None:
    expected, found = by_the_library(raw), outcome(raw)
    assert found == expected
    assert type(found) is type(expected)


@given(VALUES, st.data())
def test_damaged_text(value: Any, data: st.DataObject) -> None:
    raw = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(bytes(raw)) == by_the_library(bytes(raw))


@given(st.integers(1, 80), st.sampled_from(["[", '{"":']), st.text('[{\\"', max_size=40), st.booleans())
def test_depth_is_what_stands_outside_strings(levels: int, opening: str, text: str, closed: bool) -> None:
    raw = (opening * levels + json.dumps(text)).encode()
    if closed:
        raw += (b"]" if opening == "[" else b"}") * levels
    expected = R.TOO_DEEP if levels > MAX_DEPTH else None if closed else R.NOT_JSON
    found = read(raw)
    assert (found.reason if isinstance(found, Fault) else None) == expected
