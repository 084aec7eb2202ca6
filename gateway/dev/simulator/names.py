"""Closed vocabularies of the simulator.  They are its own: it shares no code with what it judges."""

from __future__ import annotations

from enum import StrEnum


class Vendor(StrEnum):
    """Whose wire it is.  `oauth` is Google's token endpoint; a token is not a message."""

    TWILIO = "twilio"  # its Messages API
    TWILIO_VOICE = "twilio_voice"  # its Calls API: another wire of the same account
    FCM = "fcm"
    ALIYUN = "aliyun"  # Voice
    ALIYUN_SMS = "aliyun_sms"
    OAUTH = "oauth"


class Kind(StrEnum):
    """What one line of the log says."""

    STARTED = "started"  # first line of a log; holds the salt of its ids
    ACCEPTED = "accepted"  # the vendor has the message; from here on it counts as sent
    REFUSED = "refused"  # by the vendor's checks, or by the script in the vendor's words
    DROPPED = "dropped"  # read and passed the checks, but never accepted and never answered
    VALIDATED = "validated"  # a dry run: answered, not a message
    TOKEN = "token"  # noqa: S105 - a kind of log line: an access token was granted
    UPSTREAM = "upstream"  # a borrower wrote back, on order; that it was carried to us is told as a receipt
    RECEIPT = "receipt"  # one delivery of one receipt, with what our endpoint answered
    DIALOGUE = "dialogue"  # one request during a call for what to say next, with what our endpoint answered
    CALL = "call"  # a call has ended: what it said and heard


class Action(StrEnum):
    """What the vendor does with a request that passed its checks."""

    ANSWER = "answer"  # accept and say so
    ERROR = "error"  # refuse with a code or a bare status; with `after_accept` it accepts first
    STALL = "stall"  # never accept, never answer
    DROP = "drop"  # never accept, reset the connection
    HANG = "hang"  # accept, never answer
    RESET = "reset"  # accept, reset the connection
    TRUNCATE = "truncate"  # accept, send half of the answer, close

    @property
    def accepts(self) -> bool:
        return self in (Action.ANSWER, Action.HANG, Action.RESET, Action.TRUNCATE)


class Outcome(StrEnum):
    """How a message ends, told by receipts.  Every vendor has its own words for each; see `codes`."""

    DELIVERED = "delivered"
    OPENED = "opened"
    ANSWERED = "answered"
    SENT = "sent"  # handed to the carrier, then silence
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    DECLINED = "declined"
    NONE = "none"  # no receipt at all


class Pickup(StrEnum):
    """Who takes a call, if anybody does."""

    HUMAN = "human"
    MACHINE = "machine"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    DECLINED = "declined"  # he looked and refused it
    FAILED = "failed"  # the number cannot be reached
    CANCELED = "canceled"  # taken back while it rang

    @property
    def answers(self) -> bool:
        return self in (Pickup.HUMAN, Pickup.MACHINE)


class Ending(StrEnum):
    """Why a call ended."""

    NOT_ANSWERED = "not_answered"
    HANGUP = "hangup"  # <Hangup>
    END_OF_DOCUMENT = "end_of_document"
    CALLEE = "callee_hung_up"
    APPLICATION_ERROR = "application_error"  # our endpoint or its document; the callee hears an apology
    TIME_LIMIT = "time_limit"
    TOO_MANY_STEPS = "too_many_steps"  # the simulator's own bound
    STOPPED = "simulator_stopped"
