"""Forms against the standard library, which does the same one character at a time."""

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers import forms

texts = st.text(st.characters(exclude_categories=["Cs"]))
fields = st.lists(st.tuples(texts, texts))


@given(fields)
def test_encoded_as_the_standard_library_does(pairs: list[tuple[str, str]]) -> None:
    assert forms.encode(pairs).decode() == urlencode(pairs)


@given(fields)
@example([("To", "+8613900000000"), ("a&b", "c=d"), ("e", "%26"), ("", "")])
def test_what_was_encoded_comes_back(pairs: list[tuple[str, str]]) -> None:
    assert forms.decode(urlencode(pairs).encode()) == pairs


@given(st.lists(st.sampled_from(["a", "=", "&", "+", "%", "%2B", "%26", "%3d", "%3D", "%25", "%E9%80%BE", "ü", ";"])))
@example(["&", "&"])
@example(["%2526"])
def test_any_body_reads_as_the_standard_library_reads_it(parts: list[str]) -> None:
    body = "".join(parts)
    try:
        expected = parse_qsl(body, keep_blank_values=True, errors="strict")
    except ValueError:
        with pytest.raises(ValueError, match="utf-8"):
            forms.decode(body.encode())
        return
    assert forms.decode(body.encode()) == expected


@pytest.mark.parametrize("body", [b"a=%FF", b"a=%FF&b=%26", b"a=\xff", b"\xff&%3D"])
def test_anything_but_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="utf-8"):
        forms.decode(body)
