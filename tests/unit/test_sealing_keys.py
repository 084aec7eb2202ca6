"""Sealing keys that change while the sealer is used."""

import pytest

from gateway.sealing import KeyUnknown, SealBroken, Sealer, key_id_of

ONE, TWO = b"1" * 32, b"2" * 32


def test_a_new_key_seals_from_then_on_and_the_old_one_still_opens() -> None:
    sealer = Sealer({1: ONE}, 1, b"i" * 32)
    old = sealer.seal(b"facts", 7, "field")
    sealer.replace_keys({1: ONE, 2: TWO}, 2)
    new = sealer.seal(b"facts", 7, "field")
    assert (key_id_of(old), key_id_of(new)) == (1, 2)
    assert [sealer.open(each, 7, "field") for each in (old, new)] == [b"facts"] * 2
    assert (sealer.current, sealer.known) == (2, {1, 2})


def test_without_its_key_a_value_waits_and_is_not_broken() -> None:
    sealer = Sealer({2: TWO}, 2, b"i" * 32)
    sealed = Sealer({1: ONE}, 1, b"i" * 32).seal(b"facts", 7, "field")
    with pytest.raises(KeyUnknown) as unknown:
        sealer.open(sealed, 7, "field")
    assert unknown.value.key_id == 1
    sealer.replace_keys({1: ONE, 2: TWO}, 2)
    assert sealer.open(sealed, 7, "field") == b"facts"
    with pytest.raises(SealBroken) as broken:
        sealer.open(sealed, 8, "field")
    assert not isinstance(broken.value, KeyUnknown)


@pytest.mark.parametrize(("keys", "current"), [({2: b"short"}, 2), ({1: ONE}, 2), ({}, 1)])
def test_keys_that_cannot_seal_change_nothing(keys: dict[int, bytes], current: int) -> None:
    sealer = Sealer({1: ONE}, 1, b"i" * 32)
    with pytest.raises(ValueError, match="sealing key"):
        sealer.replace_keys(keys, current)
    assert sealer.open(sealer.seal(b"facts", 7, "field"), 7, "field") == b"facts"
    assert sealer.known == {1}


def test_fingerprints_do_not_know_the_keys() -> None:
    sealer = Sealer({1: ONE}, 1, b"i" * 32)
    before = (sealer.fingerprint(b"x", "replay"), sealer.address("+14155550123"))
    sealer.replace_keys({2: TWO}, 2)
    assert (sealer.fingerprint(b"x", "replay"), sealer.address("+14155550123")) == before


@pytest.mark.parametrize("value", [b"", b"\x01\0\0", b"\x02\0\0\0\x01" + b"x" * 30])
def test_what_is_no_sealed_value_has_no_key(value: bytes) -> None:
    assert key_id_of(value) is None
    with pytest.raises(SealBroken):
        Sealer({1: ONE}, 1, b"i" * 32).open(value, 7, "field")
