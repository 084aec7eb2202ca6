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
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION: Final = b"\x01"
_KEY_ID: Final = 4
_NONCE: Final = 12
_HEAD: Final = 1 + _KEY_ID
_STOCK: Final = 64


class SealBroken(Exception):
    """The value does not open: another row or field, an unknown key, or changed bytes.  Says only which of these."""


class Sealer:
    """Seals with the current key, opens with any key it has.  Fingerprints are keyed: equality only, no dictionary."""

    def __init__(self, keys: Mapping[int, bytes], current: int, index_key: bytes) -> None:
        if current not in keys:
            raise ValueError(f"no sealing key with id {current}")
        if any(len(key) != 32 for key in keys.values()) or len(index_key) < 32:
            raise ValueError("sealing keys are 32 bytes, the index key at least 32")
        self._ciphers = {key_id.to_bytes(_KEY_ID, "big"): AESGCM(key) for key_id, key in keys.items()}
        self._current = current.to_bytes(_KEY_ID, "big")
        self._cipher = self._ciphers[self._current]
        self._index_key = index_key[:64]
        self._nonces: list[bytes] = []

    def __repr__(self) -> str:
        return f"Sealer({len(self._ciphers)} keys)"

    def seal(self, value: bytes, row: int, field: str) -> bytes:
        nonce = self._nonces.pop() if self._nonces else self._draw()
        return _VERSION + self._current + nonce + self._cipher.encrypt(nonce, value, _bound(row, field))

    def _draw(self) -> bytes:
        """A nonce, and a stock of them: the system is asked once for many."""
        drawn = os.urandom(_NONCE * _STOCK)
        self._nonces = [drawn[at : at + _NONCE] for at in range(0, len(drawn), _NONCE)]
        return self._nonces.pop()

    def open(self, sealed: bytes, row: int, field: str) -> bytes:
        """The value, or raises SealBroken."""
        cipher = self._ciphers.get(sealed[1:_HEAD])
        if sealed[:1] != _VERSION or cipher is None:
            raise SealBroken("unknown_key")
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


def same(one: str, other: str) -> bool:
    """Constant-time comparison of secrets; text from the wire may hold lone surrogates."""
    return hmac.compare_digest(one.encode(errors="surrogatepass"), other.encode(errors="surrogatepass"))


def _bound(row: int, field: str) -> bytes:
    return row.to_bytes(8, "big", signed=True) + field.encode()
