"""Secrets for a configuration that names them by reference: made up, but of the shape that each must have."""

import base64
import re
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from gateway.dev.simulator import Credentials


@cache
def _credentials() -> Credentials:
    return Credentials.generate()


def secret(name: str) -> str:
    """By the name of its file or variable."""
    name = name.lower().replace("_", "-")
    if name.endswith("dsn"):
        return "postgresql://gateway:nobody@127.0.0.1:9/reminders"
    if "sealing" in name or "index" in name:
        return base64.b64encode(secrets.token_bytes(32)).decode()
    if "private-key" in name:
        return _credentials().google_private_key
    if "access-key" in name:
        return secrets.token_hex(12)
    return secrets.token_urlsafe(24)


def provide(text: str, mount: str, directory: Path, plain: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The configuration as a process finds it, and its variables.

    What it reads under `mount` stands in `directory` instead, and nothing else is touched: a reference that leads
    elsewhere leads nowhere.  `plain` are the variables that stand in the open.
    """
    for name in re.findall(rf"file:{re.escape(mount)}/([^\s\"',\]}}]+)", text):
        (directory / name).write_text(secret(name) + "\n")
    variables = {name: secret(name) for name in re.findall(r"\benv:([A-Za-z_][A-Za-z0-9_]*)", text)}
    return text.replace(f"file:{mount}/", f"file:{directory}/"), variables | dict(plain)
