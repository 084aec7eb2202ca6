"""Loopback is an address of this machine or the one name for it; what else leads here does not count."""

import pytest

from gateway.loopback import is_loopback, is_loopback_address

ADDRESSES = ["127.0.0.1", "127.0.0.0", "127.255.255.255", "::1", "0:0:0:0:0:0:0:1"]
ELSEWHERE = [
    "", "126.255.255.255", "128.0.0.0", "0.0.0.0", "10.0.0.1", "192.168.0.1", "169.254.1.1", "::", "::2", "::1%lo",
    "::ffff:127.0.0.1", "::127.0.0.1", "fe80::1", "127.1", "127.0.0.01", "2130706433", "0x7f.1", "127.0.0.1 ",
    "localhost.", "localhost.localdomain", "a.localhost", "localhost.example.com", "example.com", "LOCALHOST\n",
]  # fmt: skip


@pytest.mark.parametrize("host", ADDRESSES)
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert is_loopback_address(host)


def test_the_name() -> None:
    assert is_loopback("localhost")
    assert not is_loopback_address("localhost")


@pytest.mark.parametrize("host", ELSEWHERE)
def test_elsewhere(host: str) -> None:
    assert not is_loopback(host)
    assert not is_loopback_address(host)
