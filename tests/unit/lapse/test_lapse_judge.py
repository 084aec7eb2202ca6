"""The judge of the time-lapse: it lets pass what is right, and finds every planted fault."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.dev.judge import verdicts as judge
from gateway.dev.judge import words

CADENCE = Path("gateway/cadence/cadences/default/1.yaml")
DUE = dt.date(2027, 3, 16)
ZONE = "America/New_York"  # five hours behind until the 14th, four from then on
NUMBER, CALL, TOKEN = "+8613900000001", "+8613800000001", "device-token-1"
VENDOR = {"sms": "twilio", "push": "fcm", "voice": "twilio_voice"}
ADDRESS = {"sms": NUMBER, "push": TOKEN, "voice": CALL}


def fact(kind: str, at: str, *, as_of: str | None = None, **data: Any) -> dict[str, Any]:
    who = {} if "borrower" in data else {"borrower_ref": "b-1"}
    return {
        "type": kind,
        "time": f"2027-{at}:00+00:00",
        "data": {**who, "as_of": f"2027-{as_of or at}:00+00:00", **data},
    }


def planned(at: str = "03-05T08:00", due: dt.date = DUE, zone: str = ZONE) -> dict[str, Any]:
    return fact(
        "repayment.planned.v1", at,
        borrower={"ref": "b-1", "timezone": zone},
        contacts=[{"channel": channel, "address": address} for channel, address in ADDRESS.items()],
        debt="loan-1", instalments=[{"number": 1, "due_date": due.isoformat(), "amount": "100.00"}],
        params={"reference": "M-1"},
    )  # fmt: skip


def of_debt(kind: str, at: str, **data: Any) -> dict[str, Any]:
    return fact(kind, at, debt="loan-1", **data)


FAILED = of_debt("repayment.debit_failed.v1", "03-16T11:20", as_of="03-16T11:00", instalment=1)
REPORTED = of_debt("credit.reported.v1", "04-08T10:00")
BEFORE = "a payment of $100.00 is due on 16 March 2027, soon. Ref M-1."
OPEN = "a payment of $100.00 is open; its due date is 16 March 2027. Ref M-1."


def overdue(days: int) -> str:
    return f"your payment of $100.00 is {days} days overdue. Ref M-1."


def sent(at: str, channel: str, text: str = "", to: str | None = None, id: str | None = None) -> dict[str, Any]:
    return {
        "kind": "accepted", "at": f"2027-{at}:00+00:00", "vendor": VENDOR[channel], "id": id or f"m-{channel}-{at}",
        "recipient": to or ADDRESS[channel], "text_or_template": text, "marker": "M-1",
    }  # fmt: skip


def receipt(at: str, message: dict[str, Any], status: str) -> dict[str, Any]:
    return {"kind": "receipt", "at": f"2027-{at}:00+00:00", "id": message["id"], "status": status, "answer": 200}


def call(at: str, *keys: str) -> dict[str, Any]:
    gathers = [{"event": "gather", "digits": key} for key in keys]
    return {
        "kind": "call", "at": f"2027-{at}:00+00:00", "id": f"m-voice-{at}", "recipient": CALL, "marker": "M-1",
        "transcript": gathers,
    }  # fmt: skip


UNTOLD = "nobody_was_told"


def verdict(log: list[dict[str, Any]], *facts: dict[str, Any]) -> list[str]:
    """What is wrong with the contacts of a log in which others are left out."""
    found = judge.check(log, facts, yaml.safe_load(CADENCE.read_text()))
    return [fault for each in found["violations"] if (fault := each.rpartition(": ")[2]) != UNTOLD]


def untold(log: list[dict[str, Any]], *facts: dict[str, Any]) -> list[str]:
    """Of what nobody was told, until a heartbeat of the 20th of April."""
    beat = {"type": "repayment.watermark.v1", "time": "2027-04-20T06:00:00+00:00", "data": {}}
    found = judge.check(log, [*facts, beat], yaml.safe_load(CADENCE.read_text()))
    return [each.split()[-2].rpartition("/")[2][:-1] for each in found["violations"] if each.endswith(UNTOLD)]


# A loan that is never paid: every occasion once, the first day of summer time between them.
LIFE = [
    sent("03-09T14:30", "push"),
    sent("03-13T15:00", "sms", BEFORE),
    sent("03-16T13:00", "sms", OPEN),
    sent("03-17T13:30", "push"),
    sent("03-19T14:00", "sms", overdue(3)),
    sent("03-23T15:00", "voice"),
    sent("03-31T15:00", "sms", overdue(15)),
    sent("04-15T15:00", "sms", overdue(30)),
]


def test_a_whole_life_passes() -> None:
    assert verdict(LIFE, planned(), FAILED, REPORTED) == []
    found = judge.check(LIFE, [planned(), FAILED, REPORTED], yaml.safe_load(CADENCE.read_text()))
    assert (found["contacts"], found["second"], found["late"], found["violations"]) == (8, 0, {}, [])
    assert untold(LIFE, planned(), FAILED, REPORTED) == []


OCCASIONS = ["d7", "d3", "due", "t1", "t3", "t7", "t15", "t30"]


PAID = of_debt("repayment.paid.v1", "03-18T12:00", instalment=1, outstanding="0")
STOPPED = of_debt("debt.stopped.v1", "03-18T12:00", reason="disputed")


@pytest.mark.parametrize(
    ("log", "facts", "fault"),
    [
        (LIFE[:5], [PAID], "after_payment"),
        (LIFE[:5], [of_debt("repayment.paid.v1", "03-18T12:00")], "after_payment"),
        (LIFE[:5], [STOPPED], "after_stop"),
        (LIFE[:5], [fact("debt.stopped.v1", "03-18T12:00", reason="deceased")], "after_stop"),
        (LIFE[:5], [fact("borrower.opted_out.v1", "03-18T12:00")], "after_opting_out"),
        (LIFE[:5], [fact("borrower.opted_out.v1", "03-18T12:00", channel="sms")], "after_opting_out"),
        (LIFE[:5], [fact("borrower.preference_changed.v1", "03-18T12:00", channels=["push"])],
         "by_a_channel_he_does_not_want"),
        (LIFE[:5], [fact("borrower.preference_changed.v1", "03-18T12:00", times=[{"start": "16:00", "end": "19:00"}])],
         "outside_hours"),
        (LIFE[:5], [fact("borrower.contact_changed.v1", "03-18T12:00",
                         contacts=[{"channel": "sms", "address": "+8613955550001"}])], "to_an_old_address"),
        ([*LIFE[:4], call("03-18T12:00", "1", "9"), LIFE[4]], [], "after_the_key"),
        ([sent("03-09T12:30", "push")], [], "outside_hours"),  # half past seven there
        ([sent("03-10T01:00", "push")], [planned("03-09T23:00")], "outside_hours"),  # as they close
        ([sent("03-08T15:00", "push")], [], "no_such_day"),
        ([sent("03-12T15:00", "push")], [], "no_such_day"),  # four days before: neither seven nor three
        ([sent("03-09T15:00", "voice")], [], "no_such_day"),  # nobody is called a week before
        ([sent("03-16T15:00", "sms", OPEN)], [], "late_and_nobody_told_anything"),  # it failed in the morning
        ([sent("03-10T15:00", "push")], [], "late_and_nobody_told_anything"),
        ([*LIFE[:4], sent("03-19T14:00", "sms", overdue(4))], [], "says_another_day"),
        ([sent("03-09T15:00", "sms", BEFORE.replace("16", "17"))], [], "says_another_day"),
        ([sent("03-09T14:30", "push"), sent("03-09T18:30", "push", id="again")], [], "twice_by_one_channel"),
        ([sent("03-09T14:30", "push"), sent("03-10T14:30", "push", id="again")], [], "twice_by_one_channel"),
        ([sent("03-09T14:30", "push"), sent("03-09T15:30", "sms", BEFORE)], [], "second_without_a_failure"),
        ([sent("03-09T15:00", "push", to="somebody-else")], [], "to_nobody_we_know"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(log: list[dict[str, Any]], facts: list[dict[str, Any]], fault: str) -> None:
    assert verdict(log, planned(), FAILED, *facts) == [fault]


@pytest.mark.parametrize("name", OCCASIONS)
def test_what_nobody_was_told_is_found(name: str) -> None:
    left_out = OCCASIONS.index(name)
    log = [each for place, each in enumerate(LIFE) if place != left_out]
    if left_out == 0:
        log += [sent("03-03T15:00", "push", to=TOKEN)]  # the app is there
    assert untold(log, planned("03-01T08:00"), FAILED, REPORTED) == [name]


@pytest.mark.parametrize(
    "facts",
    [
        [of_debt("repayment.paid.v1", "03-18T12:00", instalment=1, outstanding="0")],
        [of_debt("repayment.paid.v1", "03-19T16:00", instalment=1, outstanding="0")],  # on the day itself
        [of_debt("debt.stopped.v1", "03-18T12:00", reason="disputed")],
        [fact("borrower.opted_out.v1", "03-18T12:00")],
        [fact("borrower.preference_changed.v1", "03-18T12:00", times=[{"start": "21:00", "end": "22:00"}])],
        [fact("borrower.contact_changed.v1", "03-18T12:00", contacts=[])],
    ],
)
def test_what_was_not_to_be_told_is_not_missed(facts: list[dict[str, Any]]) -> None:
    assert "t3" not in untold(LIFE[:4], planned(), FAILED, *facts)
    assert "t3" in untold(LIFE[:4], planned(), FAILED)


def test_what_is_merged_is_listed_or_missed() -> None:
    other = planned()
    other["data"] |= {"debt": "loan-2", "params": {"reference": "M-2"}}
    other["data"]["instalments"] = [{"number": 1, "due_date": "2027-03-20", "amount": "70.00"}]
    listing = overdue(15).replace(" Ref", " Also to be paid: $70.00 (20 March 2027). Pay: here. Ref")
    facts = (planned(), FAILED, other)
    # The other's t7 falls on the 27th, on which there is none of the first.
    assert untold([*LIFE[:6], sent("03-27T15:00", "sms", listing)], *facts).count("t7") == 0
    assert untold([*LIFE[:6], sent("03-27T15:00", "sms", overdue(11))], *facts).count("t7") == 1
    assert verdict([*LIFE[:6], sent("03-31T15:00", "sms", listing)], *facts) == []
    for wrong in (listing.replace("70.00", "71.00"), listing.replace("20 March", "21 March"),
                  listing.replace("(20 March 2027)", "(20 March 2027), $70.00 (20 March 2027)")):  # fmt: skip
        assert verdict([*LIFE[:6], sent("03-31T15:00", "sms", wrong)], *facts) == ["lists_what_is_not_owed"]
    settled = fact("repayment.paid.v1", "03-30T12:00", debt="loan-2")
    assert verdict([*LIFE[:6], sent("03-31T15:00", "sms", listing)], *facts, settled) == ["lists_what_is_not_owed"]


def test_what_is_told_is_what_is_owed() -> None:
    half = of_debt("repayment.paid.v1", "03-18T12:00", instalment=1, outstanding="50.00")
    assert verdict([sent("03-19T14:00", "sms", overdue(3))], planned(), FAILED, half) == ["says_another_amount"]
    said = overdue(3).replace("100.00", "50.00")
    assert verdict([sent("03-19T14:00", "sms", said)], planned(), FAILED, half) == []
    assert verdict([sent("03-19T14:00", "sms", said)], planned(), FAILED) == ["says_another_amount"]


def test_consequences_need_what_they_speak_of() -> None:
    assert verdict(LIFE, planned(), FAILED) == ["of_what_is_not_so"]
    withdrawn = of_debt("credit.reported.v1", "04-12T10:00", withdrawn=True)
    assert verdict(LIFE, planned(), FAILED, REPORTED, withdrawn) == ["of_what_is_not_so"]


def test_within_the_grace_nobody_is_called_late() -> None:
    assert verdict([sent("03-17T13:30", "push")], planned()) == []  # the due notice, a day later: no debit was told of
    assert verdict([sent("03-18T13:30", "push")], planned()) == ["no_such_day"]


@pytest.mark.parametrize("what", [PAID, STOPPED])
def test_what_is_told_at_the_moment_of_a_contact_may_be_later_than_it(what: dict[str, Any]) -> None:
    same = {**what, "time": LIFE[4]["at"]}
    assert verdict(LIFE[:5], planned(), FAILED, same) == []


def test_the_later_by_the_books_counts_in_whatever_order_it_is_told() -> None:
    early = of_debt("repayment.paid.v1", "03-18T12:00", as_of="03-17T12:00", instalment=1, outstanding="0")
    bounced = of_debt("repayment.paid.v1", "03-17T18:00", as_of="03-17T17:00", instalment=1, outstanding="100.00")
    assert verdict(LIFE[:5], planned(), FAILED, bounced, early) == []
    resumed = of_debt("debt.resumed.v1", "03-18T20:00", reason="disputed")
    assert verdict(LIFE[:5], planned(), FAILED, STOPPED, resumed) == []
    assert verdict(LIFE[:5], planned(), FAILED, STOPPED, {**resumed, "data": {**resumed["data"], "reason": "minor"}})


def test_a_debt_that_was_paid_as_a_whole_is_reopened_by_a_later_plan() -> None:
    whole, anew = of_debt("repayment.paid.v1", "03-18T12:00"), planned("03-18T18:00")
    assert verdict(LIFE[:5], planned(), FAILED, whole, anew) == []
    before_it = {**anew, "data": {**anew["data"], "as_of": "2027-03-18T11:00:00+00:00"}}
    assert verdict(LIFE[:5], planned(), FAILED, whole, before_it) == ["after_payment"]


def test_another_channel_may_follow_a_failure_or_the_silence_of_the_cadence() -> None:
    push, sms = sent("03-09T14:30", "push"), sent("03-09T21:00", "sms", BEFORE)
    assert verdict([push, sms], planned()) == []  # six hours
    assert verdict([push, receipt("03-09T14:40", push, "delivered"), sms], planned()) == ["second_without_a_failure"]
    at_once = [push, receipt("03-09T21:00", push, "delivered"), sms]
    assert verdict(at_once, planned()) == []  # it may have been told just after
    first, second = sent("03-31T15:00", "sms", overdue(15)), sent("03-31T15:10", "voice")
    failed = receipt("03-31T15:05", first, "undelivered")
    assert verdict([first, failed, second], planned(), FAILED) == []
    late = receipt("03-31T15:20", first, "undelivered")
    assert verdict([first, second, late], planned(), FAILED) == ["second_without_a_failure"]


def test_what_is_due_on_one_day_is_one_message() -> None:
    other = planned()
    other["data"] |= {"debt": "loan-2", "params": {"reference": "M-2"}}
    two = [sent("03-09T14:30", "push"), {**sent("03-09T15:30", "push", id="other"), "marker": "M-2"}]
    assert verdict(two, planned(), other) == ["second_message_of_a_day"]
    assert verdict(two, planned(), {**other, "time": "2027-03-09T15:00:00+00:00"}) == []
    assert verdict([*two, receipt("03-09T15:00", two[0], "failed")], planned(), other) == []


AGREED = fact("borrower.opted_in.v1", "03-01T08:00", program="education")
LESSON = {**sent("03-05T16:00", "push", "not happy with us?"), "marker": None}


def test_a_lesson_needs_consent_and_owing_something() -> None:
    early = planned("03-01T08:00")
    assert verdict([LESSON], early, AGREED) == []
    assert verdict([LESSON], early) == ["without_his_consent"]
    refused = fact("borrower.opted_out.v1", "03-04T08:00", program="education")
    assert verdict([LESSON], early, AGREED, refused) == ["after_opting_out"]
    assert verdict([LESSON], early, AGREED, fact("borrower.opted_out.v1", "03-04T08:00")) == ["after_opting_out"]
    assert verdict([LESSON], early, AGREED, of_debt("repayment.paid.v1", "03-04T08:00")) == ["after_payment"]
    assert verdict(LIFE[:5], early, FAILED, AGREED, refused) == []  # reminders are another program


@pytest.mark.parametrize("name", ["spot_fraud", "ask_for_help", "pay_early", "complain"])
def test_it_knows_every_lesson_by_its_text(name: str) -> None:
    text = Path(f"gateway/content/templates/{name}/education/en/push.j2").read_text()
    assert [each for each in words.LESSONS if words.teaches(text, each)] == [name]


def of_another(due: str) -> dict[str, Any]:
    other = planned("03-01T08:00", due=dt.date.fromisoformat(due))
    other["data"] |= {"debt": "loan-2", "params": {"reference": "M-2"}}
    return other


def test_lessons_are_told_apart_by_what_they_teach() -> None:
    """Of two debts, where what is due of both on one day may be another lesson of each."""
    days = [("03-06", "not happy with us?"), ("03-09", "good to know")]
    told = [{**sent(f"{day}T16:00", "push", text), "marker": None} for day, text in days]
    facts = [planned("03-01T08:00", due=dt.date(2027, 3, 14)), of_another("2027-03-19"), AGREED]
    found = verdict(told, *facts)
    assert "twice_by_one_channel" not in found
    assert "no_such_day" not in found
    assert verdict([{**LESSON, "text_or_template": "good to know"}], planned("03-01T08:00"), AGREED) == [
        "late_and_nobody_told_anything"
    ]


def test_a_lesson_is_told_once_however_many_debts_he_has() -> None:
    facts = [planned("03-01T08:00"), of_another("2027-03-19"), AGREED]
    again = {**LESSON, "at": "2027-03-08T16:00:00+00:00", "id": "again"}
    assert verdict([LESSON], *facts) == []
    assert verdict([LESSON, again], *facts) == ["twice_by_one_channel"]
    assert verdict([again], *facts) == []  # as that of the other


def test_a_lesson_gives_way_and_only_for_a_reason() -> None:
    early = planned("03-01T08:00")
    later = {**LESSON, "at": "2027-03-06T16:00:00+00:00"}
    late = {**LESSON, "at": "2027-03-07T16:00:00+00:00"}
    other = planned("03-01T08:00")
    other["data"] |= {"debt": "loan-2", "params": {"reference": "M-2"}}
    other["data"]["instalments"] = [{"number": 1, "due_date": "2027-03-12", "amount": "100.00"}]
    reminder = {**sent("03-05T15:00", "push"), "marker": "M-2"}
    facts = [early, AGREED, other]
    assert verdict([reminder, {**LESSON, "at": "2027-03-05T16:00:00+00:00"}], *facts) == ["second_message_of_a_day"]
    assert verdict([reminder, later], *facts) == []
    assert verdict([late], early, AGREED) == ["late_and_nobody_told_anything"]


def test_what_is_late_is_explained_by_what_was_told() -> None:
    found = judge.check([sent("03-10T15:00", "push")], [planned("03-10T14:50")], yaml.safe_load(CADENCE.read_text()))
    assert (found["violations"], found["late"]) == ([], {"after something was told": 1})


_ALONE = """
import json, sys
from gateway.dev.judge.__main__ import main
code = main(sys.argv[1:])
ours = ("gateway", "providers", "schemas", "tests")
print(json.dumps([each for each in sys.modules if each.partition(".")[0] in ours]))
sys.exit(code)
"""


def test_it_runs_by_itself_and_knows_nothing_of_ours(tmp_path: Path) -> None:
    log, facts = tmp_path / "log.jsonl", tmp_path / "facts.jsonl"
    log.write_text("".join(json.dumps(each) + "\n" for each in LIFE))
    facts.write_text("".join(json.dumps(each) + "\n" for each in (planned(), FAILED, PAID)))
    ran = subprocess.run([sys.executable, "-c", _ALONE, log, facts, CADENCE], capture_output=True, check=False)
    assert ran.returncode == 1
    first, loaded = map(json.loads, ran.stdout.splitlines())
    assert {each.rpartition(": ")[2] for each in first["violations"]} == {"after_payment", "of_what_is_not_so"}
    assert all(each in ("gateway", "gateway.dev") or each.startswith("gateway.dev.judge") for each in loaded)
