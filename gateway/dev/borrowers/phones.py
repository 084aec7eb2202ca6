"""Their phones, as rules for the simulated providers: what arrives, what is opened, which calls are taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.dev.borrowers.people import Character, Person, draw, sms_number, voice_number
from gateway.dev.simulator import Action, Callee, Outcome, Pickup, ReceiptPlan, Rule, Script, Vendor

_SOON = (5.0, 240.0)  # seconds until a message has arrived
_IN_HOURS = (300.0, 10_800.0)  # until a push is looked at


def script(seed: int, people: Iterable[Person]) -> Script:
    """How each one's phone behaves; whatever is left to chance is drawn by the seed."""
    rules = [rule for person in people for rule in _rules(seed, person)]
    return Script(seed=seed, rules=(*rules, Rule(receipts=ReceiptPlan(delay=_SOON))))


def _rules(seed: int, person: Person) -> Iterator[Rule]:
    if person.token is not None:
        yield from _app(seed, person, person.token)
    for moved in (False, True)[: 1 + (person.character is Character.MOVING)]:
        if not person.reachable:
            failed = ReceiptPlan(outcome=Outcome.UNDELIVERED, delay=_SOON)
            yield Rule(vendor=Vendor.TWILIO, recipient=sms_number(person.number, moved), receipts=failed)
        yield from _calls(person, voice_number(person.number, moved))


def _app(seed: int, person: Person, token: str) -> Iterator[Rule]:
    if draw(seed, person.ref, "app removed") < 0.1:
        yield Rule(vendor=Vendor.FCM, recipient=token, action=Action.ERROR, code="UNREGISTERED")
        return
    opened = ReceiptPlan(outcome=Outcome.OPENED, delay=_IN_HOURS)
    yield Rule(vendor=Vendor.FCM, recipient=token, chance=person.attention, receipts=opened)


def _calls(person: Person, number: str) -> Iterator[Rule]:
    def callee(chance: float, who: Callee) -> Rule:
        return Rule(vendor=Vendor.TWILIO_VOICE, recipient=number, chance=chance, callee=who)

    if person.character is Character.SILENT:
        yield callee(0.4, Callee(pickup=Pickup.DECLINED))
        yield callee(0.5, Callee(pickup=Pickup.NO_ANSWER))
        yield callee(1.0, Callee(pickup=Pickup.MACHINE))
        return
    yield callee(person.attention, Callee(keys=("1", "9" if person.character is Character.LEAVING else "1")))
    yield callee(0.3, Callee(pickup=Pickup.MACHINE))
    yield callee(0.3, Callee(pickup=Pickup.BUSY))
    yield callee(0.1, Callee(keys=("2",)))  # somebody else has his number
    yield callee(1.0, Callee(pickup=Pickup.NO_ANSWER))
