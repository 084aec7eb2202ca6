"""Blind indexes: equal for equal addresses under one key, and nothing of the address in them."""

import pytest

from gateway.allowlist import Allowlist, index_of, is_index
from gateway.sealing import Sealer

PHONE, OTHER, TOKEN = "+8613912345678", "+8613912345679", "token-00000001-abcdefghijklmnopqrstuvwxyz"
SEALER = Sealer({1: b"k" * 32}, 1, b"i" * 32)


def test_an_index_is_equal_for_equal_addresses_under_one_key_only() -> None:
    other_key = Sealer({1: b"k" * 32}, 1, b"j" * 32)
    new_sealing_key = Sealer({1: b"k" * 32, 2: b"n" * 32}, 2, b"i" * 32)
    index = index_of(PHONE, SEALER)
    assert is_index(index)
    assert index == index_of(PHONE, SEALER) == index_of(PHONE, new_sealing_key)
    assert index not in (index_of(OTHER, SEALER), index_of(PHONE, other_key))
    assert bytes.fromhex(index) != SEALER.fingerprint(PHONE.encode(), "replay")


def test_only_what_is_listed_is_listed() -> None:
    allowlist = Allowlist([index_of(PHONE, SEALER), index_of(TOKEN, SEALER)], SEALER)
    assert allowlist.lists(PHONE)
    assert allowlist.lists(TOKEN)
    for address in (OTHER, PHONE[1:], f"{PHONE} ", TOKEN.upper(), "", index_of(PHONE, SEALER)):
        assert not allowlist.lists(address), address
    assert not Allowlist([], SEALER).lists(PHONE)


def test_its_repr_tells_nothing_but_how_many() -> None:
    assert repr(Allowlist([index_of(PHONE, SEALER)], SEALER)) == "Allowlist(1 listed)"


@pytest.mark.parametrize("text", ["", PHONE, "0" * 31, "0" * 33, "A" * 32, f"{'0' * 32}\n", "٠" * 32, "0x" + "0" * 30])
def test_what_is_no_index(text: str) -> None:
    assert not is_index(text)
