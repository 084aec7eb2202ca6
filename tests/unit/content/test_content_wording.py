"""The wording lint finds its words however they are dressed up, and leaves innocent ones alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.content.wording import SEED, WordLists, Words, compile_words, read_lists

LISTS = read_lists(SEED)
FORBIDDEN, TELLING = compile_words([LISTS])
SEEDED = [
    (label, word.removesuffix("*"))
    for label, languages in LISTS.forbidden.items()
    for words in languages.values()
    for word in words
]


@pytest.mark.parametrize(("label", "word"), SEEDED)
def test_every_seed_word_is_found_in_disguise(label: str, word: str) -> None:
    wide = "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in word)
    for disguise in (word, word.upper(), " ".join(word), "-".join(word), word.replace(" ", " \u3000"), wide):
        assert FORBIDDEN.find(f"请 {disguise}, please") == label, disguise
        assert TELLING.find(disguise) == label


@pytest.mark.parametrize(
    "innocent",
    ["warranty", "floor elsewhere", "a surprise", "enterprize", "we allowed it", "a follower", "法定", "公平安全"],
)
def test_innocent_words_pass(innocent: str) -> None:
    assert FORBIDDEN.find(innocent) is None
    assert TELLING.find(innocent) is None


@pytest.mark.parametrize("word", ["overdue", "Past due", "your loans", "a debtor", "逾 期", "欠款", "还款"])
def test_telling_words_are_only_refused_where_others_may_read(word: str) -> None:
    assert FORBIDDEN.find(word) is None
    assert TELLING.find(word) == "telling"


def test_a_lender_can_only_add() -> None:
    more = WordLists(forbidden={"mine": {"fr": ["huissier*"]}}, telling={"fr": ["dette"]})
    forbidden, telling = compile_words([LISTS, more])
    assert forbidden.find("les huissiers") == "mine"
    assert telling.find("votre dette") == "telling"
    assert forbidden.find("police") == "authority"


def test_no_words_find_nothing() -> None:
    assert Words([]).find("anything") is None


def test_a_word_that_would_match_everything_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wording.yaml"
    path.write_text("telling: {en: ['*']}", encoding="utf-8")
    with pytest.raises(msgspec.ValidationError):
        read_lists(path)
