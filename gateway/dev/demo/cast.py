"""The cast: cast.yaml made into records, each with what must become of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.cli.events import absolute, made
from gateway.dev.settings import LENDER, LENDER_IN_CHINA, LENDER_THAT_ASKS
from gateway.dev.simulator import Rule, Script, Vendor
from schemas.messages import CANCELLED, REQUESTED
from schemas.repayments import PLANNED

SOURCE: Final = "demo"
_CAST: Final = Path(__file__).with_name("cast.yaml")
_VENDORS: Final = {
    LENDER: {"sms": Vendor.TWILIO, "push": Vendor.FCM, "voice": Vendor.ALIYUN},
    LENDER_THAT_ASKS: {"sms": Vendor.TWILIO, "push": Vendor.FCM, "voice": Vendor.TWILIO_VOICE},
    LENDER_IN_CHINA: {"sms": Vendor.ALIYUN_SMS, "push": Vendor.FCM, "voice": Vendor.ALIYUN},
}
_DUE: Final = {
    "d7": "+7d", "d3": "+3d", "due": "today", "overdue_early": "-4d", "overdue_mid": "-21d", "overdue_late": "-64d"
}  # fmt: skip
_NAMES: Final = {
    "zh": ("王芳", "李伟", "张敏", "刘洋", "陈静", "杨磊", "黄丽", "赵强"),
    "en": ("Grace Miller", "Daniel Brooks", "Nora Castillo", "Samuel Reed", "Ivy Chen", "Owen Walsh"),
}
_PEOPLE: Final[dict[str, dict[str, str]]] = {
    "zh": {"locale": "zh-CN", "timezone": "Asia/Shanghai", "jurisdiction": "CN"},
    "en": {"locale": "en-US", "timezone": "America/New_York", "jurisdiction": "US-NY"},
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """How a record must end: as a reminder (`state`), with an `answer`, or as a `dead_letter`."""

    state: str | None = None
    reason: str | None = None
    channel: str | None = None
    attempts: int = 0
    was: str | None = None  # a state the attempt must have been through
    said: str | None = None  # what the borrower says back, by the event's type
    answer: str | None = None
    dead_letter: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One record.  `id` is its request's; for a stop, that of the request it is about."""

    id: str
    key: bytes | None
    value: bytes = field(repr=False)
    expect: Expectation
    after: str | None = None
    stop: bool = False


def script() -> Script:
    """How the providers behave: rules for one recipient each."""
    rules = []
    for number, entry in enumerate(_entries()):
        for channel, rule in entry.get("vendor", {}).items():
            address = _address(channel, entry["people"], number)
            vendor = _VENDORS[entry.get("lender", LENDER)][channel]
            rules.append(Rule(vendor=vendor, recipient=f"*{address[-10:]}", **rule))
    return Script(rules=tuple(rules))


def records(now: dt.datetime) -> list[Item]:
    """Every record in the order of publication, to be published now: their times are relative to it."""
    entries = _entries()
    asked = {each["id"]: _data(number, each) for number, each in enumerate(entries) if "people" in each}
    return [_item(number, entry, asked, now) for number, entry in enumerate(entries)]


def _entries() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load(_CAST.read_text(encoding="utf-8"))
    return entries


def _item(number: int, entry: Mapping[str, Any], asked: Mapping[str, dict[str, Any]], now: dt.datetime) -> Item:
    expect, after = Expectation(**entry.get("expect", {})), entry.get("after")
    if "raw" in entry:
        return Item(entry["id"], None, entry["raw"].encode(), expect)
    if "stop" in entry:
        stop = made(CANCELLED, SOURCE, f"stop-{number}", _stop(entry, asked[entry["of"]], now), now)
        return Item(entry["of"], stop.key, stop.value, expect, after, stop=True)
    identifier = entry.get("id") or entry["same"]
    data = asked[entry.get("as", identifier)]
    if "people" not in entry:
        data = _merged(data, entry.get("data", {}))
    request = made(REQUESTED, SOURCE, identifier, absolute(data, now), now)
    return Item(identifier, request.key, request.value, expect, after)


def _data(number: int, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One request of a person of their own; `number` is in every address and is the marker in the text."""
    people, stage = entry["people"], entry["stage"]
    names = _NAMES[people]
    plain = {
        "lender": entry.get("lender", LENDER),
        "borrower": {"ref": f"borrower-{number:03d}", "name": names[number % len(names)], **_PEOPLE[people]},
        "debt": {
            "ref": f"loan-{number:03d}",
            "amount": f"{380 + 97 * number}.50",
            "currency": "CNY" if people == "zh" else "USD",
            "due_date": _DUE[stage],
            "state_as_of": "-20m",
        },
        "stage": stage,
        "contacts": [{"channel": each, "address": _address(each, people, number)} for each in entry["contacts"]],
        "template": "repayment",
        "params": {"pay_url": f"https://pay.acme.example/r/{number:03d}", "reference": f"M-{number:03d}"},
        "not_after": "+6h",
    }
    return _merged(plain, entry.get("data", {}))


def _stop(entry: Mapping[str, Any], data: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
    scopes = {
        "request": {"kind": "request", "source": SOURCE, "id": entry["of"]},
        "debt": {"kind": "debt", "ref": data["debt"]["ref"]},
    }
    scope, ref = scopes[entry["stop"]], data["borrower"]["ref"]
    return {"lender": LENDER, "borrower_ref": ref, "scope": scope, "as_of": now.isoformat(timespec="milliseconds")}


def _address(channel: str, people: str, number: int) -> str:
    """Made up, and anyway never called: the providers are on loopback, and theirs are the only URLs."""
    if channel == "push":
        return f"demo-device-token-{number:010d}"
    if people == "zh":
        return f"+86{139 if channel == 'sms' else 138}{10_000 + number:08d}"
    return f"+1{202 if channel == 'sms' else 415}55501{number:02d}"


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    mixed = dict(base)
    for name, value in over.items():
        mixed[name] = _merged(base[name], value) if isinstance(value, dict) else value
    return mixed


def example() -> dict[str, Any]:
    """A request of nobody in the cast, with relative times: good to send at any time, and again under another id."""
    entry = {"people": "en", "stage": "due", "contacts": ["push", "sms"]}
    return {"id": "my-request-1", "source": SOURCE, **_data(99, entry)}


def plan() -> dict[str, Any]:
    """A fact about nobody in the cast: an instalment that is due in three days, so that he hears of it today."""
    asked = _data(98, {"people": "en", "stage": "d3", "contacts": ["push", "sms"]})
    debt = asked["debt"]
    return {
        "type": PLANNED,
        "data": {
            **{name: asked[name] for name in ("lender", "borrower", "contacts")},
            "debt": debt["ref"],
            "currency": debt["currency"],
            "instalments": [{"number": 1, "due_date": "+3d", "amount": debt["amount"]}],
            "params": {"pay_url": asked["params"]["pay_url"]},
            "as_of": "-20m",
        },
    }
