"""A call tells of a debt only to who has said that it is him."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.content import DEFAULT_TEMPLATES, Catalogue, Dialogue, Facts, Rendered, TemplateError
from gateway.content.dialogue import Said, Step, answer, choice, opening
from schemas.vocabulary import Channel, Choice, Stage

LINES = Dialogue(
    "en", "IDENTITY", "DISCREET", "DEBT", "WAYS", "MENU", "NOT-ME", "CALL-BACK", "STOPPED", "GOODBYE",
)  # fmt: skip
SECRET = ("DEBT", "WAYS", "MENU")
KEYS = st.sampled_from(["", "0", "1", "2", "3", "9", "*", "#", "11", "19"])
CATALOGUE = Catalogue.load()
FACTS = Facts(
    lender="示例银行",
    amount="1234.50",
    currency="CNY",
    due_date=dt.date(2026, 3, 2),
    as_of=dt.datetime(2026, 3, 4, 9, 0, tzinfo=dt.UTC),
    today=dt.date(2026, 3, 4),
    name="张三",
    params={"pay_url": "https://pay.example.com/x", "help_phone": "400-000-1234"},
)


def rendered(stage: Stage, locale: str, facts: Facts = FACTS, catalogue: Catalogue = CATALOGUE) -> Rendered:
    found = catalogue.render("repayment", stage, locale, Channel.VOICE, facts)
    assert isinstance(found, Rendered)
    return found


def dialogue(stage: Stage, locale: str, facts: Facts = FACTS) -> Dialogue | None:
    return CATALOGUE.dialogue("repayment", stage, rendered(stage, locale, facts), facts)


# --- the way through a call -----------------------------------------------------------------------------------------


@given(st.lists(KEYS, max_size=8))
def test_whatever_is_pressed_nothing_is_told_before_the_listener_has_confirmed(keys: list[str]) -> None:
    said, confirmed = opening(LINES), False
    for key in keys:
        assert confirmed or not any(word in said.text for word in SECRET)
        if said.step is None:
            break
        # What `confirmed` means is written here once more, and not asked of the code.
        confirmed = confirmed or (said.text == "IDENTITY" and key == "1")
        said = answer(LINES, said.step, key)
    assert confirmed or not any(word in said.text for word in SECRET)


@given(st.lists(KEYS, min_size=12, max_size=12))
def test_a_call_ends_unless_somebody_keeps_asking_for_the_ways_to_pay(keys: list[str]) -> None:
    said, asked = opening(LINES), 0
    for key in keys:
        if said.step is None:
            assert said.keys == ""
            return
        asked += choice(said.step, key) is Choice.WAYS_TO_PAY
        said = answer(LINES, said.step, key)
    assert asked > 3


@pytest.mark.parametrize(
    ("step", "key", "expected", "chosen"),
    [
        (Step.IDENTITY, "1", Said("DEBT MENU", "en", "129", Step.MENU), Choice.CONFIRMED),
        (Step.IDENTITY, "2", Said("NOT-ME", "en"), Choice.NOT_ME),
        (Step.IDENTITY, "9", Said("IDENTITY", "en", "12", Step.IDENTITY_AGAIN), Choice.OTHER),
        (Step.IDENTITY, "", Said("IDENTITY", "en", "12", Step.IDENTITY_AGAIN), Choice.SILENT),
        (Step.IDENTITY_AGAIN, "1", Said("DEBT MENU", "en", "129", Step.MENU), Choice.CONFIRMED),
        # A machine presses nothing: it keeps what may be heard by anybody.
        (Step.IDENTITY_AGAIN, "", Said("DISCREET", "en"), Choice.SILENT),
        (Step.MENU, "1", Said("WAYS MENU", "en", "129", Step.MENU), Choice.WAYS_TO_PAY),
        (Step.MENU, "2", Said("CALL-BACK", "en"), Choice.CALL_BACK),
        (Step.MENU, "9", Said("STOPPED", "en"), Choice.STOP),
        (Step.MENU, "5", Said("MENU", "en", "129", Step.MENU_AGAIN), Choice.OTHER),
        (Step.MENU, "", Said("MENU", "en", "129", Step.MENU_AGAIN), Choice.SILENT),
        (Step.MENU_AGAIN, "2", Said("CALL-BACK", "en"), Choice.CALL_BACK),
        (Step.MENU_AGAIN, "", Said("GOODBYE", "en"), Choice.SILENT),
        ("somewhere", "1", Said("GOODBYE", "en"), Choice.OTHER),
        (None, "9", Said("GOODBYE", "en"), Choice.OTHER),
    ],
)
def test_each_key(step: str | None, key: str, expected: Said, chosen: Choice) -> None:
    assert answer(LINES, step, key) == expected
    assert choice(step, key) is chosen


def test_a_dialogue_shows_nothing_of_itself() -> None:
    assert repr(LINES) == "Dialogue(en, ...)"


# --- the words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
@pytest.mark.parametrize("stage", [each for each in Stage if each is not Stage.EDUCATION])
def test_every_stage_and_locale_has_its_call(stage: Stage, locale: str) -> None:
    due = dt.date(2026, 3, 2) if stage not in (Stage.D7, Stage.D3) else dt.date(2026, 3, 9)
    facts = replace(FACTS, due_date=due)
    made = dialogue(stage, locale, facts)
    assert made is not None
    assert "1,234.50" in made.debt
    assert "400-000-1234" in made.ways
    assert made.discreet == rendered(stage, locale, facts).text
    for line in (made.identity, made.discreet, made.not_me, made.goodbye):
        assert "1,234.50" not in line
    assert "示例银行" in made.identity
    assert "张三" in made.identity
    assert len("".join(msgspec.structs.astuple(made))) < 1500, "TwiML takes 4000 characters"


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, name=None),  # nobody to ask for
        replace(FACTS, name="张三 13900001234"),  # a name that is rather a number
        replace(FACTS, due_date=dt.date(2026, 3, 5)),  # overdue, and due tomorrow
        replace(FACTS, amount="a lot"),
    ],
)
def test_what_cannot_be_asked_or_would_not_be_true_stays_discreet(facts: Facts) -> None:
    assert dialogue(Stage.OVERDUE_EARLY, "en", facts) is None


def test_a_template_without_a_dialogue_has_none(tmp_path: Path) -> None:
    shutil.copytree(DEFAULT_TEMPLATES, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("voice.*.j2"):
        path.unlink()
    edit(tmp_path, "repayment/template.yaml", lambda text: text.replace("dialogue: true", ""))
    catalogue = Catalogue.load(tmp_path)
    made = rendered(Stage.DUE, "en", FACTS, catalogue)
    assert catalogue.dialogue("repayment", Stage.DUE, made, FACTS) is None


# --- what does not load ---------------------------------------------------------------------------------------------


def edit(root: Path, name: str, change: Callable[[str], str]) -> None:
    path = root / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


DEBT, WAYS = "repayment/due/en/voice.debt.j2", "repayment/due/en/voice.ways.j2"


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (DEBT, lambda text: text + "{{ pay_url }}", f"{DEBT}: pay_url is a link and cannot be said"),
        (DEBT, lambda text: text.replace("{{ amount }}", "{{ sum }}"), f"{DEBT}: no slot is called sum"),
        (DEBT, lambda text: "{{ days_left }} " + text, f"{DEBT}: days_left is never known at due"),
        (WAYS, lambda text: "Or else! " + text, f"{WAYS}: uses words that are not allowed (threat)"),
        (
            WAYS,
            lambda text: "{% if reference %}{{ reference }}{% endif %}",
            f"{WAYS}: is empty when optional slots are",
        ),
        (
            "locales.yaml",
            lambda text: text.replace("Are you {name}?", "Is it about your loan, {name}?"),
            "locales.yaml: en: call.identity uses words that are not allowed (telling)",
        ),
        (
            "locales.yaml",
            lambda text: text.replace("Are you {name}?", "Are you there?"),
            "locales.yaml: en: call.identity must say {name}",
        ),
        (
            "locales.yaml",
            lambda text: text.replace("Are you {name}?", "Are you {name}, {whoever}?"),
            "locales.yaml: en: call.identity is not a pattern of its own placeholders",
        ),
        (
            "locales.yaml",
            lambda text: text.replace("For no more reminders, press 9.", ""),
            "locales.yaml: en: call.menu does not name key 9",
        ),
        (
            "repayment/template.yaml",
            lambda text: text.replace("dialogue: true", "dialogue: false"),
            f"{DEBT}: is for a stage, locale or channel that template.yaml does not list",
        ),
    ],
)
def test_one_fault(tmp_path: Path, name: str, change: Callable[[str], str], problem: str) -> None:
    shutil.copytree(DEFAULT_TEMPLATES, tmp_path, dirs_exist_ok=True)
    edit(tmp_path, name, lambda text: change(text.strip()) + "\n")
    with pytest.raises(TemplateError) as caught:
        Catalogue.load(tmp_path)
    assert problem in caught.value.problems


def test_a_missing_text_is_named(tmp_path: Path) -> None:
    shutil.copytree(DEFAULT_TEMPLATES, tmp_path, dirs_exist_ok=True)
    (tmp_path / WAYS).unlink()
    with pytest.raises(TemplateError) as caught:
        Catalogue.load(tmp_path)
    assert caught.value.problems == [f"{WAYS}: is missing"]


def test_a_locale_without_lines_for_calls_is_named(tmp_path: Path) -> None:
    shutil.copytree(DEFAULT_TEMPLATES, tmp_path, dirs_exist_ok=True)
    edit(tmp_path, "locales.yaml", lambda text: text[: text.rindex("  call:")])
    with pytest.raises(TemplateError) as caught:
        Catalogue.load(tmp_path)
    assert "locales.yaml: en: call has no lines for a dialogue" in caught.value.problems
