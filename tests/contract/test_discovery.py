"""Adapters are found, ours and third parties'; what they declare is consistent; they are pure."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

import providers
from providers import catalog
from providers.contract import Adapter, ProviderSettings, Refused
from schemas.vocabulary import Channel
from tests.contract.case import ADAPTERS, Case

SOURCES = sorted(Path(providers.__file__).parent.rglob("*.py"))
# What an adapter may import: values, parsing, cryptography.  Nothing that could tell the time, sleep, log or connect.
PURE = {
    "__future__", "base64", "collections", "cryptography", "dataclasses", "datetime", "email", "enum", "functools",
    "hashlib", "hmac", "jwt", "msgspec", "providers", "pydantic", "re", "schemas", "types", "typing", "urllib",
    "xml",
}  # fmt: skip
THIRD_PARTY = """
from providers.contract import Adapter
from schemas.vocabulary import Channel

class Pigeon(Adapter):
    name = "{name}"
    channel = Channel.SMS

ADAPTER = Pigeon()
"""


def install(root: Path, monkeypatch: pytest.MonkeyPatch, module: str, source: str, target: str = "ADAPTER") -> None:
    """A distribution as pip would leave it: a module, and metadata that names an entry point."""
    (root / f"{module}.py").write_text(source)
    info = root / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{catalog.ENTRY_POINT_GROUP}]\n{module} = {module}:{target}\n")
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()


# One module each, in a directory for its channel.
OURS = sorted(path.stem for path in SOURCES if path.parent.name in set(Channel) and not path.stem.startswith("_"))


def test_ours_are_found_in_order() -> None:
    assert OURS == ["aliyun_sms", "aliyun_voice", "fcm", "twilio_sms", "twilio_voice"]
    assert list(catalog.discover()) == OURS


def test_a_third_partys_adapter_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "acme_pigeon", THIRD_PARTY.format(name="pigeon"))
    found = catalog.discover()
    assert list(found) == sorted([*OURS, "pigeon"])
    assert isinstance(found["pigeon"], Adapter)
    assert found["pigeon"].channel is Channel.SMS


def test_two_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "acme_impostor", THIRD_PARTY.format(name="fcm"))
    with pytest.raises(ValueError, match="two adapters are named 'fcm'"):
        catalog.discover()


def test_what_is_no_adapter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "acme_class", THIRD_PARTY.format(name="pigeon"), target="Pigeon")
    with pytest.raises(ValueError, match="is not an Adapter"):
        catalog.discover()


def test_a_nameless_adapter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "acme_nameless", THIRD_PARTY.replace('name = "{name}"', "pass"))
    with pytest.raises(ValueError, match="no name"):
        catalog.discover()


def test_the_suite_covers_every_adapter_found() -> None:
    assert set(catalog.discover()) == set(ADAPTERS)


def test_declarations_are_consistent(case: Case) -> None:
    adapter = case.adapter
    module = importlib.import_module(type(adapter).__module__)
    assert case.name == adapter.name
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,31}", adapter.name), "the name is a route, a key and a metric label"
    assert module.__name__ == f"providers.{adapter.channel}.{adapter.name}", "one file per provider, named after it"
    assert issubclass(adapter.settings_type, ProviderSettings)
    assert adapter.settings_type is not ProviderSettings
    assert adapter.settings_type.model_config["frozen"]
    assert adapter.settings_type.model_config["extra"] == "forbid"
    assert adapter.settings_type.model_config["hide_input_in_errors"]
    assert hash(case.configure()) == hash(case.configure())
    assert case.message.channel is adapter.channel
    own = vars(type(adapter))
    assert ("verify_callback" in own) == ("parse_callback" in own)
    assert ("token_request" in own) == ("parse_token" in own) == adapter.needs_token
    assert adapter.signs_callbacks <= ("verify_callback" in own)
    assert adapter.receipts <= ("parse_callback" in own)
    assert adapter.needs_sign <= adapter.needs_template
    assert adapter.alerts <= {outcome.code for _, outcome in case.answers if isinstance(outcome, Refused)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_adapters_are_pure(path: Path) -> None:
    """By their imports, and by never asking for the time.  The catalogue alone looks around."""
    tree = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = PURE | ({"importlib", "pkgutil"} if path.name == "catalog.py" else set())
    assert {name.partition(".")[0] for name in imported} <= allowed
    assert not {name for name in imported if name.startswith(("urllib.request", "urllib.error"))}
    assert {name for name in imported if name.startswith("xml")} <= {"xml.sax.saxutils"}, "escaping only"
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"utcnow", "today", "now_utc", "print", "open", "urandom", "sleep", "getLogger"}
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not {call for call in calls if call.endswith(".now")}
