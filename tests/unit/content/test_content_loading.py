"""A template set that could say something wrong does not load, and every problem is told at once."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.content import DEFAULT_TEMPLATES, Catalogue, Facts, Problem, Rendered, TemplateError
from schemas.vocabulary import Channel, Rejection, Stage

SPEC = """
version: 3
stages: [d3]
channels: [sms, push, voice]
locales: [en]
max_segments: 8
slots:
  pay_url: {type: url, max_length: 60}
  reference: {type: text, max_length: 20, optional: true}
"""
FILES = {
    "notice/template.yaml": SPEC,
    "notice/d3/en/sms.j2": "{{lender}} {{ amount }} in {{ days_left }} days. {{pay_url}} {{ reference }} {{opt_out}}\n",
    "notice/d3/en/push.j2": "{{ lender }}\n---\n{{ greeting }}, see the app. {{ opt_out }}\n",
    "notice/d3/en/voice.j2": "Hello from {{ lender }}. {{ opt_out }}\n",
}
SMS, PUSH, VOICE = (f"notice/d3/en/{channel}.j2" for channel in ("sms", "push", "voice"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copy(DEFAULT_TEMPLATES / "locales.yaml", tmp_path)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def problems(root: Path) -> list[str]:
    with pytest.raises(TemplateError) as caught:
        Catalogue.load(root)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def edit(root: Path, name: str, change: Callable[[str], str]) -> None:
    path = root / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def test_the_small_set_loads(root: Path) -> None:
    catalogue = Catalogue.load(root)
    assert catalogue.check("notice", Stage.D3, "en", tuple(Channel), {"pay_url": "https://a.example/x"}) is None
    assert catalogue.check("notice", Stage.D7, "en", (), {"pay_url": "https://a.example/x"}) is not None


def test_the_version_follows_the_files(root: Path) -> None:
    before = Catalogue.load(root).versions
    assert Catalogue.load(root).versions == before
    edit(root, VOICE, lambda text: text.replace("Hello", "Good day"))
    after = Catalogue.load(root).versions
    assert before["notice"].startswith("3-")
    assert after["notice"].startswith("3-")
    assert before != after


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        (SMS, "{{lender}}", "Bank", f"{SMS}: must say lender"),
        (SMS, "{{opt_out}}", "", f"{SMS}: must say opt_out"),
        (SMS, "{{ reference }}", "{{ secret }}", f"{SMS}: no slot is called secret"),
        (SMS, "in {{ days_left }}", "{{ days_overdue }}", f"{SMS}: days_overdue is never known at d3"),
        (SMS, "days.", "days or the police come.", f"{SMS}: uses words that are not allowed (authority)"),
        (SMS, "days.", "days, j.a.i.l follows.", f"{SMS}: uses words that are not allowed (false_effect)"),
        (SMS, "days.", "days, 法{{ reference }}院.", f"{SMS}: uses words that are not allowed (authority)"),
        (SMS, "days.", "days, {{ '法' }}院.", f"{SMS}: uses words that are not allowed (authority)"),
        (SMS, "days.", "{% if days_left > 9 %}jail{% endif %}", f"{SMS}: uses words that are not allowed (false_"),
        (SMS, "days.", "{% if days_left == 5 %}jail{% endif %}", f"{SMS}: uses words that are not allowed (false_"),
        (SMS, "days.", "{{ 'or else' if days_left == 5 }}", f"{SMS}: uses words that are not allowed (threat)"),
        (SMS, "days.", "x" * 500, f"{SMS}: can take 11 segments, more than max_segments 8"),
        (SMS, "days.", "days\n\n", f"{SMS}: must be one line of text"),
        (SMS, "{{ amount }}", "{{ amount", f"{SMS}: line 1: expected token"),
        (SMS, "days.", "{% if amount > 5 %}x{% endif %}", f"{SMS}: compares what cannot be compared"),
        (PUSH, "{{ lender }}\n", "{{ reference }}\n", f"{PUSH}: is empty when optional slots are"),
        (SMS, "{{ amount }}", "{{ amount|upper }}", f"{SMS}: line 1: Filter is not allowed"),
        (SMS, "{{ amount }}", "{{ amount.x }}", f"{SMS}: line 1: Getattr is not allowed"),
        (SMS, "{{ amount }}", "{{ amount[0] }}", f"{SMS}: line 1: Getitem is not allowed"),
        (SMS, "{{ amount }}", "{{ amount() }}", f"{SMS}: line 1: Call is not allowed"),
        (SMS, "{{ amount }}", "{% for x in amount %}{% endfor %}", f"{SMS}: line 1: For is not allowed"),
        (SMS, "{{ amount }}", "{% set x = 1 %}", f"{SMS}: line 1: Assign is not allowed"),
        (SMS, "{{ amount }}", "{% include 'x' %}", f"{SMS}: line 1: Include is not allowed"),
        (SMS, "{{ amount }}", "{{ 'x' * 999999999 }}", f"{SMS}: line 1: Mul is not allowed"),
        (PUSH, "see", "{{ also }} see", f"{PUSH}: also tells of a debt and may not stand in a push"),
        (PUSH, "see", "{{ amount }} see", f"{PUSH}: amount tells of a debt and may not stand in a push"),
        (PUSH, "{{ lender }}\n", "{{ lender }} {{ due_date }}\n", f"{PUSH}: due_date tells of a debt"),
        (PUSH, "see", "{{ pay_url }} see", f"{PUSH}: pay_url tells of a debt"),
        (PUSH, "see", "your loan, see", f"{PUSH}: uses words that are not allowed (telling)"),
        (PUSH, "\n---\n", " ", f"{PUSH}: a push needs a title"),
        (PUSH, "{{ lender }}\n", "{{ lender }}{{ name }}\n---\n", f"{PUSH}: must be one line of text"),
        (VOICE, "Hello", "{{ days_left }}", f"{VOICE}: days_left tells of a debt and may not stand in a voice"),
        (VOICE, "Hello", "逾期", f"{VOICE}: uses words that are not allowed (telling)"),
        (VOICE, "Hello", "\n---\nHello", f"{VOICE}: a push needs a title"),
        ("notice/template.yaml", "version: 3", "version: 0", "notice/template.yaml: Expected `int` >= 1"),
        ("notice/template.yaml", "version: 3", "", "notice/template.yaml: Object missing required field `version`"),
        ("notice/template.yaml", "[d3]", "[d4]", "notice/template.yaml: Invalid enum value 'd4' - at `$.stages[0]`"),
        ("notice/template.yaml", "url,", "html,", "notice/template.yaml: Invalid enum value 'html'"),
        ("notice/template.yaml", "slots:", "slot:", "notice/template.yaml: Object contains unknown field `slot`"),
        ("notice/template.yaml", "slots:", "slots: [", "notice/template.yaml: "),
        ("notice/template.yaml", "[en]", "[en, fr]", "notice/template.yaml: locale fr is not in locales.yaml"),
        ("notice/template.yaml", "[en]", "[en, zh-CN]", "notice/d3/zh-CN/sms.j2: is missing"),
        ("notice/template.yaml", "  reference:", "  lender:", "notice/template.yaml: slot lender is built in"),
        (SMS, "{{ reference }}", "", "notice/template.yaml: slot reference is used by no text"),
        ("locales.yaml", '"{day} {month} {year}"', '"{week}"', "locales.yaml: en: date is not a pattern"),
        ("locales.yaml", '"Dear {name}"', '"Dear {name.x}"', "locales.yaml: en: greeting is not a pattern"),
        ("locales.yaml", '"£{number}"', '"£{"', "locales.yaml: en: amounts.GBP is not a pattern"),
        ("locales.yaml", "January, ", "", "locales.yaml: "),
        ("locales.yaml", 'voice: "To stop these calls, ', 'x: "', "locales.yaml: Invalid enum value 'x'"),
        ("locales.yaml", '    voice: "To', '    # "', "locales.yaml: en: opt_out has no words for voice"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_file(root: Path, name: str, old: str, new: str, problem: str) -> None:
    assert old in (root / name).read_text(encoding="utf-8")
    edit(root, name, lambda text: text.replace(old, new, 1))
    assert any(line.startswith(problem) for line in problems(root)), problems(root)


def test_all_problems_come_at_once(root: Path) -> None:
    edit(root, SMS, lambda text: text + "police")
    (root / PUSH).unlink()
    (root / VOICE).write_bytes(b"\xff\xfe")
    (root / "notice/d7/en").mkdir(parents=True)
    (root / "notice/d7/en/sms.j2").write_text("{{ lender }} {{ opt_out }}", encoding="utf-8")
    assert sorted(problems(root)) == [
        "notice/d3/en/push.j2: is missing",
        "notice/d3/en/sms.j2: must be one line of text",
        "notice/d3/en/voice.j2: is not UTF-8",
        "notice/d7/en/sms.j2: is for a stage, locale or channel that template.yaml does not list",
    ]


def test_an_empty_folder_is_a_problem(tmp_path: Path) -> None:
    assert problems(tmp_path) == ["locales.yaml: is missing"]
    shutil.copy(DEFAULT_TEMPLATES / "locales.yaml", tmp_path)
    assert problems(tmp_path) == ["no template: */template.yaml is missing"]


def test_a_lenders_own_words_are_added_to_the_seed(root: Path) -> None:
    (root / "wording.yaml").write_text("forbidden: {house: {en: [app]}}", encoding="utf-8")
    assert f"{PUSH}: uses words that are not allowed (house)" in problems(root)
    (root / "wording.yaml").write_text("forbiden: {}", encoding="utf-8")
    assert any(line.startswith("wording.yaml: Object contains unknown field") for line in problems(root))


def test_what_else_is_due_needs_words_for_it(root: Path) -> None:
    edit(root, SMS, lambda text: text.replace("days.", "days. {{ also }}"))
    edit(root, "locales.yaml", lambda text: "".join(line for line in text.splitlines(True) if "others:" not in line))
    assert f"{SMS}: also cannot be said: the locale has no words for other payments" in problems(root)


def test_the_shipped_limit_is_the_least_that_holds(tmp_path: Path) -> None:
    root = tmp_path / "templates"
    shutil.copytree(DEFAULT_TEMPLATES, root)
    edit(root, "repayment/template.yaml", lambda text: text.replace("max_segments: 10", "max_segments: 9"))
    assert all("can take 10 segments, more than max_segments 9" in line for line in problems(root))


def test_a_text_that_grows_on_a_branch_no_trial_takes_is_not_sent(root: Path) -> None:
    edit(root, SMS, lambda text: text.replace("days.", "{% if days_left == 5 %}" + "x" * 1400 + "{% endif %}"))
    catalogue = Catalogue.load(root)
    params = {"pay_url": "https://a.example/x"}
    due = dt.date(2026, 11, 21)
    as_of = dt.datetime(2026, 11, 16, tzinfo=dt.UTC)
    facts = Facts("Harbour", "1", "USD", due, as_of, today=dt.date(2026, 11, 17), params=params)
    assert isinstance(catalogue.render("notice", Stage.D3, "en", Channel.SMS, facts), Rendered)
    fifth = replace(facts, today=dt.date(2026, 11, 16))
    assert catalogue.render("notice", Stage.D3, "en", Channel.SMS, fifth) == Problem(Rejection.BAD_PARAMS, "params")
