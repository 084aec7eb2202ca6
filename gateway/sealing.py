"""Sealing personal data at rest: AES-256-GCM, bound to the row and field it belongs to.

A sealed value is `version (1) | key id (4) | nonce (12) | ciphertext and tag`.  The row id and the field name are
authenticated but not stored in it, so a value moved to another row or field does not open.  Random 96-bit nonces keep
one key safe for 2^32 values (NIST SP 800-38D §8.3): rotate keys before.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION: Final = b"\x01"
_KEY_ID: Final = 4
_NONCE: Final = 12
_HEAD: Final = 1 + _KEY_ID
_STOCK: Final = 64


class SealBroken(Exception):
    """The value does not open: another row or field, an unknown key, or changed bytes.  Says only which of these."""


class KeyUnknown(SealBroken):
    """It was sealed with a key that we do not have, or do not have yet: another process has reloaded before us."""

    def __init__(self, key_id: int | None = None) -> None:
        super().__init__("unknown_key")
        self.key_id = key_id


class _Ring(NamedTuple):
    """The keys in force, as one value: who seals takes head and cipher of the same key."""

    ciphers: Mapping[bytes, AESGCM]
    head: bytes  # version and id of the current key
    cipher: AESGCM


class Sealer:
    """Seals with the current key, opens with any key it has.  Fingerprints are keyed: equality only, no dictionary.

    The keys may be replaced while it is used.  The index key never changes: what it found before it must find again.
    """

    def __init__(self, keys: Mapping[int, bytes], current: int, index_key: bytes) -> None:
        if len(index_key) < 32:
            raise ValueError("the index key is at least 32 bytes")
        self._ring = _ring(keys, current)
        self._index_key = index_key[:64]
        self._nonces: list[bytes] = []

    def __repr__(self) -> str:
        return f"Sealer({len(self._ring.ciphers)} keys)"

    @property
    def current(self) -> int:
        """The id of the key that seals."""
        return int.from_bytes(self._ring.head[1:])

    @property
    def known(self) -> frozenset[int]:
        """The ids of all keys that open."""
        return frozenset(int.from_bytes(key_id) for key_id in self._ring.ciphers)

    def replace_keys(self, keys: Mapping[int, bytes], current: int) -> None:
        """From now on these keys seal and open.  Raises ValueError, and keeps the old ones, when they cannot."""
        self._ring = _ring(keys, current)

    def seal(self, value: bytes, row: int, field: str) -> bytes:
        nonce = self._nonces.pop() if self._nonces else self._draw()
        ring = self._ring
        return ring.head + nonce + ring.cipher.encrypt(nonce, value, _bound(row, field))

    def _draw(self) -> bytes:
        """A nonce, and a stock of them: the system is asked once for many."""
        drawn = os.urandom(_NONCE * _STOCK)
        self._nonces = [drawn[at : at + _NONCE] for at in range(0, len(drawn), _NONCE)]
        return self._nonces.pop()

    def open(self, sealed: bytes, row: int, field: str) -> bytes:
        """The value, or raises SealBroken; KeyUnknown where only the key is missing."""
        cipher = self._ring.ciphers.get(sealed[1:_HEAD])
        if cipher is None or sealed[:1] != _VERSION:
            raise KeyUnknown(key_id_of(sealed))
        try:
            return cipher.decrypt(sealed[_HEAD : _HEAD + _NONCE], sealed[_HEAD + _NONCE :], _bound(row, field))
        except (InvalidTag, ValueError):
            raise SealBroken("does_not_open") from None

    def fingerprint(self, value: bytes, use: str) -> bytes:
        """16 bytes that are equal for equal values; `use` keeps fingerprints of different kinds apart."""
        return hashlib.blake2b(value, digest_size=16, key=self._index_key, person=use.encode()[:16]).digest()

    def address(self, value: str) -> bytes:
        """The blind index of an address: who it is can be asked, and not read."""
        return self.fingerprint(value.encode(errors="surrogatepass"), "address")


def key_id_of(sealed: bytes) -> int | None:
    """The id of the key that a value was sealed with; None for what is no sealed value."""
    return int.from_bytes(sealed[1:_HEAD]) if sealed[:1] == _VERSION and len(sealed) >= _HEAD else None


def _ring(keys: Mapping[int, bytes], current: int) -> _Ring:
    if current not in keys:
        raise ValueError(f"no sealing key with id {current}")
    if any(len(key) != 32 for key in keys.values()):
        raise ValueError("sealing keys are 32 bytes")
    ciphers = {key_id.to_bytes(_KEY_ID, "big"): AESGCM(key) for key_id, key in keys.items()}
    current_id = current.to_bytes(_KEY_ID, "big")
    return _Ring(ciphers, _VERSION + current_id, ciphers[current_id])


def same(one: str, other: str) -> bool:
    """Constant-time comparison of secrets; text from the wire may hold lone surrogates."""
    return hmac.compare_digest(one.encode(errors="surrogatepass"), other.encode(errors="surrogatepass"))


def _bound(row: int, field: str) -> bytes:
    return row.to_bytes(8, "big", signed=True) + field.encode()
