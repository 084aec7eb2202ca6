"""Addresses as people write them become what intake makes of them, or are refused without being repeated."""

import pytest

from gateway.cli.allowlist import Unlisted, address_in
from gateway.intake import phones

TOKEN = "dGVzdA:APA91bF-x_y#z"


@pytest.mark.parametrize(
    ("line", "address", "comment"),
    [
        ("+8613912345678\n", "+8613912345678", ""),
        ("  +86 139-1234-5678\r\n", "+8613912345678", ""),
        ("+49 (30) 1234.567 # the office", "+49301234567", "the office"),
        ("+1/415/555-2671\t#Ann", "+14155552671", "Ann"),
        ("+44\u00a07911\u00a0123456", "+447911123456", ""),
        (f"{TOKEN} # Bo's phone", TOKEN, "Bo's phone"),
    ],
)
def test_an_address_is_listed_as_intake_takes_it(line: str, address: str, comment: str) -> None:
    assert address_in(line) == (address, comment)
    assert not address.startswith("+") or phones.is_phone(address)


@pytest.mark.parametrize("line", ["", "\n", "   ", "# nobody", "  #+8613912345678", "#"])
def test_a_line_without_an_address_lists_nothing(line: str) -> None:
    assert address_in(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "+86 139 1234 567", "+999 123456789", "+44 (0)7911 123456", "+8613912345678 x", "+٨٦13912345678",
        "8613912345678", "0086 139 1234 5678", "tel:+8613912345678", "(415) 555-2671", "13912345678",
        "two words", "ключ", "x" * 513, "0" * 31 + "a", "+8613912345678 # also 139 1234 5679", f"{TOKEN} # 1391234567",
    ],
)  # fmt: skip
def test_what_no_request_could_name_is_refused_and_not_repeated(line: str) -> None:
    with pytest.raises(Unlisted) as caught:
        address_in(line)
    assert not any(part in str(caught.value) for part in ("139", "415", "7911", "APA91", "ключ"))
