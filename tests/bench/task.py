"""What the contestants are told, and the request as the benchmark's own two read it."""

from __future__ import annotations

import base64
import os
from typing import Final
from urllib.parse import urlencode

import asyncpg
import msgspec

VARIABLE: Final = "BENCH_TASK"
# Messages on their way to the provider at one time, the same for every contestant.  In alternating runs c at 64 made
# two fifths more commits for each message and was about a tenth slower: it holds a place from before the intent is
# committed, b only while it posts.  b at 256 was as fast as at 64 or faster; a was about a sixth slower.
IN_FLIGHT: Final = 256


class Task(msgspec.Struct, frozen=True):
    dsn: str
    bootstrap: str
    requests_topic: str
    events_topic: str
    group: str
    provider_url: str
    account: str
    auth_token: str
    port: int

    @classmethod
    def read(cls) -> Task:
        return msgspec.json.decode(os.environ[VARIABLE], type=cls)

    @property
    def messages_url(self) -> str:
        return f"{self.provider_url}/2010-04-01/Accounts/{self.account}/Messages.json"

    @property
    def headers(self) -> dict[str, str]:
        basic = base64.b64encode(f"{self.account}:{self.auth_token}".encode()).decode()
        return {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}


class _Contact(msgspec.Struct):
    address: str


class _Debt(msgspec.Struct):
    amount: str
    currency: str


class _Data(msgspec.Struct):
    debt: _Debt
    contacts: list[_Contact]


class Request(msgspec.Struct):
    id: str
    source: str
    data: _Data


class Created(msgspec.Struct):
    sid: str


decode_request = msgspec.json.Decoder(Request).decode
decode_created = msgspec.json.Decoder(Created).decode


def form(request: Request, callback: str | None = None) -> bytes:
    debt = request.data.debt
    fields = {
        "To": request.data.contacts[0].address,
        "From": "+15005550006",
        "Body": f"Acme Finance: {debt.currency} {debt.amount} is due today. Pay here: https://pay.example.com/a",
    }
    if callback is not None:
        fields["StatusCallback"] = callback
    return urlencode(fields).encode()


async def assert_durable(connection: asyncpg.Connection) -> None:
    """For every session of the pool: what it commits is on disk."""
    assert await connection.fetchval("show synchronous_commit") == "on"
