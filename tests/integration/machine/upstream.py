"""What comes by Kafka: requests, cancels, what cannot be read; once more, and in any order."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from gateway import ids
from gateway.ledger import claims, intake
from gateway.ledger.accept import Slots
from gateway.ledger.commands import Command, Letter, Origin, Request, Stop
from schemas.vocabulary import Lane, Rejection
from tests.integration.machine.model import LENDER, TOPIC, Model


class Upstream(Model):
    def request(self, borrower: str, debt: str, stage: str, ladder: str, request_id: str) -> Request:
        subject = ids.subject_key(LENDER, borrower)
        self.offset += 1
        return Request(
            origin=Origin(TOPIC, 0, self.offset),
            id=self.ids.next(ids.subject_bucket(subject)),
            request_key=ids.request_key("test", request_id),
            hash=f"{borrower}{debt}{stage}{ladder}".encode(),
            stage_key=ids.stage_key(LENDER, borrower, debt, None, stage, ""),
            subject=subject,
            source="test",
            request_id=request_id,
            lender=LENDER,
            borrower=borrower,
            debt=debt,
            instalment=None,
            product=None,
            stage=stage,
            step="",
            template="repayment",
            lane=Lane.BULK,
            ladder=ladder,
            send_at=self.now,
            not_after=self.now + (dt.timedelta(hours=2) if stage == "d3" else dt.timedelta(minutes=20)),
            state_as_of=self.now,
            sealed=b"sealed",
            occasion=self.occasion,
        )

    def deliver(self, commands: list[Command], slots: Slots | None = None) -> intake.Result:
        following = {0: self.offset + 1}

        async def work(connection: Any) -> intake.Result:
            return await intake.write(connection, TOPIC, commands, following, self.now, self.numbers, slots)

        return self.run(self.tx(work))

    def requested(self, borrower: str, debt: str, stage: str, ladder: str, fast: int | None) -> None:
        request = self.request(borrower, debt, stage, ladder, f"r{self.offset + 1}")
        slots = None
        if fast is not None:
            worker = self.workers[fast]
            slots = Slots(worker.id, self.ids.next(0), 1)
        result = self.deliver([request], slots)
        assert sum(result.outcomes.values()) == 1
        self.requests.append(request)
        for each in result.claimed:
            assert slots is not None
            self.claimed[slots.worker][each.id] = as_claimed(each, slots.token)

    def requested_again(self, data: st.DataObject, other: bool) -> None:
        known = data.draw(st.sampled_from(self.requests))
        self.offset += 1
        again = replace(known, id=self.ids.next(0), origin=Origin(TOPIC, 0, self.offset))
        result = self.deliver([replace(again, hash=b"other") if other else again])
        assert dict(result.outcomes) == {(0, "deadletter" if other else "duplicate"): 1}

    def read_again_below_the_stored_offset(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(self.requests))
        assert not self.deliver([known]).outcomes

    def cancelled(self, borrower: str, scope: str, data: st.DataObject) -> None:
        mine = [each for each in self.requests if each.borrower == borrower]
        key = data.draw(st.sampled_from(mine)).request_key if scope == "request" and mine else b"none"
        value = {"debt": "d1", "borrower": "", "request": key.hex()}[scope]
        self.offset += 1
        stop = Stop(
            Origin(TOPIC, 0, self.offset), self.ids.next(0), "test", ids.subject_key(LENDER, borrower), LENDER,
            borrower, scope, value, self.now, key if scope == "request" else None,
        )  # fmt: skip
        self.deliver([stop])
        self.stops.append((stop, self.step))

    def unreadable_stop(self, borrower: str) -> None:
        self.offset += 1
        subject = ids.subject_key(LENDER, borrower)
        letter = Letter(
            Origin(TOPIC, 0, self.offset), self.ids.next(0), Rejection.UNREADABLE_STOP, self.now, b"", b"",
            holds=((subject, LENDER, borrower),),
        )  # fmt: skip
        assert self.deliver([letter]).outcomes == {(0, "deadletter"): 1}
        self.unread[letter.id] = subject

    def unreadable_request(self, borrower: str, debt: str) -> None:
        """Nobody knows whose it is: a template that is not there yet, a lender that is misspelt."""
        request = self.request(borrower, debt, "d3", "s", f"r{self.offset + 1}")
        letter = Letter(request.origin, self.ids.next(0), Rejection.UNKNOWN_TEMPLATE, self.now, b"", b"", source="test")
        assert self.deliver([letter]).outcomes == {(0, "deadletter"): 1}
        self.buried[letter.id] = request


def as_claimed(each: Request, token: int) -> claims.Claimed:
    return claims.Claimed(
        each.id, each.subject, each.lender, each.source, each.request_id, each.product, each.stage, each.template,
        each.lane, each.ladder, 0, 0, 0, each.not_after, each.sealed, each.send_at, token,
    )  # fmt: skip
