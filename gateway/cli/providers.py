"""`providers`: which adapters there are, what each needs and can, who uses it, and how its circuits stand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import typer

from gateway.cli import lists
from gateway.cli.common import DEFAULT_CONFIG, ConfigPath, console, read
from gateway.cli.lists import Json
from gateway.cli.metrics import scrape

if TYPE_CHECKING:
    from gateway.config import Config, Provider
    from providers.contract import Adapter

CAPABILITIES: Final = (
    "receipts", "signs_callbacks", "replaces", "interactive", "needs_template", "needs_sign", "needs_token",
)  # fmt: skip

Circuits = Mapping[str, Mapping[str, str]]  # provider -> scope -> state


def providers(
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="A gateway's /metrics, for the state of the circuits; once for each gateway. The worst is shown.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """List every adapter there is, third parties' too: the settings it needs, what it can, and who uses it.

    No value of a setting is printed, and of a secret not even a default.  Without a configuration file it tells of the
    adapters alone.
    """
    from providers.catalog import discover

    settings = read(config) if config.exists() else None
    circuits = circuits_in(asyncio.run(scrape(metrics))) if metrics else None
    rows = [_row(adapter, settings, circuits) for adapter in discover().values()]
    if as_json:
        lists.show(rows, (), as_json=True)
    else:
        _print(rows, circuits)
    lists.about(len(rows), "adapter", *_notes(config, settings))


def _notes(path: Path, settings: Config | None) -> list[str]:
    return [f"{path} is not there: no provider is configured"] if settings is None else [f"mode {settings.mode}"]


def _row(adapter: Adapter, settings: Config | None, circuits: Circuits | None) -> dict[str, Any]:
    used = settings.providers if settings is not None else {}
    return {
        "adapter": adapter.name,
        "channel": adapter.channel,
        "module": type(adapter).__module__,
        "capabilities": [name for name in CAPABILITIES if getattr(adapter, name)],
        "settings": settings_of(adapter),
        "settings_about": _about(adapter),
        "providers": [
            _provider(name, each, settings, circuits) for name, each in used.items() if each.adapter == adapter.name
        ],
    }


def settings_of(adapter: Adapter) -> list[dict[str, Any]]:
    """What the adapter is told: each setting's name, whether it is needed and secret, and its default if it is not."""
    found = []
    for name, field in adapter.settings_type.model_fields.items():
        secret, needed = _is_secret(field.annotation), field.is_required()
        default = None if secret or needed else field.get_default(call_default_factory=True)
        found.append({
            "name": name,
            "needed": needed,
            "secret": secret,
            "default": None if default is None else str(default),
        })  # fmt: skip
    return found


def _about(adapter: Adapter) -> str:
    """What its author says of the settings as a whole, such as that one of two is needed."""
    return " ".join((adapter.settings_type.__dict__.get("__doc__") or "").split())


def _is_secret(kind: Any) -> bool:
    from pydantic import SecretBytes, SecretStr

    if isinstance(kind, type):
        return issubclass(kind, SecretStr | SecretBytes)
    return any(_is_secret(each) for each in get_args(kind))


def _provider(name: str, each: Provider, settings: Config | None, circuits: Circuits | None) -> dict[str, Any]:
    lenders = [] if settings is None else [ref for ref, of in settings.lenders.items() if name in of.routes.values()]
    return {
        "provider": name,
        "lenders": lenders,
        "concurrency": each.concurrency,
        "rate_per_second": each.rate_per_second,
        "burst": each.burst,
        "on_unknown": each.on_unknown.value,
        "on_unknown_stages": {str(stage): value.value for stage, value in each.on_unknown_stages.items()},
        "receipt_window_hours": each.receipt_window_hours,
        "total_timeout_seconds": each.total_timeout_seconds,
        "callback_tokens": len(each.callback_tokens),
        "circuits": None if circuits is None else dict(circuits.get(name, {})),
    }


def circuits_in(texts: Sequence[str]) -> Circuits:
    """The circuits as the gateways have them, by provider and scope: the worst of all."""
    from prometheus_client.parser import text_string_to_metric_families

    from gateway.observability.metrics import CIRCUIT_VALUE, NAMESPACE, CircuitState

    order = (CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN)
    states = {value: state for state, value in CIRCUIT_VALUE.items()}
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            if family.name != f"{NAMESPACE}_circuit_state":
                continue
            for sample in family.samples:
                scopes = found.setdefault(sample.labels["provider"], {})
                scope, state = sample.labels["scope"], states[int(sample.value)]
                scopes[scope] = max(CircuitState(scopes.get(scope, state)), state, key=order.index).value
    return found


def _print(rows: Sequence[Mapping[str, Any]], circuits: Circuits | None) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("adapter", "channel", "can and needs", "setting", "", "default", show_lines=True)
    for each in rows:
        of = each["settings"]
        table.add_row(
            escape(each["adapter"]),
            each["channel"],
            escape("\n\n".join(filter(None, (" ".join(each["capabilities"]), each["settings_about"])))),
            "\n".join(escape(one["name"]) for one in of),
            "\n".join(" ".join(word for word in ("needed", "secret") if one[word]) for one in of),
            "\n".join(escape(one["default"] or "") for one in of),
        )
    console().print(table)
    used = [(each["adapter"], one) for each in rows for one in each["providers"]]
    if not used:
        return
    table = Table("provider", "adapter", "lenders", "at once", "a second", "on unknown", "window", "circuits")
    for adapter, one in used:
        unknown = [one["on_unknown"], *(f"{stage}: {what}" for stage, what in one["on_unknown_stages"].items())]
        rate = one["rate_per_second"]
        table.add_row(
            one["provider"],
            escape(adapter),
            escape(" ".join(one["lenders"])),
            str(one["concurrency"]),
            "no limit" if rate is None else f"{rate:g}" + (f", burst {one['burst']}" if one["burst"] else ""),
            " ".join(unknown),
            f"{one['receipt_window_hours']:g} h",
            _standing(one["circuits"]),
        )
    console().print(table)
    if circuits is None:
        lists.about(len(used), "configured provider", "--metrics URL tells of their circuits")


def _standing(circuits: Mapping[str, str] | None) -> str:
    if circuits is None:
        return "not asked"
    if not circuits:
        return "not told"  # by a gateway with another configuration
    return ", ".join(f"{scope} {state}" for scope, state in circuits.items() if state != "closed") or "closed"
