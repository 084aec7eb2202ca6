"""What borrowers write back, on order: written down, then carried to the gateway among the reports."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gateway.dev.simulator.aliyun_sms import AliyunSms
from gateway.dev.simulator.courier import Courier
from gateway.dev.simulator.journal import Journal
from gateway.dev.simulator.names import Kind


class Letter(BaseModel):
    """An SMS from a borrower.  `number` is told as it stands here: the vendor gives it bare in mainland China."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    number: Annotated[str, Field(min_length=1, max_length=40)]
    content: Annotated[str, Field(max_length=1000)]
    sign_name: str = "Acme"
    dest_code: str = "1069000012341234"
    copies: Annotated[int, Field(ge=1, le=20)] = 1  # 2 pushes the same one twice


class Upstream:
    """The way from a borrower's phone to the URL that the console has for Aliyun SMS."""

    def __init__(self, journal: Journal, courier: Courier, sms: AliyunSms) -> None:
        self._journal = journal
        self._courier = courier
        self._sms = sms

    def write(self, letter: Letter) -> int | None:
        """Logs the letter and has it carried.  Its sequence number, unlike any other's; None without a URL."""
        url = self._sms.report_url
        if url is None:
            return None
        count = sum(lines for (kind, _, _), lines in self._journal.totals.items() if kind == Kind.UPSTREAM)
        seed = f"{self._journal.salt}|upstream|{count + 1}".encode()
        sequence = int.from_bytes(hashlib.blake2b(seed, digest_size=6).digest(), "big")
        self._journal.write(
            Kind.UPSTREAM,
            vendor=self._sms.vendor.value,
            id=str(sequence),
            sender=letter.number,
            text=letter.content,
            dest_code=letter.dest_code,
        )
        post = self._sms.upstream(url, sequence, letter.number, letter.content, letter.sign_name, letter.dest_code)
        for _ in range(letter.copies):
            self._courier.carry(post)
        return sequence
