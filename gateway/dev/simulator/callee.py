"""Who is called, and what he does with the call: the script's word on one call with a dialogue."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from gateway.dev.simulator.names import Outcome, Pickup

_Keys = Annotated[str, Field(pattern=r"^[0-9*#]*$", max_length=64)]


class Callee(BaseModel):
    """By default a human who lets it ring for four seconds, presses 1 the first time he is asked, and listens.

    `keys`: what is pressed each time that keys are asked for; "" and everything after the last is silence.  He hears a
    prompt to its end before he presses.  A machine presses nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pickup: Pickup = Pickup.HUMAN
    keys: tuple[_Keys, ...] = ("1",)
    hangs_up: Annotated[int, Field(ge=0)] | None = None  # after that many things said to him; 0 at once
    rings: Annotated[float, Field(ge=0, le=3600)] = 4.0  # seconds before he answers; beyond the call's Timeout too late
    detected: Annotated[str, Field(pattern=r"^[a-z_]+$")] | None = None  # AnsweredBy, when the detection errs
    scale: Annotated[float, Field(ge=0, le=1)] | None = None  # real seconds for one of this call; else as configured


class Unanswered(NamedTuple):
    status: str  # CallStatus
    sip: str  # SipResponseCode
    rings: bool = True


# https://www.twilio.com/docs/voice/api/call-resource#call-status-values: calls that nobody took.  A refusal reaches the
# vendor as a busy line: it has no word of its own for it.
TWILIO_UNANSWERED: Final[dict[Pickup, Unanswered]] = {
    Pickup.NO_ANSWER: Unanswered("no-answer", "487"),
    Pickup.BUSY: Unanswered("busy", "486", rings=False),
    Pickup.DECLINED: Unanswered("busy", "603"),
    Pickup.FAILED: Unanswered("failed", "404", rings=False),
    Pickup.CANCELED: Unanswered("canceled", "487"),
}

# Who takes a call when the script speaks of receipts only.
PICKUPS: Final[dict[Outcome, Pickup]] = {
    Outcome.UNDELIVERED: Pickup.NO_ANSWER,
    Outcome.NO_ANSWER: Pickup.NO_ANSWER,
    Outcome.FAILED: Pickup.FAILED,
    Outcome.BUSY: Pickup.BUSY,
    Outcome.DECLINED: Pickup.DECLINED,
}


def whom(callee: Callee | None, outcome: Outcome) -> Callee:
    """The callee of a plan; without a word about him, the one who fits the receipts that were ordered."""
    return callee or Callee(pickup=PICKUPS.get(outcome, Pickup.HUMAN))
