"""Calls that ask: what is said next, from the words that were sealed before the call was made."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.content.dialogue import Said, answer
from gateway.ids import to_reference
from gateway.ledger import evidence
from gateway.ledger.database import Database
from gateway.observability.logs import get_logger
from gateway.personal import WORDS_FIELD, decode_words
from gateway.sealing import SealBroken, Sealer
from providers.contract import Prompt

log = get_logger(__name__)


def prompt_of(said: Said, callback_url: str) -> Prompt:
    """For an adapter; the key comes back to the attempt's callback URL, which names the step."""
    url = "" if said.step is None else f"{callback_url}?step={said.step}"
    return Prompt(said.text, said.locale, said.keys, url)


@dataclass(frozen=True, slots=True)
class Calls:
    """Answers key presses."""

    database: Database
    sealer: Sealer

    async def answer(self, provider: str, attempt: int, step: str | None, digits: str) -> Said | None:
        """What is said to a key; None when this provider made no such call, or it has nothing to say."""
        async with self.database.connection() as connection:
            sealed = await evidence.words(connection, provider, attempt)
        if sealed is None:
            return None
        try:
            dialogue = decode_words(self.sealer.open(sealed, attempt, WORDS_FIELD)).dialogue
        except SealBroken as broken:
            log.error("words_not_opened", attempt=to_reference(attempt), reason=str(broken))
            return None
        return None if dialogue is None else answer(dialogue, step, digits)
