"""Any story of one planned reminder keeps what `docs/cadences.md` promises of its ladder.

`ladder.py` is what the document says.  `Story` tells a reminder what happens to it, and holds every move, every timer
and every send to that.  It tells the same stories in every run; `LADDER_STORIES=400000` tells more.
"""

import os
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import msgspec
import pytest

from gateway.cadence.model import Confirm
from gateway.ledger import follow
from gateway.ledger.climbing import Climb, Step
from gateway.ledger.standing import Attempt, Move, Queue, Rules, Situation
from gateway.ledger.states import NO_CONTACT, OPEN, REACHED, attempt_moves, reminder_moves
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Channel, Failure, Lane, Reason
from schemas.vocabulary import ReminderState as R
from tests.unit.ledger.ladder import CERTAIN, CHANNEL, HOUR, NOT_AFTER, NOW, REPLACES, WINDOW, Ladder

AGAIN: Final = frozenset({Failure.TRANSIENT, Failure.THROTTLED, Failure.OUTSIDE_WINDOW, Failure.BAD_CONFIG})
TRIES: Final = 3


class Story:
    def __init__(self, order: str, steps: dict[Channel, Step], resends: bool) -> None:
        self.ladder = Ladder(order, steps, resends)
        self.now = NOW
        self.rules = Rules(
            climbs={"c/1/d3": Climb(steps, resends)}, receipts=frozenset(WINDOW), receipt_window=WINDOW,
            receipts_recheck=HOUR, replaces=REPLACES, max_tries=TRIES,
        )  # fmt: skip
        self.it = Situation(
            id=5, subject=b"s" * 16, lender="acme", source="core", request_id="r-1", stage="d3", lane=Lane.BULK,
            ladder=order, not_after=NOT_AFTER, state=R.SCHEDULED, reason=None, seq=3, at=NOW, queue=Queue.DUE,
            occasion="c/1/d3",
        )  # fmt: skip

    # --- what happens -------------------------------------------------------------------------------------------------

    def time(self, n: int) -> None:
        """Some of it passes, or all until something is to be done."""
        hours = (0, 1, 2, 21)[n % 4]
        to_its_time = n % 10 > 2 and self.it.queue is not None
        self.now = max(self.now, self.it.at) if to_its_time else self.now + hours * HOUR
        self.ring(healthy=n % 7 > 1)

    def ring(self, *, healthy: bool) -> None:
        """Its timer, where it is ripe."""
        it, now, ladder = self.it, self.now, self.ladder
        if it.queue is not Queue.TIMER or it.at > now:
            return
        if it.state is not R.AWAITING and it.reason is not Reason.RECEIPTS_UNHEALTHY:
            self.go(follow.expire(it, now), "not after")
            return
        leads, closes, rung = ladder.leads_on(it.rung, now), ladder.closes_at(now), ladder.above(it.rung)
        is_due = leads is not None and leads <= now < closes
        assert follow.asks(it, now, self.rules) is (ladder.is_silent(it.rung) if is_due else None)
        move = follow.wake(it, now, self.rules, healthy=healthy)
        if is_due and healthy:
            assert (move.state, move.reason, move.rung, move.at) == (R.SCHEDULED, Reason.NEXT_CONTACT, rung, now)
        elif is_due:
            assert (move.state, move.reason, move.rung) == (R.HELD, Reason.RECEIPTS_UNHEALTHY, it.rung)
            assert move.at == min(now + HOUR, closes, NOT_AFTER)
        else:
            assert move.state is R.AWAITING or move.queue is None, "silence that leads nowhere"
        self.go(move, "silence")

    def send(self) -> None:
        it = self.it
        if it.queue is not Queue.DUE:
            return
        self.now = max(self.now, it.at)
        if self.now >= NOT_AFTER:
            self.go(follow.expire(it, self.now), "not after")
            return
        self.ladder.may_leave(it.rung)
        channel = CHANNEL[it.ladder[it.rung]]
        made = self.ladder.made
        made.append(Attempt(1000 + len(made), it.rung, channel, channel.value, A.INTENDED, self.now))
        self.it = msgspec.structs.replace(
            it, state=R.SENDING, reason=None, queue=Queue.CLAIM, attempt=made[-1].id, attempts=tuple(made), at=self.now
        )

    def say(self, n: int) -> None:
        """Somebody knows more of a contact, or of all at once: who sent it, or the provider."""
        made, before = self.ladder.made, self.it
        told = made[-1:] if n % 3 else made[n % 5 :]
        changed = [each for each in told if self.knows_more(each, n + each.id)]
        if not changed:
            return
        refused = any(each.failure is Failure.OPTED_OUT for each in changed)
        self.ladder.stopped |= refused and before.queue is not None
        self.go(follow.after_attempts(before, changed, self.now, self.rules, jitter=0.5), "word")
        if self.it.queue is None:
            arrived = any(each.state in REACHED for each in made)
            assert not arrived or self.it.state in (R.DELIVERED, R.CANCELLED, R.SUPPRESSED), "it has arrived after all"
        elif before.queue is not None:
            for each in changed:
                self.goes_on(before, each, alone=len(changed) == 1)

    def knows_more(self, contact: Attempt, n: int) -> bool:
        usual = FIRST if contact.state is A.INTENDED else LATER
        possible = [each for each in (*usual, *SAID) if attempt_moves(contact.state, each)]
        if not possible:
            return False
        state = possible[n // 7 % len(possible)]
        failure = list(Failure)[n // 3 % len(Failure)] if state in CERTAIN else None
        contact.become(state, failure, None, self.now)
        return True

    def open(self, n: int) -> None:
        made = self.ladder.made
        if not made or (contact := made[n % len(made)]).channel is not Channel.PUSH:
            return
        move = follow.opened(self.it, contact, self.now, self.rules)
        self.go(move, "opened")
        assert self.it.queue is None or contact.state in NO_CONTACT, "opened, and it goes on"
        assert move is None or contact.state not in NO_CONTACT, "opened, and it was refused"

    def stop(self, n: int) -> None:
        if self.it.queue is not None:
            self.ladder.stopped = True
            may_have_left = any(each.state not in CERTAIN for each in self.ladder.made)
            move, late = follow.cancel(self.it, Reason.PAID, self.now, self.rules)
            assert late is may_have_left
            self.go(move, "stop")

    def decide(self, n: int) -> None:
        """That this contact is not to be made, or none."""
        if self.it.queue is not Queue.DUE:
            return
        if n % 2:
            self.go(follow.skip(self.it, Reason.OUT_OF_DATE, self.now, self.rules), "skip")
        else:
            self.ladder.stopped = True
            self.go(follow.suppress(self.it, Reason.NOT_ALLOWLISTED, self.now, self.rules), "stop")

    # --- what must be so ----------------------------------------------------------------------------------------------

    def go(self, move: Move | None, why: str) -> None:
        it = self.it
        if move is not None:
            assert reminder_moves(it.state, move.state) or (it.state is move.state and move.correction)
            assert (move.queue is None) == move.state.final
            assert it.state is not R.DELIVERED, "confirmed twice"
            if move.rung != it.rung:
                self.climbs(move, why)
            if move.queue is None:
                self.ends(move, why)
            self.it = msgspec.structs.replace(
                it, state=move.state, reason=move.reason, at=move.at, queue=move.queue, rung=move.rung,
                tries=move.tries, closed=move.closed, resume_at=move.resume_at,
            )  # fmt: skip
        self.stands(why)

    def climbs(self, move: Move, why: str) -> None:
        """To the next rung: after a definite failure, by silence that says something, or because this is not made."""
        ladder, rung = self.ladder, self.it.rung
        assert move.rung == ladder.above(rung)
        assert not ladder.stopped, "a rung after a stop"
        assert not ladder.is_unsettled(), "a rung while one is unknown"
        if why == "word":
            own = [each for each in ladder.made if each.rung == rung]
            assert own and all(each.state in CERTAIN for each in own), "a rung after no failure"
        else:
            assert why in ("silence", "skip")  # whether silence leads on is held to `ring`
        ladder.passed.add(rung)

    def goes_on(self, before: Situation, told: Attempt, *, alone: bool) -> None:
        """What a word leads to where it ends nothing."""
        it, ladder = self.it, self.ladder
        assert it.state in (R.AWAITING, R.SENDING) or not ladder.stopped, "it goes on after a stop"
        if ladder.stopped:
            return
        waited = before.state in (R.SCHEDULED, R.HELD)
        if alone and waited and told.rung in ladder.passed and told.rung < before.rung:
            assert (it.state, it.rung, it.at) == (before.state, before.rung, before.at), "called back"
        is_current = told is ladder.made[-1] and told.rung == before.rung and told.state in CERTAIN
        out = [each for each in ladder.made if each.rung == told.rung and each.state not in CERTAIN]
        blocked = bool(out) or ladder.is_unsettled()
        if not is_current or blocked:
            return
        if told.failure is Failure.BUG:
            assert it.state is R.HELD
        elif told.failure in AGAIN and (told.state in NO_CONTACT or it.rung == before.rung) and it.state is R.SCHEDULED:
            assert it.reason is Reason.RETRY and it.rung == before.rung
        elif (rung := ladder.above(before.rung)) is not None:
            assert (it.state, it.reason, it.rung) == (R.SCHEDULED, Reason.NEXT_CONTACT, rung), "a failure leads on"

    def stands(self, why: str) -> None:
        """Wherever it stands, it waits for what can come, until then, and for nothing else."""
        it, ladder, now = self.it, self.ladder, self.now
        if it.queue is None:
            return
        # What is held for a mistake of ours, somebody looks at; who presses a call away lets others still be heard of.
        declined = any(each.state is A.DECLINED for each in ladder.made)
        if it.state is not R.SENDING and it.reason is not Reason.BUG and not declined:
            assert not any(ladder.is_enough(each) for each in ladder.made), "it has arrived, and goes on"
        if it.state is R.AWAITING:
            leads = ladder.leads_on(it.rung, now)
            assert it.at == min(filter(None, (leads, ladder.closes_at(now)))), "it waits for another moment"
            assert leads is not None or any(each.state in OPEN for each in ladder.made), "it waits for nothing"
            unknown = any(each.state is A.UNKNOWN for each in ladder.made)
            assert it.reason is (Reason.OUTCOME_UNKNOWN if unknown else None)

    def ends(self, move: Move, why: str) -> None:
        """As its best attempt, and not before that is known."""
        it, ladder, now, state = self.it, self.ladder, self.now, move.state
        arrived = any(each.state in REACHED for each in ladder.made)
        out = [each for each in ladder.made if each.state in OPEN | {A.UNCONFIRMED}]
        if not (move.correction and state in (R.CANCELLED, R.SUPPRESSED)):
            assert (state is R.DELIVERED) == (arrived or why == "opened"), "not its best attempt"
        if state is R.UNCONFIRMED:
            assert out
            closed = all(now >= each.intended_at + WINDOW[each.provider] for each in out)
            assert closed or (now >= NOT_AFTER and it.state in (R.SCHEDULED, R.HELD)), "somebody may still be heard"
            assert {each.state for each in follow.close_open(it, now)} <= {A.UNCONFIRMED}
        elif state is not R.DELIVERED and not move.correction:
            assert not out, "one may have arrived"
        if move.correction:
            return
        match state:
            case R.UNDELIVERED:
                assert ladder.stopped or ladder.above(it.rung) is None, "given up with a rung left"
            case R.EXPIRED:
                assert now >= NOT_AFTER or (why == "skip" and not ladder.made)
            case R.CANCELLED | R.SUPPRESSED:
                assert ladder.stopped, "nobody has stopped it"
            case R.DELIVERED if why != "opened":
                later = ladder.leads_on(it.rung, now)
                over = now >= ladder.closes_at(now) or it.queue is Queue.DUE or why == "not after"
                waits = any(each.state in OPEN for each in ladder.made) or later is not None
                enough = any(ladder.is_enough(each) for each in ladder.made)
                assert enough or over or not waits or now >= NOT_AFTER, "more could have come"

    def everything_ends(self) -> None:
        for _ in range(60):
            it = self.it
            if it.queue is None:
                return
            self.now = max(self.now, it.at)
            if it.queue is Queue.CLAIM:
                current = self.ladder.made[-1]
                if current.state is A.INTENDED:
                    current.become(A.UNKNOWN, None, None, self.now)
                self.go(follow.after_attempt(it, current, self.now, self.rules), "word")
            elif it.queue is Queue.DUE:
                self.now = NOT_AFTER
                self.send()
            else:
                self.ring(healthy=True)
        raise AssertionError("it does not end")


SAID: Final = sorted(set(A) - {A.INTENDED, A.UNCONFIRMED})
# What the one who sent it knows mostly, and the provider.
FIRST: Final = [A.ACCEPTED] * 30 + [A.UNKNOWN, A.UNKNOWN, A.REJECTED, A.REJECTED, A.NOT_SENT]

LATER: Final = [A.SENT, A.DELIVERED, A.DELIVERED, A.UNDELIVERED]
SILENCE: Final = [None, 2 * HOUR, 2 * HOUR, 4 * HOUR, 4 * HOUR, 7 * HOUR, 60 * HOUR]


CONFIRMS: Final = {
    Channel.PUSH: [Confirm.DELIVERED, Confirm.OPENED, Confirm.OPENED, Confirm.OPENED, Confirm.ACCEPTED],
    Channel.SMS: [Confirm.DELIVERED, Confirm.DELIVERED, Confirm.DELIVERED, Confirm.ACCEPTED],
    Channel.VOICE: [Confirm.ANSWERED, Confirm.ANSWERED, Confirm.DELIVERED],
}
WHAT: Final = ["say"] * 8 + ["time"] * 12 + ["open", "open", "stop", "decide"]
PARTS: Final = 4


@dataclass
class Drawn:
    """A ladder and what happens: sent, told of, left in silence, opened, stopped, decided against, in any order."""

    order: str
    steps: dict[Channel, Step]
    resends: bool
    events: list[tuple[str, int]]

    def tell(self) -> None:
        story = Story(self.order, self.steps, self.resends)
        for what, n in self.events:
            if what != "decide" and n % 4:
                story.send()
            getattr(story, what)(n)
        assert (story.it.queue is None) == story.it.state.final
        story.everything_ends()

    def fault(self) -> str | None:
        try:
            self.tell()
        except AssertionError as error:
            return str(error).partition("\n")[0]
        return None

    def shortened(self, fault: str) -> "Drawn":
        """Without whatever may be left out and it goes wrong all the same."""
        it = self
        for place in reversed(range(len(self.events))):
            shorter = replace(it, events=[*it.events[:place], *it.events[place + 1 :]])
            if shorter.fault() == fault:
                it = shorter
        return it


def draw(number: int) -> Drawn:
    chance = Random(number)
    steps = {channel: Step(chance.choice(each), chance.choice(SILENCE)) for channel, each in CONFIRMS.items()}
    order = "p" if number % 8 == 0 else "".join(chance.sample("psv", chance.choice([1, 2, 3, 3, 3])))
    events = [(chance.choice(WHAT), chance.randrange(10_000)) for _ in range(chance.randint(10, 30))]
    return Drawn(order, steps, order == "p" and chance.random() < 0.8, events)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_ladder_keeps_its_promises(part: int) -> None:
    for number in range(part, int(os.environ.get("LADDER_STORIES", "40000")), PARTS):
        story = draw(number)
        if (fault := story.fault()) is not None:
            raise AssertionError(f"{fault}: {story.shortened(fault)}")
