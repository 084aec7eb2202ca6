"""The classification every adapter falls back to, written once.

Providers document their exceptions; an adapter looks at its own code table first and comes here last.
"""

from __future__ import annotations

from providers.contract import Ambiguous, HttpResponse, Outcome, Refused
from schemas.vocabulary import Failure, FailureScope


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


def retry_after(response: HttpResponse) -> float | None:
    """Seconds from a Retry-After header (RFC 9110 §10.2.3, delay form); None when absent or not a number."""
    value = response.headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdigit() and len(value) <= 6 else None
