"""What is wrong with a configuration: a closed set of reasons, each problem at the path of its key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

Path = tuple[str | int, ...]

_LONGEST_KEY: Final = 64


class ProblemReason(StrEnum):
    # the file and its keys
    UNREADABLE_FILE = "unreadable_file"
    NOT_YAML = "not_yaml"
    DUPLICATE_KEY = "duplicate_key"
    MISSING = "missing"
    UNKNOWN_KEY = "unknown_key"
    WRONG_VALUE = "wrong_value"
    # secrets
    LITERAL_SECRET = "literal_secret"  # noqa: S105  a secret written into the file itself
    SECRET_UNAVAILABLE = "secret_unavailable"  # noqa: S105  its variable or file is not there, or empty
    NOT_A_SECRET = "not_a_secret"  # noqa: S105  a reference where no secret belongs
    WEAK_SECRET = "weak_secret"  # noqa: S105
    BAD_KEY = "bad_key"  # a sealing key of the wrong length or form
    # what does not fit together
    UNKNOWN_KEY_ID = "unknown_key_id"  # the current sealing key is none of the keys
    INSECURE_URL = "insecure_url"
    NOT_LOOPBACK = "not_loopback"  # mode simulate, and a provider or a proxy that is not on this machine
    SAME_PORT = "same_port"
    SAME_TOPIC = "same_topic"
    INCOMPLETE_SASL = "incomplete_sasl"
    INCOMPLETE_TLS = "incomplete_tls"
    BAD_CERTIFICATE = "bad_certificate"  # a file that holds no certificate or key, or not the one that belongs
    TIMEOUTS = "timeouts"
    LEASE_TOO_SHORT = "lease_too_short"
    OVER_BUDGET = "over_budget"
    UNKNOWN_ADAPTER = "unknown_adapter"
    UNKNOWN_PROVIDER = "unknown_provider"
    UNKNOWN_LENDER = "unknown_lender"
    WRONG_CHANNEL = "wrong_channel"
    CANNOT_RESEND = "cannot_resend"
    CANNOT_LOOK_UP = "cannot_look_up"
    NO_CALLBACK_TOKEN = "no_callback_token"  # noqa: S105
    BAD_TEMPLATES = "bad_templates"  # the text templates themselves do not load
    BAD_CADENCES = "bad_cadences"  # the cadences themselves do not load
    UNKNOWN_CADENCE = "unknown_cadence"
    UNKNOWN_TEMPLATE = "unknown_template"
    UNKNOWN_SLOT = "unknown_slot"
    UNMAPPED_TEMPLATE = "unmapped_template"
    UNKNOWN_LOCALE = "unknown_locale"
    # what is not here
    EXTRA_MISSING = "extra_missing"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right.  `path` is the key's, with dots; neither it nor `message` holds a secret."""

    path: str
    reason: ProblemReason
    message: str

    def __str__(self) -> str:
        return f"{self.path or 'the file'}: {self.message} ({self.reason})"


class ConfigError(Exception):
    """The configuration cannot be used.  `problems` are all of them, sorted by path."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems), key=lambda problem: (problem.path, problem.reason, problem.message))
        super().__init__("\n".join(map(str, self.problems)))


def problem(path: Path, reason: ProblemReason, message: str) -> Problem:
    return Problem(dotted(path), reason, message)


def dotted(path: Path) -> str:
    return ".".join("".join(c if c.isprintable() else "?" for c in str(part))[:_LONGEST_KEY] for part in path)


def misfit(reason: ProblemReason, message: str) -> PydanticCustomError:
    """What a validator of ours raises; it becomes a Problem with this reason."""
    return PydanticCustomError(reason.value, message)


_REASONS: Final = {reason.value: reason for reason in ProblemReason} | {"extra_forbidden": ProblemReason.UNKNOWN_KEY}


def from_validation(error: ValidationError, at: Path) -> list[Problem]:
    """Every error of a model at `at`, without the values that caused them."""
    return [
        problem(
            (*at, *(part for part in each["loc"] if part != "[key]")),
            _REASONS.get(each["type"], ProblemReason.WRONG_VALUE),
            each["msg"],
        )
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
