"""What borrowers write back, on order: written down, then carried to the gateway as their vendor would."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from gateway.dev.simulator.aliyun_sms import AliyunSms
from gateway.dev.simulator.courier import Courier
from gateway.dev.simulator.journal import Journal
from gateway.dev.simulator.names import Kind, Vendor
from gateway.dev.simulator.twilio import Twilio
from gateway.dev.simulator.wire import Post


class Letter(BaseModel):
    """An SMS from a borrower.  `number` is told as it stands here: Aliyun gives it bare in mainland China.

    `dest_code` is the number that was written to; `sign_name` is Aliyun's alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    vendor: Literal["aliyun_sms", "twilio"] = "aliyun_sms"
    number: Annotated[str, Field(min_length=1, max_length=40)]
    content: Annotated[str, Field(max_length=1000)]
    sign_name: str = "Acme"
    dest_code: str = "1069000012341234"
    copies: Annotated[int, Field(ge=1, le=20)] = 1  # 2 pushes the same one twice


class Written(NamedTuple):
    """The vendor's id of a letter, unlike any other's; the sequence number where it counts."""

    id: str
    sequence: int


class Upstream:
    """The way from a borrower's phone to the URL that the vendor's console has for it."""

    def __init__(self, journal: Journal, courier: Courier, aliyun: AliyunSms, twilio: Twilio) -> None:
        self._journal = journal
        self._courier = courier
        self._aliyun = aliyun
        self._twilio = twilio

    def write(self, letter: Letter) -> Written | None:
        """Logs the letter and has it carried; None without a URL."""
        url = self._url(letter)
        if url is None:
            return None
        count = sum(lines for (kind, _, _), lines in self._journal.totals.items() if kind == Kind.UPSTREAM)
        digest = hashlib.blake2b(f"{self._journal.salt}|upstream|{count + 1}".encode(), digest_size=16).digest()
        sequence = int.from_bytes(digest[:6], "big")
        post = self._post(letter, url, sequence, digest)
        self._journal.write(
            Kind.UPSTREAM,
            vendor=Vendor(letter.vendor).value,
            id=post.id,
            sender=letter.number,
            text=letter.content,
            dest_code=letter.dest_code,
        )
        for _ in range(letter.copies):
            self._courier.carry(post)
        return Written(post.id, sequence)

    def _url(self, letter: Letter) -> str | None:
        return self._aliyun.report_url if letter.vendor == "aliyun_sms" else self._twilio.inbound_url

    def _post(self, letter: Letter, url: str, sequence: int, digest: bytes) -> Post:
        if letter.vendor == "aliyun_sms":
            return self._aliyun.upstream(
                url, sequence, letter.number, letter.content, letter.sign_name, letter.dest_code
            )
        return self._twilio.upstream(url, digest, letter.number, letter.content, letter.dest_code)
