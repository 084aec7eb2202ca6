"""What may stand in a slot."""

from __future__ import annotations

import datetime as dt
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content import formats, text
from gateway.content.slots import Slot, SlotSpec, SlotType
from gateway.content.wording import SEED, compile_words, read_lists

FORBIDDEN, TELLING = compile_words([read_lists(SEED)])


@pytest.mark.parametrize(
    "value",
    ["王小明", "Zoë O'Neill-García", "Nguyễn Văn An", "محمد علي", "अनिल कुमार", "𠮷田", "M-000417", "A. Smith",
     "第3期。谢谢", "{{ lender }}", "{% if x %}", "{0.__class__}", "%(x)s", "£5 off"],
)  # fmt: skip
def test_honest_lines_pass_unchanged(value: str) -> None:
    assert text.plain(value, 40) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "   ",
        "two\nlines",
        "tab\there",
        "return\r",
        "nul\0",
        "\x7f",
        "\x85",
        "line\u2028separator",
        "right\u202eleft",  # bidi override
        "mark\u200f",
        "isolate\u2066x\u2069",
        "zero\u200bwidth",
        "joiner\u200d",
        "bom\ufeff",
        "soft\u00adhyphen",
        "word\u2060joiner",
        "variation\ufe0f",
        "filler\u3164",
        "tag\U000e0041",
        "private\ue000",
        "half\ud800",
        "x" * 41,
        "😀" * 21,  # 42 UTF-16 units
        "see https://evil.example",
        "see evil.example/pay",
        "WWW.evil",
        "evil。com",
        "evil．com",
        "10.0.0.1",
    ],
)
def test_what_could_deceive_is_refused(value: str) -> None:
    assert text.plain(value, 40) is None


def test_values_are_composed_and_odd_spaces_become_spaces() -> None:
    assert text.plain("Zoe\u0308", 40) == "Zoë"
    assert text.plain("王\u3000小明", 40) == "王 小明"


@given(st.text(max_size=45))
def test_whatever_passes_is_one_visible_composed_line(value: str) -> None:
    line = text.plain(value, 40)
    if line is not None:
        assert unicodedata.is_normalized("NFC", line)
        assert 0 < len(line.encode("utf-16-le")) // 2 <= 40
        assert {unicodedata.category(char) for char in line}.isdisjoint({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
        assert len(line.splitlines()) == 1
        assert text.plain(line, 40) == line


@given(st.text(max_size=10), st.sampled_from("\n\r\0\u202e\u200b\ufeff\u2028\ud800\ufe0f"), st.text(max_size=10))
def test_one_bad_character_anywhere_is_enough(before: str, bad: str, after: str) -> None:
    assert text.plain(before + bad + after, 40) is None


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("https://pay.harbour.example/r/7Kq2Xw?a=1&b=%E4%BD%A0#top", True),
        ("https://pay.harbour.example", True),
        ("HTTPS://Pay.Harbour.Example/x", True),
        ("https://xn--fiqs8s.xn--fiqs8s/", True),
        ("https://pay.harbour.example:8443/x", True),
        ("http://pay.harbour.example", False),
        ("https://user@pay.harbour.example", False),
        ("https://user:word@pay.harbour.example/", False),
        ("https://10.0.0.1/", False),
        ("https://localhost/", False),
        ("https://pay.harbour.example/a b", False),
        ("https://pay.harbour.example/\n", False),
        ("https://pay.harbour.example/x\n", False),
        ("https://pay.harbour.example/你", False),
        ('https://pay.harbour.example/"x"', False),
        ("https://pay.harbour.example\\@evil.example", False),
        ("javascript:alert(1)", False),
        ("https://" + "a" * 100 + ".example", False),
        ("pay.harbour.example", False),
        ("", False),
    ],
)
def test_urls(value: str, good: bool) -> None:
    assert (text.url(value, 100) == value) is good


def test_hosts_narrow_a_url_slot() -> None:
    hosts = ("harbour.example",)
    assert text.url("https://harbour.example/x", 100, hosts)
    assert text.url("https://pay.HARBOUR.example/x", 100, hosts)
    assert text.url("https://evil-harbour.example/x", 100, hosts) is None
    assert text.url("https://harbour.example.evil.example/x", 100, hosts) is None


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("95588", True),
        ("400-000-1234", True),
        ("+1 500 555 0006", True),
        ("+8613900001234", True),
        ("12", False),
        ("400--000", False),
        ("call me", False),
        ("4000001234\n", False),
        ("４００００", False),
        ("1" * 21, False),
    ],
)
def test_phones(value: str, good: bool) -> None:
    assert (text.phone(value, 20) == value) is good


def slot(kind: SlotType, max_length: int = 20) -> Slot:
    return Slot(SlotSpec(kind, max_length), TELLING)


@pytest.mark.parametrize(
    ("kind", "value", "clean"),
    [
        (SlotType.TEXT, "M-000417", "M-000417"),
        (SlotType.TEXT, "or  e-l-s-e", None),  # a forbidden phrase, split
        (SlotType.TEXT, "您已逾 期", None),
        (SlotType.AMOUNT, "12.30", "12.30"),
        (SlotType.AMOUNT, "-1", None),
        (SlotType.AMOUNT, "1e3", None),
        (SlotType.AMOUNT, "1,000", None),
        (SlotType.AMOUNT, "١٢", None),
        (SlotType.DATE, "2026-11-21", "2026-11-21"),
        (SlotType.DATE, "2026-02-30", None),
        (SlotType.DATE, "20261121", None),
        (SlotType.DATE, "2026-W47-6", None),
        (SlotType.PHONE, "95588", "95588"),
        (SlotType.URL, "https://a.example/x", "https://a.example/x"),
    ],
)
def test_slot_types(kind: SlotType, value: str, clean: str | None) -> None:
    assert slot(kind).clean(value) == clean


LOCALE = formats.Locale(
    date="{day}/{month}/{year}",
    moment="{hour}:{minute} {day}/{month}",
    amount="{currency} {number}",
    greeting="Hi {name}",
    greeting_without_name="Hello",
    opt_out={},
    amounts={"EUR": "{number} €"},
    group=".",
    decimal=",",
)


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("1234.5", "CNY", "CNY 1.234,50"),
        ("1234567", "EUR", "1.234.567,00 €"),
        ("1000.00", "JPY", "JPY 1.000"),
        ("0.005", "CNY", "CNY 0,005"),  # never rounded
        ("12.3450", "KWD", "KWD 12,345"),
        ("999999999999999999999.99", "CNY", "CNY 999.999.999.999.999.999.999,99"),  # beyond any float
        ("007", "CNY", "CNY 7,00"),
        ("1.", "CNY", None),
        (".5", "CNY", None),
        ("-3", "CNY", None),
        ("1_0", "CNY", None),
        ("NaN", "CNY", None),
        ("12\n", "CNY", None),
    ],
)
def test_amounts_are_exact(amount: str, currency: str, shown: str | None) -> None:
    assert LOCALE.show_amount(amount, currency) == shown


@given(st.decimals(min_value=0, max_value=10**15, places=2))
def test_an_amount_reads_back_as_the_same_number(amount: object) -> None:
    shown = LOCALE.show_amount(str(amount), "CNY")
    assert shown is not None
    assert shown.removeprefix("CNY ").replace(".", "").replace(",", ".") == str(amount)


def test_typed_params_are_written_in_the_locale() -> None:
    assert slot(SlotType.DATE).show("2026-11-21", LOCALE, "CNY") == "21/11/2026"
    assert slot(SlotType.AMOUNT).show("1200", LOCALE, "EUR") == "1.200,00 €"
    assert LOCALE.show_moment(dt.datetime(2026, 11, 21, 6, 5, tzinfo=dt.UTC)) == "06:05 21/11"
    assert LOCALE.greet("{name} %s") == "Hi {name} %s"
    assert LOCALE.greet(None) == "Hello"
