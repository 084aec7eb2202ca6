"""Mistakes in how a planned reminder climbs its ladder."""

from __future__ import annotations

from typing import Final

from gateway.ledger import climbing, follow, standing, waiting
from tests.mutants.planting import Change, Text

_WAITS: Final = "if reached and advances is None and (not waits or was.closed is not None):"

LADDERS: Final[dict[str, list[Change]]] = {
    # what is enough
    "a push that was delivered is taken for opened": [
        Text(
            climbing,
            "Step.is_met_by",
            "case Confirm.OPENED:\n            return False",
            "case Confirm.OPENED:\n            return True",
        )
    ],
    "a call that was put through is taken for answered": [
        Text(climbing, "Step.is_met_by", "return state in _PICKED_UP", "return True")
    ],
    "a delivery is never enough": [
        Text(
            climbing,
            "Step.is_met_by",
            "case Confirm.DELIVERED | Confirm.ACCEPTED:\n            return True",
            "case _:\n            return False",
        )
    ],
    "what nothing can follow is not enough either": [
        Text(climbing, "is_enough", " or _due_after(was, attempt, step) is None", "")
    ],
    "a late word is no confirmation": [Text(follow, "_ends", "was.queue is None or ", "")],
    "opened is no confirmation": [
        Text(follow, "opened", "return queueing.end(was, ReminderState.DELIVERED, None, now)", "return None")
    ],
    "what was refused may be opened": [Text(follow, "opened", " or attempt.state in NO_CONTACT", "")],
    # silence
    "accepted leads to a rung by time": [Text(climbing, "_due_after", " or step.confirm is Confirm.ACCEPTED", "")],
    "a stop leaves silence to lead on": [Text(climbing, "_due_after", " or was.closed is not None", "")],
    "silence leads on behind not_after": [Text(climbing, "_due_after", "at < was.not_after and ", "")],
    "silence leads on from the last rung": [
        Text(climbing, "_due_after", " and was.next_rung(attempt.rung) is not None", "")
    ],
    "silence leads on at once": [Text(climbing, "_due_after", " + step.advance_after", "")],
    "silence leads on though one is unknown": [
        Text(climbing, "silent", "if any(each.state in _UNSETTLED for each in was.attempts):", "if False:")
    ],
    "silence leads on when it is too late": [Text(climbing, "advances_at", " or now >= was.not_after", "")],
    "silence of a rung that was left counts": [Text(climbing, "silent", "each.rung == was.rung and ", "")],
    "silence after a failure counts": [Text(climbing, "silent", " and each.state in _HANDED_OVER", "")],
    "nobody asks whether receipts come in": [Text(follow, "wake", "if healthy:", "if True:")],
    "receipts that come in are not believed": [Text(follow, "wake", "if healthy:", "if False:")],
    "every rung asks for receipts before its time": [Text(follow, "asks", "now < at or ", "")],
    "it asks for receipts when nobody can tell any more": [
        Text(follow, "asks", " or now >= climbing.closes_at(was, now, rules)", "")
    ],
    "what is held for receipts is looked at once": [
        Text(follow, "wake", "min(now + rules.receipts_recheck, climbing.closes_at(was, now, rules))", "was.not_after")
    ],
    "what is held for receipts outlives its not_after": [
        Text(follow, "wake", "if was.state is ReminderState.HELD and now >= was.not_after:", "if False:")
    ],
    "what is held for receipts is moved by every word": [
        Text(follow, "after_attempt", "if was.reason is Reason.RECEIPTS_UNHEALTHY and ", "if False and ")
    ],
    "what nobody has heard of is waited for until its windows close": [
        Text(waiting, "await_planned", "if not climb.known:", "if False:")
    ],
    # two contacts at once
    "a failure leads on though an earlier one is unknown": [
        Text(climbing, "blocks", "other.state in _UNSETTLED or ", "")
    ],
    "one that was left behind by silence blocks every other": [
        Text(climbing, "blocks", "(other.state in OPEN | REACHED and other.rung == rung)", "other.state in OPEN")
    ],
    "what is out on the same rung is in nobody's way": [
        Text(climbing, "blocks", " or (other.state in OPEN | REACHED and other.rung == rung)", "")
    ],
    "what has arrived is repeated when its repeat fails": [
        Text(climbing, "blocks", "OPEN | REACHED and other.rung", "OPEN and other.rung")
    ],
    "a word of an earlier rung calls the next one back": [
        Text(follow, "_passed", "climb is not None and attempt.rung < was.rung", "False")
    ],
    "an unknown one is followed by the next": [
        Text(
            follow,
            "_after_unknown",
            "return waiting.await_word(was, Reason.OUTCOME_UNKNOWN, now, rules, attempt)",
            "return _next_contact(was, now, rules)",
        )
    ],
    "a contact decided against leads on past what is out": [
        Text(
            follow,
            "skip",
            "climbing.blocks(each, was.rung) for each in",
            "False for each in",
        )
    ],
    "what is planned repeats where nothing replaces the first": [
        Text(follow, "_may_resend", "climb.resends and attempt.provider in rules.replaces", "climb.resends")
    ],
    "what is planned repeats by the rule of requests": [
        Text(
            follow,
            "_may_resend",
            "climb.resends and attempt.provider in rules.replaces",
            "attempt.provider in rules.replaces",
        )
    ],
    "a stop leaves the repeat": [Text(follow, "_may_resend", "resends and was.closed is None and", "resends and")],
    "who declined is called by another rung": [
        Text(standing, "Situation.next_rung", "Channel.VOICE if declined else None", "None")
    ],
    # refusals and stops
    "a refusal by an earlier rung is one word among others": [
        Text(follow, "after_attempts", "decides = refused or decides or", "decides = decides or")
    ],
    "a refusal by an earlier rung leaves the next": [
        Text(follow, "after_attempt", "elsewhere and attempt.failure is Failure.OPTED_OUT", "False")
    ],
    "who refused is asked again by silence": [
        Text(
            follow,
            "_after_failure",
            "return waiting.await_word(replace(was, closed=Reason.OPTED_OUT), None, now, rules, attempt)",
            "return waiting.await_word(was, None, now, rules, attempt)",
        )
    ],
    "a stop of what waits closes nothing": [
        Text(
            follow,
            "cancel",
            "return waiting.await_planned(replace(was, closed=closed), now, rules, climb), True",
            "return waiting.await_planned(was, now, rules, climb), True",
        )
    ],
    "what is not to be sent comes again by time": [
        Text(follow, "suppress", "replace(was, closed=reason) if planned else was", "was")
    ],
    "a stop ends what may have arrived": [
        Text(
            follow,
            "cancel",
            "if all(each.state in NO_CONTACT or each.state in FAILED for each in was.attempts):",
            "if True:",
        )
    ],
    # the end
    "a failure of the last rung forgets what is out": [Text(follow, "_next_contact", "if _stands(was):", "if False:")],
    "a delivery that was not enough is forgotten": [Text(follow, "_stands", " or each.state in REACHED", "")],
    "a window that closes forgets what arrived": [
        Text(waiting, "window_closed", "if any(each.state in REACHED for each in was.attempts):", "if False:")
    ],
    "the first window that closes ends it": [Text(climbing, "closes_at", "return max(", "return min(")],
    "every window is counted from the last contact": [
        Text(climbing, "closes_at", "each.intended_at + rules", "was.attempts[-1].intended_at + rules")
    ],
    "not_after ends it without a look at what is out": [Text(follow, "expire", "if _stands(was):", "if False:")],
    "what has arrived waits for the rest": [Text(waiting, "await_planned", _WAITS, "if False:")],
    "what has arrived ends though more could come": [Text(waiting, "await_planned", _WAITS, "if reached:")],
    "after a stop it waits on for what has arrived": [
        Text(waiting, "await_planned", _WAITS, "if reached and advances is None and not waits:")
    ],
    "nobody rings when silence is to lead on": [Text(waiting, "await_planned", "at = min(at, advances)", "pass")],
    "a late failure of one rung lowers what another may still raise": [
        Text(
            follow,
            "_correction",
            "decides = all(each.state in FAILED or each.state in NO_CONTACT for each in was.attempts)",
            "decides = True",
        )
    ],
    "a failure leads to the same rung again": [Text(follow, "_next_contact", "now, rung, 0)", "now, was.rung, 0)")],
    "a failure skips a rung": [Text(follow, "_next_contact", "was.next_rung(was.rung)", "was.next_rung(was.rung + 1)")],
    "given up by hand, what has arrived is forgotten": [
        Text(follow, "give_up", "if any(each.state in REACHED for each in was.attempts):", "if False:")
    ],
}
