"""From a provider's event to the row that is kept of it."""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec

from gateway.content.dialogue import choice
from gateway.ids import bucket_of, from_reference
from gateway.ledger.received import Stored
from gateway.personal import RECEIPT_FIELD, REPLY_FIELD, Reply
from gateway.sealing import Sealer
from gateway.worker import Worker
from providers.contract import Engaged, Inbound, Invalid, KeyPress, ProviderEvent, Receipt
from schemas.vocabulary import AttemptState, Disposition, Failure, FailureScope

_encode: Final = msgspec.json.Encoder().encode


class Rows:
    """Makes rows: with an id of this worker's, and everything personal sealed."""

    def __init__(self, worker: Worker, sealer: Sealer) -> None:
        self._worker = worker
        self._sealer = sealer

    def of(
        self, provider: str, event: ProviderEvent, now: dt.datetime, raw: bytes, replay_key: str | None, position: int
    ) -> Stored:
        """The row of one event.  The callback's first one carries the raw bytes; each has a replay key of its own."""
        attempt = None
        if not isinstance(event, Inbound | Invalid) and event.attempt is not None:
            attempt = from_reference(event.attempt)
        id_ = self._worker.ids.next(bucket_of(attempt or 0))
        replay = None
        # Vendors push a reply again in other company: it is known by their own id for it.
        known = f"{replay_key}\0{position}" if replay_key is not None else None
        if isinstance(event, Inbound):
            known = f"inbound\0{event.ref}"
        if known is not None:
            replay = self._sealer.fingerprint(f"{provider}\0{known}".encode(errors="replace"), "replay")
        kind, code, state, failure, disposition = _meaning(event)
        address = reply = None
        if isinstance(event, Inbound):
            address = self._sealer.address(event.sender)
            words = Reply(*[_writable(each) for each in (event.sender, event.recipient, event.text)])
            reply = self._sealer.seal(_encode(words), id_, REPLY_FIELD)
        elif isinstance(event, Receipt) and event.address is not None:
            address = self._sealer.address(event.address)
        return Stored(
            id=id_,
            provider=provider,
            kind=kind,
            code=code,
            received_at=now,
            replay=replay,
            attempt=attempt,
            ref=None if isinstance(event, Invalid) else event.ref,
            state=state,
            failure=failure,
            occurred_at=None if isinstance(event, Invalid) else _sane(event.occurred_at),
            sealed=self._sealer.seal(raw, id_, RECEIPT_FIELD) if position == 0 else None,
            disposition=disposition,
            address=address,
            reply=reply,
            scope=event.scope if isinstance(event, Receipt) else FailureScope.RECIPIENT,
        )


def _sane(moment: dt.datetime | None) -> dt.datetime | None:
    """A provider's own time, unless it cannot be one: what comes of it must fit the ledger."""
    return moment if moment is not None and 2000 <= moment.year <= 2100 else None


def _writable(text: str) -> str:
    """JSON may hold half a character, UTF-8 may not."""
    return text.encode(errors="replace").decode()


def _meaning(
    event: ProviderEvent,
) -> tuple[str, str, AttemptState | None, Failure | None, Disposition | None]:
    """Kind, code, state, failure, and the disposition of what is kept and never applied."""
    match event:
        case Receipt():
            return "receipt", event.code[:64], event.state, event.failure, None
        case Engaged():
            return "engaged", event.kind, None, None, None
        case KeyPress():
            return "key", choice(event.step, event.digits), None, None, None
        case Inbound():
            return "inbound", "inbound", None, None, None
        case Invalid():
            return "invalid", event.code[:64], None, None, Disposition.INVALID
