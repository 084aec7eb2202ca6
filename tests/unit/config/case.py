"""A valid configuration to spoil, and adapters of the tests' own that differ where it matters."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, field_validator

from gateway.config import Config, ConfigError, Problem, load
from providers.contract import Adapter, ProviderSettings, Secret
from schemas.vocabulary import Channel


class Nested(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    inner: Secret | None = None


class TextSettings(ProviderSettings):
    account: str
    key: Secret
    older: tuple[Secret, ...] = ()
    by_name: dict[str, Secret] = {}  # noqa: RUF012  pydantic copies it
    nested: Nested | None = None
    limit: int = 1

    @field_validator("account")
    @classmethod
    def _talkative(cls, account: str) -> str:
        if account.startswith("bad"):
            raise ValueError(f"no such account: {account}")
        return account


class Text(Adapter):
    name = "text"
    channel = Channel.SMS
    settings_type = TextSettings


class Bell(Adapter):
    name = "bell"
    channel = Channel.PUSH
    receipts = False
    replaces = True


class Call(Adapter):
    name = "call"
    channel = Channel.VOICE
    needs_template = True


ADAPTERS: dict[str, Adapter] = {each.name: each for each in (Text(), Bell(), Call())}


def key(letter: bytes) -> str:
    return base64.b64encode(letter * 32).decode()


# Every value is a canary: none may show up anywhere but where it belongs.
SECRETS = {
    "DSN": "postgresql://canary-user:canary-password@db/reminders",
    "SEALING_1": key(b"1"),
    "INDEX": key(b"i"),
    "APP": "canary-app-token-0123456789",
    "TEXT_KEY": "canary-text-key",
    "TEXT_TOKEN": "canary-text-token-0123456789",
    "CALL_TOKEN": "canary-call-token-0123456789",
}

TREE: dict[str, Any] = {
    "mode": "live",
    "database": {"dsn": "env:DSN"},
    "kafka": {"bootstrap": "localhost:9092"},
    "http": {"public_url": "https://reminders.example.com", "app_tokens": ["env:APP"]},
    "sealing": {"keys": {"1": "env:SEALING_1"}, "current": 1, "index_key": "env:INDEX"},
    "lenders": {"harbour": {"name": "Harbour", "routes": {"sms": "texts", "push": "bells", "voice": "calls"}}},
    "providers": {
        "texts": {
            "adapter": "text",
            "settings": {"base_url": "https://text.example.com", "account": "A1", "key": "env:TEXT_KEY"},
            "callback_tokens": ["env:TEXT_TOKEN"],
        },
        "bells": {"adapter": "bell", "settings": {"base_url": "https://bell.example.com"}},
        "calls": {
            "adapter": "call",
            "settings": {"base_url": "https://call.example.com"},
            "callback_tokens": ["env:CALL_TOKEN"],
            "templates": {"repayment": {"*": {"*": {"code": "T1", "params": {"who": "lender"}}}}},
        },
    },
}


class Case:
    """The valid file and environment; a test changes one or the other and loads."""

    def __init__(self, folder: Path) -> None:
        self.tree: dict[str, Any] = copy.deepcopy(TREE)
        self.environ: dict[str, str] = dict(SECRETS)
        self.adapters: dict[str, Adapter] = dict(ADAPTERS)
        self.path = folder / "gateway.yaml"
        self.text: str | None = None  # the file as it is, instead of the tree

    def put(self, path: str, value: Any) -> None:
        *parents, last = path.split("/")
        inner = self.tree
        for part in parents:
            inner = inner.setdefault(part, {})
        inner[last] = value

    def drop(self, path: str) -> None:
        *parents, last = path.split("/")
        inner = self.tree
        for part in parents:
            inner = inner[part]
        del inner[last]

    def load(self) -> Config:
        text = yaml.safe_dump(self.tree, allow_unicode=True) if self.text is None else self.text
        self.path.write_text(text, encoding="utf-8")
        return load(self.path, self.environ, self.adapters)

    def error(self) -> ConfigError:
        try:
            self.load()
        except ConfigError as error:
            return error
        raise AssertionError("the configuration was taken")

    def problems(self) -> list[Problem]:
        return self.error().problems

    def found(self) -> set[tuple[str, str]]:
        return {(each.path, each.reason.value) for each in self.problems()}
