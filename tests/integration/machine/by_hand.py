"""Time, freezes, and what people do by hand."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import note
from hypothesis import strategies as st

from gateway import ids
from gateway.ledger import freezes, redrives, releases, timers, unknowns
from gateway.ledger.commands import Origin, Request, Stop
from gateway.ledger.redrives import Became, Named
from gateway.ledger.standing import Queue
from gateway.ledger.unknowns import Found
from tests.integration.machine.model import BORROWERS, LENDER, TOPIC
from tests.integration.machine.provider import Provider


class ByHand(Provider):
    def time_passes(self, seconds: int) -> None:
        self.now += dt.timedelta(seconds=seconds)
        self.run(self.fire())

    async def fire(self) -> None:
        async def work(connection: Any) -> Any:
            return await timers.fire(connection, self.now, self.numbers)

        await self.tx(work)
        released = await self.tx(lambda connection: releases.release(connection, self.now, self.numbers))
        await self.sweep()
        for move in released.moves:
            if move.queue is not Queue.DUE:
                continue
            assert not self.is_frozen(), "released into another freeze"
            if move.was.resume_at is None or move.was.resume_at <= self.now:  # it has missed its time
                assert move.at >= self.now + releases.LEAD or move.at == move.was.not_after, "it leaves at once"
                assert move.at not in self.places or move.at == move.was.not_after, "two leave at once"
                self.places.add(move.at)
        if not self.is_frozen():
            left = await self.connection.fetchval("select count(*) from frozen")
            assert not left, f"no freeze is in force, and {left} are held by one"

    def freeze(self, on: bool) -> None:
        async def work(connection: Any) -> Any:
            if on:
                await freezes.add(connection, "source", "test", reason="t", author="t", now=self.now)
                self.freezes["source", "test"] = None
            else:
                self.freezes.clear()
                await freezes.lift(connection, "source", "test", reason="t", author="t", now=self.now)
                if await freezes.lift(connection, "lender", LENDER, reason="t", author="t", now=self.now):
                    self.sent_in.clear()  # who lifts the brake's freeze lets the hour begin anew

        self.run(self.tx(work))

    def held_and_let_go(self, data: st.DataObject) -> None:
        """Of somebody whose reminder is in a worker's hands: his claim is taken back, and nobody tells the worker."""
        subjects = sorted({each.subject for mine in self.claimed.values() for each in mine.values()})
        subject = data.draw(st.sampled_from(subjects))
        before = set(self.unread)
        self.unreadable_stop(borrower_of(subject))
        [letter] = set(self.unread) - before
        self.redrive(letter, "d3")
        self.time_passes(int(self.numbers.freeze_recheck.total_seconds()) + 1)  # when what was held is looked at again

    def redrive(self, letter: int, debt: str) -> None:
        """Two people do it; a stop that can be read now is one, and lifts its hold if no other letter may name him."""
        command: Stop | Request
        if letter in self.unread:
            subject = self.unread[letter]
            command = Stop(
                Origin(TOPIC, 0, 0), self.ids.next(0), "test", subject, LENDER, borrower_of(subject), "debt", debt,
                self.now, None,
            )  # fmt: skip
        else:
            command = self.buried[letter]
            if self.now >= command.not_after:
                return  # whoever reads it again refuses it for that

        def names(other: int, reason: str, sealed: bytes) -> Named | None:
            return Named({borrower_of(self.unread[other])}) if other in self.unread else Named(())

        def by(author: str) -> redrives.Redriven:
            async def work(connection: Any) -> redrives.Redrive:
                return await redrives.redrive(
                    connection, {letter: command}, author, self.now, self.numbers, set(self.unread) & {letter}, names
                )

            [done] = self.run(self.tx(work)).letters
            return done  # type: ignore[no-any-return]

        first, second = by("one"), by("two")
        note(f"redriven {letter}: {first.became}")
        if first.became is Became.REFUSED:
            assert second.became is Became.REFUSED
            return
        assert second.became is Became.DONE
        if letter in self.unread:
            subject = self.unread.pop(letter)
            assert first.lifted == (subject not in self.unread.values())
            assert isinstance(command, Stop)
            self.stops.append((command, self.step))
        else:
            request = self.buried.pop(letter)
            assert first.became is Became.ACCEPTED
            self.requests.append(request)

    def settle_unknown(self, data: st.DataObject, found: Found) -> None:
        """A person says what he has seen in the provider's console, and that is the truth."""
        known = [each for each in self.sent.values() if each.recorded and each.taken is not None]
        if not known:
            return
        sent = data.draw(st.sampled_from(known))
        if (found is Found.NOT_SENT) is sent.taken and found is not Found.UNCONFIRMED:
            return  # it would be a lie
        if sent.undelivered and found is Found.DELIVERED:
            return

        async def work(connection: Any) -> unknowns.Settled | None:
            return await unknowns.settle(
                connection, sent.attempt, found, "somebody", "seen in the console", self.now, self.numbers
            )

        done = self.run(self.tx(work))
        assert done is not None
        again = self.run(self.tx(work))  # the answer was lost
        assert again is not None
        if done.done:
            note(f"settled {sent.attempt}: {found}")
            assert again.done
            if found is Found.UNDELIVERED:
                sent.undelivered = True
            if found is Found.NOT_SENT:
                sent.taken = False


def borrower_of(subject: bytes) -> str:
    return next(each for each in BORROWERS if ids.subject_key(LENDER, each) == subject)
