"""Records with header names that are no UTF-8.

Kafka does not mind them and clients in C and Go write them; aiokafka refuses the whole batch.  Its parser in Python,
made to replace what it cannot decode, reads them, more slowly; so it is not used before it is needed.
"""

from __future__ import annotations

from typing import Any, Final, SupportsIndex

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint_py

_HAS_HEADERS: Final = 2  # the batch format


def install() -> bool:
    """From now on this process reads such records; False when it did before."""
    if fetcher.MemoryRecords is Records:
        return False
    fetcher.MemoryRecords = Records
    return True


class _Name(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "replace")


class _Buffer(bytearray):
    """What is cut out of it decodes to something, whatever it is.  Keys and values are not decoded by the client."""

    def __getitem__(self, at: SupportsIndex | slice) -> Any:
        found: Any = super().__getitem__(at)
        return _Name(found) if isinstance(at, slice) else found


class _Batch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka ships no types
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        if not isinstance(self._buffer, _Buffer):
            self._buffer = _Buffer(self._buffer)

    def _read_msg(self) -> Any:
        return super()._read_msg(decode_varint_py)


class Records(_MemoryRecordsPy):  # type: ignore[misc]  # the same
    """In the place of aiokafka's own."""

    def next_batch(self) -> Any:
        cut = self._next_slice
        batch = super().next_batch()
        return batch if batch is None or batch.magic < _HAS_HEADERS else _Batch(cut)
