"""Every adapter there is, by name: the modules of this package and the entry points of third parties."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points

import providers
from providers.contract import Adapter

ENTRY_POINT_GROUP = "reminder_gateway.providers"
_CHANNEL_PACKAGES = ("sms", "push", "voice")


def discover() -> dict[str, Adapter]:
    """All adapters by name.  Raises ValueError when two claim the same name or one has none."""
    found: dict[str, Adapter] = {}
    for candidate in (*_own(), *_third_party()):
        if not isinstance(candidate, Adapter):
            raise ValueError(f"{candidate!r} is not an Adapter")
        if not getattr(candidate, "name", None):
            raise ValueError(f"{candidate!r} has no name")
        if candidate.name in found:
            raise ValueError(f"two adapters are named {candidate.name!r}")
        found[candidate.name] = candidate
    return dict(sorted(found.items()))


def _own() -> list[object]:
    adapters: list[object] = []
    for channel in _CHANNEL_PACKAGES:
        package = importlib.import_module(f"{providers.__name__}.{channel}")
        for module in pkgutil.iter_modules(package.__path__):
            adapters.append(importlib.import_module(f"{package.__name__}.{module.name}").ADAPTER)
    return adapters


def _third_party() -> list[object]:
    return [entry.load() for entry in entry_points(group=ENTRY_POINT_GROUP)]
