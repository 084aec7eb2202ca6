"""What `docs/cadences.md` promises of a ladder, by its contacts alone: no reminder is here, no queue and no move."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Final

from gateway.cadence.model import Confirm
from gateway.ledger.climbing import Step
from gateway.ledger.standing import Attempt
from gateway.ledger.states import FAILED, NO_CONTACT, OPEN, REACHED
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Channel

NOW: Final = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
HOUR: Final = dt.timedelta(hours=1)
NOT_AFTER: Final = NOW + 20 * HOUR
CHANNEL: Final = {"p": Channel.PUSH, "s": Channel.SMS, "v": Channel.VOICE}
WINDOW: Final = {"push": 12 * HOUR, "sms": 8 * HOUR, "voice": 6 * HOUR}
REPLACES: Final = frozenset({"push"})  # a repeat takes the place of the first there
CERTAIN: Final = FAILED | NO_CONTACT
UNSETTLED: Final = frozenset({A.INTENDED, A.UNKNOWN})


@dataclass
class Ladder:
    order: str
    steps: dict[Channel, Step]
    resends: bool
    made: list[Attempt] = field(default_factory=list)
    passed: set[int] = field(default_factory=set)  # rungs that were left behind
    stopped: bool = False  # somebody wants no more of it

    def is_unsettled(self) -> bool:
        return any(each.state in UNSETTLED for each in self.made)

    def above(self, rung: int) -> int | None:
        """Who has pressed a call away is called by none."""
        declined = any(each.state is A.DECLINED for each in self.made)
        rungs = range(rung + 1, len(self.order))
        return next((each for each in rungs if not (declined and self.order[each] == "v")), None)

    def leads_on_at(self, contact: Attempt) -> dt.datetime | None:
        """When silence after it leads to the next rung; None where it never does."""
        step = self.steps[contact.channel]
        if step.advance_after is None or step.confirm is Confirm.ACCEPTED or self.stopped:
            return None
        at = contact.intended_at + step.advance_after
        return at if at < NOT_AFTER and self.above(contact.rung) is not None else None

    def is_enough(self, contact: Attempt) -> bool:
        """By its rule, or because no other rung could follow."""
        confirm = self.steps[contact.channel].confirm
        met = confirm in (Confirm.DELIVERED, Confirm.ACCEPTED)
        met |= confirm is Confirm.ANSWERED and contact.state is not A.DELIVERED
        return contact.state in REACHED and (met or self.leads_on_at(contact) is None)

    def is_silent(self, rung: int) -> Attempt | None:
        """The last contact of this rung that was handed over, where nothing is unknown."""
        handed_over = [each for each in self.made if each.rung == rung and each.state not in CERTAIN]
        return handed_over[-1] if handed_over and not self.is_unsettled() else None

    def closes_at(self, now: dt.datetime) -> dt.datetime:
        """When the last window closes in which something may still be heard."""
        waits = [each for each in self.made if each.state in OPEN | REACHED]
        return max((each.intended_at + WINDOW[each.provider] for each in waits), default=now)

    def leads_on(self, rung: int, now: dt.datetime) -> dt.datetime | None:
        silent = self.is_silent(rung)
        return None if silent is None or now >= NOT_AFTER else self.leads_on_at(silent)

    def may_leave(self, rung: int) -> None:
        """Never two contacts at once: each earlier one has failed for certain, or its rung was left behind."""
        assert not self.stopped, "a contact after a stop"
        for each in self.made:
            if each.state in CERTAIN:
                continue
            if each.state is A.UNKNOWN and each.rung == rung:
                assert self.resends and each.provider in REPLACES, "repeated, and the first may have arrived"
            else:
                assert each.state not in UNSETTLED, "a rung while one is unknown"
                assert each.rung < rung and each.rung in self.passed, "two contacts at once"
