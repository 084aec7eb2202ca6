"""The classification every adapter falls back to, written once.

Providers document their exceptions; an adapter looks at its own code table first and comes here last.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from msgspec.structs import replace

from providers.contract import Ambiguous, HttpResponse, Outcome, Refused
from providers.reading import clean_code
from schemas.vocabulary import Failure, FailureScope

# What a vendor's code means.  `AMBIGUOUS` as the failure makes the outcome ambiguous, whatever the scope.
Verdict = tuple[Failure, FailureScope]

_LONGEST_WAIT: Final = 30 * 86_400.0  # what lies beyond is a mistake, such as a time of day in seconds


def verdicts(groups: Mapping[Verdict, str]) -> dict[str, Verdict]:
    """A table by code, from codes listed by what they mean."""
    return {code: verdict for verdict, codes in groups.items() for code in codes.split()}


def classify(response: HttpResponse) -> Outcome:
    """Total over statuses.  A 2xx that the adapter could not read and any 5xx may have been accepted."""
    status = response.status
    code = f"http_{status}"
    if status in (401, 403, 407):
        return Refused(Failure.BAD_CONFIG, FailureScope.ACCOUNT, code)
    if status == 429:
        return Refused(Failure.THROTTLED, FailureScope.ACCOUNT, code, retry_after(response))
    if status == 408:
        return Ambiguous(code)
    if 300 <= status < 400:
        # Redirects are never followed: the message stayed where it was, and the configured URL is wrong.
        return Refused(Failure.BAD_CONFIG, FailureScope.ACCOUNT, code)
    if 400 <= status < 500:
        return Refused(Failure.BUG, FailureScope.ACCOUNT, code)
    return Ambiguous(code)


def classify_code(
    table: Mapping[str, Verdict], code: str, response: HttpResponse, wait: float | None = None
) -> Outcome:
    """What the vendor's table says of `code`; an unlisted code gets the status' default and keeps its name.

    `wait` is the vendor's own way to say when to come back, in seconds; else Retry-After counts.
    """
    verdict, code = table.get(code), clean_code(code)
    if verdict is None:
        default = classify(response)
        return replace(default, code=code) if isinstance(default, Refused) else Ambiguous(code)
    failure, scope = verdict
    if failure is Failure.AMBIGUOUS:
        return Ambiguous(code)
    return Refused(failure, scope, code, retry_after(response) if wait is None else wait)


def retry_after(response: HttpResponse) -> float | None:
    """Seconds from a Retry-After header (RFC 9110 §10.2.3); None when absent, unreadable or further than 30 days.

    A date counts from the answer's own Date, by the provider's clock: without one it says nothing.
    """
    header = response.headers.get("retry-after", "")
    seconds = number(header)
    if seconds is None:
        until, at = date(header), date(response.headers.get("date", ""))
        seconds = None if until is None or at is None else max((until - at).total_seconds(), 0.0)
    return seconds if seconds is not None and seconds <= _LONGEST_WAIT else None


def date(header: str) -> dt.datetime | None:
    """An HTTP date in UTC (RFC 9110 §5.6.7); None for anything else."""
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)


def number(text: str) -> float | None:
    """A plain non-negative decimal of at most ten characters; None for anything else."""
    text = text.strip()
    digits = text.replace(".", "", 1)
    return float(text) if len(text) <= 10 and digits.isascii() and digits.isdigit() else None
