"""What the documents name is there: each key of the configuration, each file and heading that a link leads to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from pydantic import BaseModel

from gateway.config import Config

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("helm/**/*.md")]


def test_every_key_has_its_row() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+)`|[.`]([a-z_]+)`", page))
    words = {word for pair in named for word in pair}
    for key in keys(Config):
        assert key in words, key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file that exists and, in a page, to a heading of it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            name, _, heading = link.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), link
            assert not heading or heading in headings(file), link


def headings(page: Path) -> set[str]:
    """As links name them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in found}


def keys(section: type[BaseModel]) -> set[str]:
    """The last part of every key."""
    found: set[str] = set()
    for name, field in section.model_fields.items():
        below = [each for each in (field.annotation, *get_args(field.annotation)) if is_section(each)]
        found |= set().union(*map(keys, below)) if below else {name}
    return found - {"base_url", "code", "sign", "params"}  # of an adapter, and of a template mapping


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
