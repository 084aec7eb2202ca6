"""A JSON value to one of our messages; a refusal names the field and the kind of mistake, never the content."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from gateway.intake import references
from gateway.intake.faults import Fault
from schemas import messages, repayments
from schemas.vocabulary import Rejection

T = TypeVar("T", bound=Struct)

# A value of the right JSON type that cannot be: what that says, by field.  Everything else is a wrong field.
_MEANING: Final = {
    "data.lender": Rejection.UNKNOWN_LENDER,
    "data.stage": Rejection.UNKNOWN_STAGE,
    "data.template": Rejection.UNKNOWN_TEMPLATE,
    "data.contacts[].channel": Rejection.UNKNOWN_CHANNEL,
    "data.borrower.timezone": Rejection.UNKNOWN_ZONE,
    "data.borrower.locale": Rejection.UNKNOWN_LOCALE,
    "data.debt.currency": Rejection.UNKNOWN_CURRENCY,
    "data.debt.amount": Rejection.BAD_AMOUNT,
    "data.debt.due_date": Rejection.BAD_DATE,
    "data.debt.state_as_of": Rejection.BAD_DATE,
    "data.send_at": Rejection.BAD_DATE,
    "data.not_after": Rejection.BAD_DATE,
    "data.as_of": Rejection.BAD_DATE,
    "data.timezone": Rejection.UNKNOWN_ZONE,
    "data.locale": Rejection.UNKNOWN_LOCALE,
    "data.currency": Rejection.UNKNOWN_CURRENCY,
    "data.channel": Rejection.UNKNOWN_CHANNEL,
    "data.channels[]": Rejection.UNKNOWN_CHANNEL,
    "data.outstanding": Rejection.BAD_AMOUNT,
    "data.instalments[].amount": Rejection.BAD_AMOUNT,
    "data.instalments[].due_date": Rejection.BAD_DATE,
}
_MOMENTS: Final = ("send_at", "not_after", "as_of")
_is_rfc3339: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
).fullmatch
_PERSONS: Final = frozenset({"data.borrower.ref", "data.borrower_ref"})
_REFERENCES: Final = _PERSONS | {
    "data.lender", "data.debt", "data.debt.ref", "data.debt.product", "data.product", "data.template", "data.scope.ref",
}  # fmt: skip

# msgspec says where at the end: - at `$.debt.amount`, or - at `key` in `$.params`.
_PLACE: Final = re.compile(r".* - at (?:`key` in )?`\$([^`]*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_STEP: Final = re.compile(r"\.([a-z_]+)|\[(\d{1,3})\]|\[\.\.\.\]")
_INDEX: Final = re.compile(r"\[\d+\]")


def _names(types: tuple[type[Struct], ...]) -> Iterator[str]:
    for type_ in types:
        yield from type_.__struct_encode_fields__
        tag = type_.__struct_config__.tag_field
        if tag is not None:
            yield tag


_OURS: Final = frozenset(
    _names(
        (
            messages.CloudEvent, messages.ReminderRequested, messages.Borrower, messages.Debt, messages.Contact,
            messages.ReminderCancelled, messages.RequestScope, messages.DebtScope, messages.BorrowerScope,
            repayments.Instalment, repayments.Times, *repayments.REPAYMENTS.values(),
        )
    )
)  # fmt: skip


def convert(data: Any, type_: type[T]) -> T | Fault:
    """The message in `data`, or the first thing that is wrong with it."""
    try:
        made = msgspec.convert(data, type_)
    except msgspec.ValidationError as error:
        return _fault(str(error), data)
    # msgspec takes more of ISO 8601 than the schemas, and the next reader of the topic, do.
    for name in _MOMENTS:
        given = data.get(name)
        if given is not None and not _is_rfc3339(given):
            return Fault(Rejection.BAD_DATE, f"data.{name}")
    debt = data.get("debt")
    if isinstance(debt, dict) and not _is_rfc3339(debt["state_as_of"]):
        return Fault(Rejection.BAD_DATE, "data.debt.state_as_of")
    return made


def place_of(message: str, root: str) -> str:
    """The field a msgspec message speaks of, below `root`, by names of ours only."""
    match = _PLACE.fullmatch(message)
    path = match[1] if match else ""
    place = root
    end = 0
    for step in _STEP.finditer(path):
        # Where content looks like a place, it is not repeated: stop at the first name that is not ours.
        if step.start() != end or (step[1] and step[1] not in _OURS):
            break
        end = step.end()
        place += "" if step[0] == "[...]" else step[0]
    missing = _MISSING.match(message)
    if missing and missing[1] in _OURS:
        place += f".{missing[1]}"
    return place.removeprefix(".")


def _fault(message: str, data: Any) -> Fault:
    place = place_of(message, "data")
    if message.startswith("Object missing"):
        return Fault(Rejection.MISSING_FIELD, place)
    if message.startswith("Object contains unknown"):
        return Fault(Rejection.WRONG_FIELD, place)
    if place == "data.params" and " - at `$.params`" not in message:
        return Fault(Rejection.BAD_PARAMS, place)  # a name or a value inside
    value = _value_at(data, place)
    if not isinstance(value, str):
        return Fault(Rejection.WRONG_FIELD, place)
    if place in _REFERENCES and references.is_number(value, person=place in _PERSONS):
        return Fault(Rejection.BAD_REFERENCE, place)
    kind = _INDEX.sub("[]", place)
    if kind == "data.contacts[].address":
        channel = _value_at(data, place.removesuffix("address") + "channel")
        return Fault(Rejection.BAD_ADDRESS if channel == "push" else Rejection.BAD_PHONE, place)
    return Fault(_MEANING.get(kind, Rejection.WRONG_FIELD), place)


def _value_at(data: Any, place: str) -> Any:
    """What stands at a place that msgspec has named; None when nothing does."""
    for step in _STEP.finditer(place.removeprefix("data")):
        key = step[1]
        if key is not None and isinstance(data, dict):
            data = data.get(key)
        elif step[2] is not None and isinstance(data, list) and int(step[2]) < len(data):
            data = data[int(step[2])]
        else:
            return None
    return data
