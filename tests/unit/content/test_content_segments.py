"""Segment counts against a packer that really cuts the text, and against the figures operators publish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content.segments import Encoding, count

# 3GPP TS 23.038 §6.2.1 by code point, in the order of the table; the escape itself (0x1B) is no character.
DEFAULT_ALPHABET = [
    *(0x40, 0xA3, 0x24, 0xA5, 0xE8, 0xE9, 0xF9, 0xEC, 0xF2, 0xC7, 0x0A, 0xD8, 0xF8, 0x0D, 0xC5, 0xE5),
    *(0x394, 0x5F, 0x3A6, 0x393, 0x39B, 0x3A9, 0x3A0, 0x3A8, 0x3A3, 0x398, 0x39E, 0xC6, 0xE6, 0xDF, 0xC9),
    *(0x20, 0x21, 0x22, 0x23, 0xA4, *range(0x25, 0x40)),
    *(0xA1, *range(0x41, 0x5B), 0xC4, 0xD6, 0xD1, 0xDC, 0xA7),
    *(0xBF, *range(0x61, 0x7B), 0xE4, 0xF6, 0xF1, 0xFC, 0xE0),
]
EXTENSION = [0x0C, 0x5E, 0x7B, 0x7D, 0x5C, 0x5B, 0x7E, 0x5D, 0x7C, 0x20AC]


def cut(text: str) -> tuple[Encoding, int]:
    """Lays the characters into segments one by one, as a sender would."""
    gsm7 = all(ord(char) in DEFAULT_ALPHABET or ord(char) in EXTENSION for char in text)
    sizes = [
        (2 if ord(char) in EXTENSION else 1) if gsm7 else len(char.encode("utf-16-le", "surrogatepass")) // 2
        for char in text
    ]
    encoding, single, room = (Encoding.GSM7, 160, 153) if gsm7 else (Encoding.UCS2, 70, 67)
    if sum(sizes) <= single:
        return encoding, 1
    segments = [0]
    for size in sizes:
        if segments[-1] + size > room:
            segments.append(0)
        segments[-1] += size
    return encoding, len(segments)


def test_the_alphabet_has_127_characters() -> None:
    assert len(set(DEFAULT_ALPHABET)) == 127


GSM = st.text(st.sampled_from([chr(code) for code in DEFAULT_ALPHABET + EXTENSION]), max_size=700)
WIDE = st.text(st.sampled_from("a王é€😀𠮷"), max_size=350)
LONG = st.builds(
    lambda head, run, tail: head * run + tail,
    st.sampled_from(["a", "€", "王", "😀", "a€", "王😀"]),
    st.integers(0, 400),
    st.text(st.sampled_from("a€王😀"), max_size=3),
)


@given(GSM | WIDE | LONG | st.text(max_size=200))
def test_it_agrees_with_a_packer_that_cuts(text: str) -> None:
    assert count(text) == cut(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (Encoding.GSM7, 1)),
        ("a" * 160, (Encoding.GSM7, 1)),
        ("a" * 161, (Encoding.GSM7, 2)),
        ("a" * 306, (Encoding.GSM7, 2)),
        ("a" * 307, (Encoding.GSM7, 3)),
        ("€" * 80, (Encoding.GSM7, 1)),
        ("€" * 81, (Encoding.GSM7, 2)),
        ("a" * 152 + "€" + "a" * 152, (Encoding.GSM7, 3)),  # the pair does not fit the last septet of the first part
        ("a" * 151 + "€" + "a" * 153, (Encoding.GSM7, 2)),
        ("王" * 70, (Encoding.UCS2, 1)),
        ("王" * 71, (Encoding.UCS2, 2)),
        ("王" * 134, (Encoding.UCS2, 2)),
        ("王" * 135, (Encoding.UCS2, 3)),
        ("a" * 69 + "王", (Encoding.UCS2, 1)),
        ("😀" * 35, (Encoding.UCS2, 1)),
        ("😀" * 36, (Encoding.UCS2, 2)),
        ("😀" * 67, (Encoding.UCS2, 3)),  # 33 to a part, not 33 and a half
        ("`", (Encoding.UCS2, 1)),  # ASCII, yet not in the alphabet
    ],
)
def test_known_counts(text: str, expected: tuple[Encoding, int]) -> None:
    assert count(text) == expected == cut(text)
