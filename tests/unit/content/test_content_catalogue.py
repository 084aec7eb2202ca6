"""The shipped templates, and what intake and dispatch ask of the catalogue."""

from __future__ import annotations

import datetime as dt
import json
import re
import unicodedata
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import schemas
from gateway.content import Catalogue, Encoding, Facts, Payment, Problem, Rendered, plain
from schemas.vocabulary import Channel, Rejection, Stage

CATALOGUE = Catalogue.load()
CHANNELS = tuple(Channel)
PARAMS = {"pay_url": "https://pay.harbour.example/r/7Kq2Xw", "help_phone": "400-000-1234", "reference": "M-000417"}
DUE = dt.date(2026, 11, 21)
TODAY = {
    Stage.D7: dt.date(2026, 11, 14),
    Stage.D3: dt.date(2026, 11, 18),
    Stage.DUE: DUE,
    Stage.OVERDUE_EARLY: dt.date(2026, 11, 22),
    Stage.OVERDUE_MID: dt.date(2026, 12, 5),
    Stage.OVERDUE_LATE: dt.date(2027, 2, 1),
}
FACTS = Facts(
    lender="Harbour",
    amount="1234.50",
    currency="CNY",
    due_date=DUE,
    as_of=dt.datetime(2026, 11, 18, 6, 0, tzinfo=dt.UTC),
    today=TODAY[Stage.D3],
    name="王小明",
    params=PARAMS,
)
REMINDS = [stage for stage in Stage if stage is not Stage.EDUCATION]
EVERYTHING = list(product(REMINDS, ("zh-CN", "en"), Channel))


def rendered(stage: Stage, locale: str, channel: Channel, **changes: Any) -> Rendered:
    name = "王小明" if locale == "zh-CN" else "Anna Keller"
    facts = replace(FACTS, **{"today": TODAY[stage], "name": name, **changes})
    made = CATALOGUE.render("repayment", stage, locale, channel, facts)
    assert isinstance(made, Rendered), made
    return made


@pytest.mark.parametrize(("stage", "locale", "channel"), EVERYTHING)
def test_every_text_names_the_lender_helps_and_lets_go(stage: Stage, locale: str, channel: Channel) -> None:
    made = rendered(stage, locale, channel)
    assert "Harbour" in (made.title or made.text)
    assert "M-000417" in made.text
    assert (made.title is not None) is (channel is Channel.PUSH)
    stop = {
        "sms": ("回复R", "STOP"),
        "push": ("关闭提醒", "turn reminders off"),
        "voice": ("不希望再接到", "stop these calls"),
    }
    assert stop[channel][locale == "en"] in made.text
    helps = "400-000-1234" if channel is not Channel.PUSH else ("客服", "need help")[locale == "en"]
    assert helps in made.text
    assert made.locale == locale
    assert made.template_version == CATALOGUE.versions["repayment"]
    assert re.fullmatch(r"2-[0-9a-f]{8}", made.template_version)


@pytest.mark.parametrize(("stage", "locale"), list(product(REMINDS, ("zh-CN", "en"))))
def test_an_sms_says_how_much_and_how_to_pay(stage: Stage, locale: str) -> None:
    made = rendered(stage, locale, Channel.SMS)
    assert "1,234.50" in made.text
    assert f" {PARAMS['pay_url']} " in made.text, "spaces keep a phone from taking the next character into the link"
    assert 2 <= made.segments <= 3
    assert ("截至" in made.text or "as of" in made.text) is (stage is Stage.DUE or stage.repeats)


# Written here and not taken from the lint's own list.
TELLING = re.compile(
    r"debt|loan|owe|overdue|repay|arrear|amount|欠|债|逾期|还款|贷|账单|催|1,234|CNY|元", re.IGNORECASE
)


@pytest.mark.parametrize(("stage", "locale"), list(product(REMINDS, ("zh-CN", "en"))))
@pytest.mark.parametrize("channel", [Channel.PUSH, Channel.VOICE])
def test_push_and_voice_tell_a_stranger_nothing(stage: Stage, locale: str, channel: Channel) -> None:
    made = rendered(stage, locale, channel)
    for value in (made.text, made.title or "", *made.slots.values()):
        assert not TELLING.search(value), value
        assert "https://" not in value
    assert set(made.slots) == {"lender", "name", "greeting", "opt_out", "help_phone", "reference"}
    if channel is Channel.VOICE:
        assert made.slots["name"] not in made.text
    assert (made.segments, made.encoding) == (0, None)


@pytest.mark.parametrize("lesson", ["spot_fraud", "ask_for_help", "pay_early", "complain"])
@pytest.mark.parametrize("locale", ["zh-CN", "en"])
def test_a_lesson_names_the_lender_and_lets_go_and_tells_a_stranger_nothing(lesson: str, locale: str) -> None:
    made = CATALOGUE.render(lesson, Stage.EDUCATION, locale, Channel.PUSH, FACTS)
    assert isinstance(made, Rendered)
    assert made.title is not None
    assert "Harbour" in made.title
    assert ("关闭提醒", "turn reminders off")[locale == "en"] in made.text
    assert not TELLING.search(made.text + made.title)


OTHERS = tuple(Payment(f"{n}00.5", "CNY", dt.date(2026, 12, n)) for n in range(1, 9))


@pytest.mark.parametrize(("stage", "locale"), list(product(REMINDS, ("zh-CN", "en"))))
def test_what_else_is_due_that_day_stands_in_the_same_message(stage: Stage, locale: str) -> None:
    shown = (
        "100.50元（2026年12月1日）、200.50元（2026年12月2日）",
        "CNY 100.50 (1 December 2026), CNY 200.50 (2 December",
    )
    made = rendered(stage, locale, Channel.SMS, also=OTHERS[:2])
    assert shown[locale == "en"] in made.text
    for channel in (Channel.PUSH, Channel.VOICE):
        assert "100.50" not in rendered(stage, locale, channel, also=OTHERS[:2]).text
    said = CATALOGUE.dialogue("repayment", stage, rendered(stage, locale, Channel.VOICE), _facts(stage, OTHERS[:2]))
    assert said is not None
    assert shown[locale == "en"] in said.debt
    assert "100.50" not in said.identity + said.discreet + said.ways


def _facts(stage: Stage, also: tuple[Payment, ...]) -> Facts:
    return replace(FACTS, today=TODAY[stage], also=also)


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
def test_what_does_not_fit_is_counted(locale: str) -> None:
    listed = rendered(Stage.D3, locale, Channel.SMS, also=OTHERS).slots["also"]
    assert isinstance(listed, str)
    assert len(listed) <= 120
    n = listed.count(".50")
    assert 0 < n < len(OTHERS)
    assert f"其余{len(OTHERS) - n}笔" in listed or f"{len(OTHERS) - n} more" in listed


def test_the_english_sms_stays_in_gsm7_and_counts_days() -> None:
    made = rendered(Stage.D3, "en", Channel.SMS, name="Anna Keller", currency="USD")
    assert made.encoding is Encoding.GSM7
    assert made.text.startswith("Harbour: Dear Anna Keller, ")
    assert "$1,234.50 is due on 21 November 2026, in 3 days." in made.text
    tomorrow = CATALOGUE.render("repayment", Stage.D3, "en", Channel.SMS, replace(FACTS, today=dt.date(2026, 11, 20)))
    assert isinstance(tomorrow, Rendered)
    assert "in 1 day." in tomorrow.text


def test_the_chinese_sms_reads_as_written() -> None:
    made = rendered(Stage.OVERDUE_MID, "zh-CN", Channel.SMS)
    assert made.text.startswith("【Harbour】王小明您好，截至11月18日06:00，您有一笔1,234.50元的还款已逾期14天，")
    assert made.encoding is Encoding.UCS2


def test_optional_slots_may_be_absent() -> None:
    for stage, locale, channel in EVERYTHING:
        made = rendered(stage, locale, channel, params={"pay_url": PARAMS["pay_url"]})
        assert "None" not in made.text
        assert "编号" not in made.text
        assert "Ref" not in made.text
        assert ("客服" in made.text) or ("app" in made.text)


@pytest.mark.parametrize("name", [None, "", "x" * 41, "two\nlines", "\u202eevil", "www.evil.example"])
def test_a_name_that_cannot_be_shown_gives_way_to_a_polite_greeting(name: str | None) -> None:
    assert "Dear customer" in rendered(Stage.D7, "en", Channel.SMS, name=name).text
    assert "尊敬的客户您好" in rendered(Stage.D7, "zh-CN", Channel.PUSH, name=name).text


@pytest.mark.parametrize(
    "name", ["Police Department", "法 院", "13800138000", "Li 138-0013", "４１５ 555", "D.e.a.d.b.e.a.t"]
)
def test_a_name_that_is_no_name_is_not_shown_on_any_channel(name: str) -> None:
    for channel in Channel:
        made = rendered(Stage.D7, "en", channel, name=name)
        assert name not in made.text
        assert made.slots["name"] == ""


def test_a_name_that_tells_of_a_debt_is_not_shown_where_others_may_read_it() -> None:
    assert "Dear Debt Holder" in rendered(Stage.D7, "en", Channel.SMS, name="Debt Holder").text
    for channel in (Channel.PUSH, Channel.VOICE):
        assert "Debt" not in rendered(Stage.D7, "en", channel, name="Debt Holder").text


@pytest.mark.parametrize(
    ("asked", "default", "expected"),
    [
        ("zh-CN", None, "zh-CN"),
        ("zh-cn", None, "zh-CN"),
        ("zh", None, "zh-CN"),
        ("zh-Hans-CN", None, "zh-CN"),
        ("en", None, "en"),
        ("en-US", None, "en"),
        ("en-Latn-GB-x-private", None, "en"),
        ("zh-TW", None, None),  # never silently simplified
        ("zh-Hant-HK", None, None),
        ("fr", None, None),  # never silently foreign
        ("", None, None),
        ("enx", None, None),
        ("fr", "en", "en"),
        ("zh-TW", "zh-CN", "zh-CN"),
        ("fr", "de", None),
    ],
)
def test_locales_fall_back_only_as_told(asked: str, default: str | None, expected: str | None) -> None:
    made = CATALOGUE.render("repayment", Stage.D3, asked, Channel.SMS, FACTS, default)
    problem = CATALOGUE.check("repayment", Stage.D3, asked, CHANNELS, PARAMS, default)
    if expected is None:
        assert made == problem == Problem(Rejection.UNKNOWN_LOCALE, "borrower.locale")
    else:
        assert isinstance(made, Rendered)
        assert made.locale == expected
        assert problem is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"template": "unheard"}, Problem(Rejection.UNKNOWN_TEMPLATE, "template")),
        ({"params": {}}, Problem(Rejection.BAD_PARAMS, "params.pay_url")),
        ({"params": {**PARAMS, "pay_url": "http://pay.example"}}, Problem(Rejection.BAD_PARAMS, "params.pay_url")),
        ({"params": {**PARAMS, "reference": "line\nbreak"}}, Problem(Rejection.BAD_PARAMS, "params.reference")),
        ({"params": {**PARAMS, "reference": "\u202eM-1"}}, Problem(Rejection.BAD_PARAMS, "params.reference")),
        ({"params": {**PARAMS, "reference": "evil.example"}}, Problem(Rejection.BAD_PARAMS, "params.reference")),
        ({"params": {**PARAMS, "reference": "x" * 21}}, Problem(Rejection.BAD_PARAMS, "params.reference")),
        ({"params": {**PARAMS, "reference": "法 院"}}, Problem(Rejection.BAD_PARAMS, "params.reference")),
        ({"params": {**PARAMS, "reference": "overdue"}}, Problem(Rejection.BAD_PARAMS, "params.reference")),
        ({"params": {**PARAMS, "help_phone": "call me"}}, Problem(Rejection.BAD_PARAMS, "params.help_phone")),
        ({"params": {**PARAMS, "zhang_san": "x"}}, Problem(Rejection.BAD_PARAMS, "params")),
        ({"params": {**PARAMS, "lender": "Other Bank"}}, Problem(Rejection.BAD_PARAMS, "params")),
        ({}, None),
    ],
)
def test_intake_learns_what_is_wrong(changes: dict[str, Any], expected: Problem | None) -> None:
    request = {"template": "repayment", "stage": Stage.D3, "locale": "en", "channels": CHANNELS, "params": PARAMS}
    assert CATALOGUE.check(**{**request, **changes}) == expected


@pytest.mark.parametrize(
    "reference", ["{{ lender }}", "{% for x in y %}", "{{ 7 * 7 }}", "{name}", "%(name)s", "{# x #}"]
)
def test_braces_in_a_value_are_only_braces(reference: str) -> None:
    params = {**PARAMS, "reference": reference}
    for channel in Channel:
        made = rendered(Stage.D3, "en", channel, params=params, name=reference)
        assert f"Ref {reference}." in made.text
        assert "49" not in made.text.replace(PARAMS["help_phone"], "")


@given(st.text(max_size=25))
def test_a_value_is_refused_by_both_or_shown_as_it_is(reference: str) -> None:
    params = {**PARAMS, "reference": reference}
    problem = CATALOGUE.check("repayment", Stage.D3, "zh-CN", CHANNELS, params)
    made = CATALOGUE.render("repayment", Stage.D3, "zh-CN", Channel.SMS, replace(FACTS, params=params))
    if problem:
        assert made == problem
    else:
        assert isinstance(made, Rendered)
        assert f"编号{plain(reference, 20)}。" in made.text
        assert unicodedata.is_normalized("NFC", made.text)
        assert len(made.text.splitlines()) == 1


@pytest.mark.parametrize(
    ("stage", "today"),
    [
        (Stage.D3, DUE),
        (Stage.D7, dt.date(2026, 12, 1)),
        (Stage.OVERDUE_EARLY, DUE),
        (Stage.OVERDUE_LATE, TODAY[Stage.D7]),
    ],
)
def test_a_text_never_counts_days_that_are_not_so(stage: Stage, today: dt.date) -> None:
    facts = replace(FACTS, today=today)
    assert CATALOGUE.render("repayment", stage, "en", Channel.SMS, facts) == Problem(
        Rejection.BAD_DATE, "debt.due_date"
    )


def test_an_amount_that_is_no_decimal_is_a_problem() -> None:
    facts = replace(FACTS, amount="1e3")
    assert CATALOGUE.render("repayment", Stage.D3, "en", Channel.SMS, facts) == Problem(
        Rejection.BAD_AMOUNT, "debt.amount"
    )


def test_slots_carry_the_shown_values_for_a_providers_own_template() -> None:
    slots = rendered(Stage.D3, "zh-CN", Channel.SMS).slots
    assert slots["amount"] == "1,234.50元"
    assert slots["due_date"] == "2026年11月21日"
    assert slots["days_left"] == 3
    assert slots["name"] == "王小明"
    assert "days_overdue" not in slots


def test_nothing_personal_shows_in_a_repr() -> None:
    shown = repr(FACTS) + repr(rendered(Stage.D3, "zh-CN", Channel.SMS)) + repr(rendered(Stage.D3, "en", Channel.PUSH))
    for secret in ("王小明", "1234", "1,234", "7Kq2Xw", "M-000417"):
        assert secret not in shown


def test_the_worked_examples_can_be_rendered() -> None:
    for path in (Path(schemas.__file__).parent / "examples").glob("reminder.requested.v1*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))["data"]
        channels = [Channel(contact["channel"]) for contact in data["contacts"]]
        stage, locale = Stage(data["stage"]), data["borrower"]["locale"]
        assert CATALOGUE.check(data["template"], stage, locale, channels, data["params"]) is None
