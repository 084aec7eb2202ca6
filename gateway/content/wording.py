"""Words that may never stand in a message, and words too telling for a locked screen or for whoever picks up.

A seed list: the lender's counsel extends it with a `wording.yaml` beside the templates.  It can only grow.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

SEED: Final = Path(__file__).with_name("wording.yaml")

# Written out, or as the beginning of a word with a final `*`.
_Word = Annotated[str, Meta(pattern=r"^\w[^*]*\*?$")]


class WordLists(Struct, frozen=True, forbid_unknown_fields=True):
    """The file: `forbidden` by class of harm and language, `telling` by language."""

    forbidden: dict[str, dict[str, list[_Word]]] = {}
    telling: dict[str, list[_Word]] = {}


@dataclass(frozen=True, slots=True)
class _Rule:
    label: str
    letters: str
    pattern: re.Pattern[str] | None  # None where the letters alone decide


class Words:
    """A list ready to search.  A word is found however it is spaced, punctuated, widened or capitalised."""

    def __init__(self, entries: list[tuple[str, str]]) -> None:
        """`entries` are (label, word)."""
        self._rules = [_rule(label, word) for label, word in entries]
        # One pass over the letters clears nearly every value; the rules only look at what is left.
        self._suspect = re.compile("|".join(re.escape(rule.letters) for rule in self._rules) or "(?!)").search

    def find(self, text: str) -> str | None:
        """The label of the first rule that `text` breaks, or None."""
        folded = unicodedata.normalize("NFKC", text).casefold()
        letters = "".join(filter(str.isalnum, folded))
        if not self._suspect(letters):
            return None
        for rule in self._rules:
            if rule.letters in letters and (rule.pattern is None or rule.pattern.search(folded)):
                return rule.label
        return None


def compile_words(lists: list[WordLists]) -> tuple[Words, Words]:
    """(never allowed, not allowed on push and voice); the second holds the first."""
    forbidden = [
        (label, word)
        for each in lists
        for label, languages in each.forbidden.items()
        for words in languages.values()
        for word in words
    ]
    telling = [("telling", word) for each in lists for words in each.telling.values() for word in words]
    return Words(forbidden), Words([*forbidden, *telling])


def read_lists(path: Path) -> WordLists:
    """Raises msgspec.DecodeError or msgspec.ValidationError; the message names the place."""
    return msgspec.yaml.decode(path.read_bytes(), type=WordLists)


def _rule(label: str, word: str) -> _Rule:
    stem = unicodedata.normalize("NFKC", word.removesuffix("*")).casefold()
    letters = "".join(filter(str.isalnum, stem))
    if not stem.isascii():
        return _Rule(label, letters, None)  # written without spaces, so there are no word boundaries to respect
    spaced = r"[\W_]*".join(re.escape(letter) for letter in letters)
    end = "" if word.endswith("*") else r"(?![a-z])"
    return _Rule(label, letters, re.compile(rf"(?<![a-z]){spaced}{end}"))
