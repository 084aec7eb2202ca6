"""The borrowers: the same for the same seed, by virtual time alone; they tell what a lender could tell."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from gateway.dev.borrowers import Character, Letter, Message, Person, Tell, World, people, script
from gateway.dev.borrowers.people import sms_number
from gateway.dev.borrowers.world import Deed
from gateway.dev.lapse.play import event
from gateway.dev.simulator import Vendor
from gateway.intake import facts
from gateway.intake.cloudevents import Record, read_event
from schemas.messages import CloudEvent
from schemas.repayments import (
    BorrowerOptedIn,
    BorrowerOptedOut,
    ContactChanged,
    CreditReported,
    DebitFailed,
    DebtResumed,
    DebtStopped,
    PreferenceChanged,
    RepaymentPaid,
    RepaymentPlanned,
    RepaymentRescheduled,
)
from schemas.vocabulary import Channel

START = dt.datetime(2027, 3, 5, 6, tzinfo=dt.UTC)
END = START + dt.timedelta(days=45)
DAY = dt.timedelta(days=1)


def world(seed: int = 1, loans: int = 200) -> World:
    return World(seed, "harbour", people(seed, loans, START.date()), START)


def lived(play: World, every: dt.timedelta = DAY / 2) -> list[tuple[dt.datetime, Deed]]:
    """A life in which each is sent an SMS every so often, and it arrives."""
    done: list[tuple[dt.datetime, Deed]] = []
    reminded = START + 9 * DAY
    while (now := min(play.next() or END, reminded)) < END:
        done += [(now, deed) for deed in play.take(now)]
        if now == reminded:
            for person in play.people.values():
                for loan in person.loans:
                    play.notice(Message(now, person.ref, loan.ref, Channel.SMS))
            reminded += every
    return done


def test_the_same_seed_is_the_same_life_and_another_is_not() -> None:
    assert lived(world()) == lived(world())
    assert lived(world(1, 40)) != lived(world(2, 40))


def test_every_kind_of_borrower_and_every_fact_comes_up() -> None:
    play = world()
    assert {person.character for person in play.people.values()} == set(Character)
    kinds = Counter(type(deed.fact) if isinstance(deed, Tell) else Letter for _, deed in lived(play))
    assert kinds.keys() == {
        RepaymentPlanned, RepaymentPaid, DebitFailed, DebtStopped, DebtResumed, RepaymentRescheduled, CreditReported,
        ContactChanged, PreferenceChanged, BorrowerOptedOut, BorrowerOptedIn, Letter,
    }  # fmt: skip


def test_every_fact_can_be_read_by_intake_when_it_is_told() -> None:
    for now, deed in lived(world()):
        if isinstance(deed, Tell):
            assert deed.fact.as_of <= deed.at <= now
            read = read_event(Record("t", 0, 0, None, event("fact-1", deed.fact, now)))
            assert isinstance(read, CloudEvent), read
            assert facts.read(read, now, ["harbour"]) == deed.fact


def test_of_one_borrower_one_thing_is_told_at_a_time() -> None:
    play, moments = world(), dict[str, list[dt.datetime]]()
    while play.next() is not None:
        taken = play.take(END + 365 * DAY)  # all of it is overdue
        assert max(Counter(each.borrower for each in taken).values()) == 1
        for each in taken:
            moments.setdefault(each.borrower, []).append(each.at)
    assert all(before <= after for each in moments.values() for before, after in pairwise(each))


def one(character: Character, debited: bool = True) -> tuple[World, Person]:
    person = next(each for each in people(1, 200, START.date()) if each.character is character)
    loan = msgspec.structs.replace(person.loans[0], debited=debited)
    sure = msgspec.structs.replace(person, attention=1.0, loans=(loan,))
    return World(1, "harbour", [sure], START), sure


def after_messages(character: Character, n: int = 12) -> list[Deed]:
    play, person = one(character)
    at = dt.datetime.combine(person.loans[0].instalments[0].due_date, dt.time(18), dt.UTC) + DAY
    for _ in range(n):
        play.notice(Message(at, person.ref, person.loans[0].ref, Channel.SMS))
        at += DAY
    return rest_of(play)


def rest_of(play: World) -> list[Deed]:
    """What nobody can keep from happening any more."""
    deeds: list[Deed] = []
    while (now := play.next()) is not None:
        deeds += play.take(now)
    return deeds


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        (Character.FORGETFUL, {RepaymentPaid}),
        (Character.PIECEMEAL, {RepaymentPaid}),
        (Character.MOVING, {RepaymentPaid, ContactChanged}),
        (Character.PARTICULAR, {RepaymentPaid, PreferenceChanged}),
        (Character.DISPUTING, {DebtStopped, Letter}),
        (Character.STRUGGLING, {DebtStopped, RepaymentRescheduled, DebtResumed, Letter}),
        (Character.LEAVING, {BorrowerOptedOut, Letter}),
    ],
)
def test_each_does_what_he_is_like_once_he_has_noticed(character: Character, expected: set[type]) -> None:
    kinds = {type(each.fact) if isinstance(each, Tell) else Letter for each in after_messages(character)}
    assert kinds - {RepaymentPlanned, BorrowerOptedIn, DebitFailed, DebtResumed, CreditReported} == expected - {
        DebtResumed
    }


def test_a_part_is_paid_before_the_rest() -> None:
    paid = [each.fact for each in after_messages(Character.PIECEMEAL) if isinstance(each, Tell)]
    left = [each.outstanding for each in paid if isinstance(each, RepaymentPaid) and each.instalment == 1]
    assert len(left) >= 2
    assert left[0] != "0" == left[-1]


@pytest.mark.parametrize("character", [Character.SILENT, Character.PUNCTUAL])
def test_some_do_not_mind_what_they_are_told(character: Character) -> None:
    play, person = one(character)
    untouched, _ = one(character)
    for n in range(9):
        play.notice(Message(START + (20 + n) * DAY, person.ref, person.loans[0].ref, Channel.SMS))
    assert rest_of(play) == rest_of(untouched) != []


def test_who_is_not_attentive_may_miss_an_sms_but_not_a_call_that_he_took() -> None:
    _, person = one(Character.DISPUTING)
    for channel, does in ((Channel.SMS, False), (Channel.VOICE, True)):
        play = World(1, "harbour", [msgspec.structs.replace(person, attention=0.0)], START)
        play.notice(Message(START + 20 * DAY, person.ref, None, channel))
        assert any(isinstance(each, Letter) for each in rest_of(play)) is does


def test_nobody_minds_before_anything_is_due() -> None:
    play, person = one(Character.DISPUTING)
    play.notice(Message(START + DAY, person.ref, person.loans[0].ref, Channel.VOICE))
    assert not any(isinstance(each, Letter) for each in rest_of(play))


def test_their_phones_are_rules_of_the_simulator() -> None:
    cast = people(1, 200, START.date())
    rules = script(1, cast).rules
    gone = next(each for each in cast if not each.reachable)
    (undelivered,) = [each for each in rules if each.concerns(Vendor.TWILIO, sms_number(gone.number))][:1]
    assert undelivered.receipts is not None
    assert undelivered.receipts.outcome == "undelivered"
    leaving = next(each for each in cast if each.character is Character.LEAVING)
    keys = [each.callee.keys for each in rules if each.callee and f"{leaving.number:08d}" in each.recipient]
    assert ("1", "9") in keys
