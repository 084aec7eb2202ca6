"""Mistakes in what follows from facts: plans, what their messages say, and who is told of in whose."""

from __future__ import annotations

from typing import Final

from gateway.cadence import planning
from gateway.dispatch import merge as dispatch_merge
from gateway.dispatch.pipeline import Steps
from gateway.intake import planner
from gateway.ledger import (
    accept,
    claims,
    fact_stops,
    freezes,
    intend,
    merged,
    merging,
    moves,
    plans,
    queueing,
    releases,
    timers,
)
from schemas.vocabulary import Reason
from tests.mutants.planting import Change, Text, Value

_TAKE_BACK: Final = "[move for was in found.values() if (move := queueing.revise(was, now)) is not None]"
_NOBODY: Final = "[]"


async def _nobody_busy(*_: object) -> frozenset[int]:
    return frozenset()


PLANS: Final[dict[str, list[Change]]] = {
    # what is in somebody's hands
    "a leader is not taken back when what it tells of changes": [Text(merging, "_take_back", _TAKE_BACK, _NOBODY)],
    "a message in other hands is not taken back when one more joins it": [
        Text(merging, "gather", "elif changed and leader.queue", "elif False and leader.queue")
    ],
    "what is revised in a worker's hands is not taken back": [Text(plans, "_revise", _TAKE_BACK, _NOBODY)],
    "a next contact tells of what was paid meanwhile": [
        Text(plans, "_write", "await merging.forget(connection, untold, now)", "[]")
    ],
    # what it says
    "what it says stays as it was": [Text(plans, "_REVISE", "do update set sealed = excluded.sealed", "do nothing")],
    "a claim says what was planned first": [Text(claims, "_CLAIM", "coalesce(v.sealed, r.sealed)", "r.sealed")],
    "other contacts are not seen": [
        Text(
            planner,
            "Planner._planned",
            "replace(part, state_as_of=_ANY)",
            "replace(part, state_as_of=_ANY, contacts=())",
        )
    ],
    "another due date is not seen": [
        Text(
            planner,
            "Planner._planned",
            "replace(part, state_as_of=_ANY)",
            "replace(part, state_as_of=_ANY, due_date=_ANY.date())",
        )
    ],
    # what is made anew, and what not
    "what has ended is always made again": [
        Text(plans, "_may_be_again", "return (was.reason in LIFTED or corrected)", "return True or (corrected)")
    ],
    "what was lifted is not made again": [Text(plans, "_may_be_again", "was.reason in LIFTED", "False")],
    "who has corrected a dead address hears nothing": [
        Text(plans, "_may_be_again", "stands.reach not in (None, planned.reach)", "False")
    ],
    "a dead address is tried at every fact": [
        Text(plans, "_may_be_again", "stands.reach not in (None, planned.reach)", "True")
    ],
    "who corrects an address while it is tried hears nothing": [
        Text(plans, "_Revised.row", "self.reach if self.was.attempts else planned.reach", "planned.reach")
    ],
    "what reached nobody leaves a gap": [
        Text(moves, "_leaves_a_gap", "return move.was.occasion is None or move.was.closed in LIFTED", "return False")
    ],
    # lessons
    "every debt has lessons of its own": [Text(planning, "_once", "outcome is first[outcome.key.step]", "True")],
    "what was taught is taught again for another debt": [
        Text(planning, "Key.business", '("", None, self.stage, self.step) if self.is_lesson else ', "")
    ],
    # when
    "another time leaves it where it was": [Text(plans, "_write", "planned.print != stands.print or", "")],
    "what another plan made past goes out": [
        Text(plans, "_write", "if reason is None and now < was.not_after:", "if False:")
    ],
    # Either alone is harmless: whoever was contacted still has his stage.
    "what has left is made anew, and nobody asks who has its stage": [
        Text(plans, "_write", "if not fact_stops.under_way(was)}", "}"),
        Text(plans, "_bear", "if planned.stage_key not in owned]", "]"),
    ],
    "what has left goes on by the plan before": [
        Text(fact_stops, "end", "if was.closed is not None:", "if was.closed is not None or under_way(was):")
    ],
    "who has asked for it first is asked for again": [Text(plans, "_bear", "if planned.stage_key not in owned]", "]")],
    "who has opted out has his plans born suppressed": [Text(plans, "_write", "if subject not in out]", "]")],
    "other channels leave it as it was": [
        Text(planner, "Planner._planned", "outcome.until.isoformat(), ladder,", "outcome.until.isoformat(),")
    ],
    "made twice in the count": [Text(plans, "_COUNT", "planned_count.n + excluded.n", "excluded.n")],
    # what may be sent
    "what lacks its fact goes out": [
        Text(plans, "_wait", "queueing.wait(was, lacks[was.id], now)", "queueing.wait(was, False, now)")
    ],
    "facts never grow old": [Value(Steps, "_stale_at", lambda *_: None)],
    "what is planned leaves at any hour": [Value(Steps, "_spans", lambda *_: None)],
    # one message a day
    "nobody looks for the rest of the day": [Text(merging, "_COMPANY", "l.at < i.until", "false")],
    "what is told of waits for ever": [Text(moves, "_of_one_message", "await merged.let_go(connection, over)", "[]")],
    "what was told of goes by itself as well": [
        Text(moves, "_of_one_message", "await merged.waiting(connection, told)", "[]")
    ],
    "what is only intended counts as told": [Value(moves, "_UNTOLD", moves.NO_CONTACT)],
    "what waits no more is told of all the same": [
        Text(moves, "_of_one_message", "await merged.leave(connection, left)", "[]")
    ],
    "what was contacted for joins a message": [Text(merging, "_OF_THE_DAY", "and l.attempts = 0 and", "and")],
    "what waits for a message under way joins another": [Text(merging, "_OF_THE_DAY", "w.attempts > 0", "false")],
    "nothing is told along": [
        Text(
            merging,
            "_followers",
            "((each, True) for each in message.along)",
            "((each, False) for each in message.along)",
        )
    ],
    "what is told along is what was planned first": [Text(merged, "_TOLD", "coalesce(v.sealed, r.sealed)", "r.sealed")],
    "a lesson yields to nothing": [
        Value(dispatch_merge, "put_off", lambda *_: []),
        Value(merging, "busy", _nobody_busy),
    ],
    # what is frozen
    "intend asks for freezes of who leads alone": [
        Text(intend, "_fence", "or any(in_force.covers(each.slices.facts) for each in intent.told)", "")
    ],
    "what is frozen joins a message": [Text(merging, "gather", "if not in_force.covers(each.slices.facts)]", "]")],
    "a message tells of what was frozen since": [
        Text(dispatch_merge, "Merger.merge", "in_force.covers(each.slices.facts) or", "")
    ],
    "who is frozen waits for a message that says nothing of him": [
        Text(
            dispatch_merge,
            "Merger.merge",
            "if apart := [each.reminder for each in untold if each.waits]:",
            "if apart := []:",
        )
    ],
    "who waits for what is frozen waits as long": [
        Text(moves, "_leads_no_more", "is not Reason.MERGED_INTO", "not in (Reason.MERGED_INTO, Reason.FROZEN)")
    ],
    "a freeze of its stage does not see what is told of": [
        Value(merged.Slices, "facts", property(lambda each: {"source": each.source, "product": each.product}))
    ],
    "a freeze of a product sees no claim": [Text(claims, "Claimed.facts", "self.product", "None")],
    "a freeze of a channel looks at the first of the ladder": [
        Text(freezes, "_facts", "was.ladder[was.rung]", "was.ladder[0]")
    ],
    "a freeze of everything holds nothing": [
        Text(freezes, "Freezes.holder", "((FreezeKind.ALL.value, EVERYTHING), *named)", "named")
    ],
    "a freeze with an end is not lifted": [Text(freezes, "_LIFT", "(until is null or until > $3)", "until is null")],
    "who waits for another goes when one that he was to tell of is let go": [
        Text(moves, "_of_one_message", "if was.id in followers", "if _is_merged(was)")
    ],
    "who is frozen while he waits is not let go": [
        Text(
            merging,
            "gather",
            "[each.id for day in by_subject.values() for each in day]",
            "[each.id for day in free for each in day]",
        )
    ],
    "a freeze with an end holds nothing": [Text(freezes, "_READ", "or until > $1", "or until < $1")],
    "a second freeze makes the first one shorter": [
        Text(freezes, "_ADD", 'or excluded.until > "freeze".until', "or excluded.until is not null")
    ],
    "what is held is held by whichever freeze": [
        Text(
            freezes,
            "holders",
            "holder = in_force.holder(_facts(row, found[row[0]], rules))",
            "holder = in_force.ids[0]",
        )
    ],
    "what is born frozen forgets when it was to go": [
        Text(
            accept,
            "_births",
            "resume_at=each.send_at,\n                    freeze=freeze,",
            "resume_at=None,\n                    freeze=freeze,",
        )
    ],
    "what was held before it was frozen goes at its end": [
        Text(queueing, "hold", "was.at if was.state is ReminderState.SCHEDULED else was.resume_at", "was.at")
    ],
    "what is to go later goes when a freeze is lifted": [Text(queueing, "release", "was.resume_at or now", "now")],
    "what is frozen does not wait for its fact": [Value(queueing, "_LETS_GO", queueing._LETS_GO - {Reason.FROZEN})],
    "what is born under a freeze does not lack its fact": [
        Text(accept, "_births", "elif each.lacks:", "elif each.lacks and not in_force.slices:")
    ],
    "facts pass by what is frozen": [
        Text(plans, "_write", "if was is None or (", "if was is None or was.reason is Reason.FROZEN or (")
    ],
    "what is frozen does not end": [
        Text(
            timers,
            "fire",
            "elif now >= was.not_after:",
            "elif now >= was.not_after and was.reason is not Reason.FROZEN:",
        )
    ],
    "what comes to its turn under another freeze leaves": [
        Text(releases, "_move", "elif was.id in holders:", "elif False:")
    ],
}
