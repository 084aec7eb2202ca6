"""What Alibaba Cloud's messaging products share: the signed request, the codes of an answer, the unsigned reports.

Sources: https://help.aliyun.com/document_detail/2593177.html (requests), and the products' own pages, which agree in
what is here: the names of errors, the reply to a report, and that no report carries a signature.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

import msgspec
from pydantic import Field, field_validator

from providers import defaults
from providers.auth import acs3
from providers.contract import (
    PUBLIC_HALF,
    Accepted,
    Ambiguous,
    Callback,
    CallbackOutcome,
    CannotReach,
    Context,
    HttpRequest,
    HttpResponse,
    Outcome,
    ProviderSettings,
    ProviderTemplate,
    Secret,
)
from providers.reading import clean_reference, read_json
from schemas.vocabulary import Failure, FailureScope

TEMPLATE: defaults.Verdict = (Failure.BAD_CONTENT, FailureScope.TEMPLATE)
# By Alibaba's convention `isv` is the caller's fault and `isp` the provider's.  The names without either are the API
# gateway's.
_COMMON: Mapping[defaults.Verdict, str] = {
    (Failure.BAD_RECIPIENT, FailureScope.RECIPIENT): "isv.MOBILE_NUMBER_ILLEGAL",
    # So often a minute, an hour and a day to one number.
    (Failure.THROTTLED, FailureScope.RECIPIENT): "isv.BUSINESS_LIMIT_CONTROL",
    (Failure.THROTTLED, FailureScope.ACCOUNT): "Throttling",
    TEMPLATE: """
        isv.TEMPLATE_PARAMS_ILLEGAL isv.TEMPLATE_MISSING_PARAMETERS isv.PARAM_LENGTH_LIMIT isv.PARAM_NOT_SUPPORT_URL
        isv.INVALID_JSON_PARAM""",
    (Failure.BAD_CONFIG, FailureScope.ACCOUNT): """
        isv.OUT_OF_SERVICE isv.AMOUNT_NOT_ENOUGH isv.ACCOUNT_NOT_EXISTS isv.ACCOUNT_ABNORMAL isv.PRODUCT_UN_SUBSCRIPT
        isv.PRODUCT_UNSUBSCRIBE isv.DENY_IP_RANGE isp.RAM_PERMISSION_DENY
        SignatureDoesNotMatch SignatureNonceUsed IncompleteSignature InvalidAccessKeyId InvalidSecurityToken
        InvalidTimeStamp Forbidden NoPermission""",
    (Failure.TRANSIENT, FailureScope.ACCOUNT): "ServiceUnavailable",
    (Failure.AMBIGUOUS, FailureScope.ACCOUNT): "isp InternalError",
    (Failure.BUG, FailureScope.ACCOUNT): "isv",
}
# Alibaba adds names for what is wrong with a template faster than it lists them.
_ABOUT_A_TEMPLATE = re.compile(r"isv\.([A-Z_]+_)?TEMPLATE_([A-Z_]+_)?ILLEGAL")

# "+", "+86", "0086", "86" or nothing before the 11 digits of a mobile number in mainland China; elsewhere the country
# code and the number.
_AT_HOME = re.compile(r"(?:\+|\+86|0086|86)?(1[3-9][0-9]{9})")
_ABROAD = re.compile(r"(?:\+|00)?([1-9][0-9]{6,14})")

_CHINA_AHEAD = dt.timedelta(hours=8)  # of UTC; no daylight saving time since 1991
_REFERENCE_LENGTH = 13
# In one report.  The platforms send some hundreds at most; a body of nothing but commas has a hundred thousand, each of
# which would be read and stored while everybody else waits.
_MOST_ITEMS = 2000


class AliyunSettings(ProviderSettings):
    """One access key, and what is called with it."""

    action: ClassVar[str]
    version: ClassVar[str]

    access_key_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z.]{1,128}$"), PUBLIC_HALF]
    access_key_secret: Secret
    security_token: Secret | None = None  # of temporary credentials (STS)

    @field_validator("base_url")
    @classmethod
    def _has_no_path(cls, value: str) -> str:
        if urlsplit(value).path:
            raise ValueError("must have no path: the signature is over /")
        return value

    @cached_property
    def constant_headers(self) -> Mapping[str, str]:
        """The headers to sign that do not depend on the message."""
        headers = {
            "host": urlsplit(self.base_url).netloc,
            "x-acs-action": self.action,
            "x-acs-version": self.version,
            "x-acs-content-sha256": acs3.EMPTY_BODY,
        }
        if self.security_token is not None:
            headers["x-acs-accesskey-id"] = self.access_key_id
            headers["x-acs-security-token"] = self.security_token.get_secret_value()
        return headers


class Answer(msgspec.Struct, rename="pascal"):
    """The answer to a request.  Each product names the message id in its own way: `ref` is given its name there."""

    code: str = ""
    ref: str | None = None


def request(settings: AliyunSettings, params: Mapping[str, str], ctx: Context) -> HttpRequest:
    """The signed request: every parameter in the query, no body."""
    headers = {
        **settings.constant_headers,
        "x-acs-date": f"{ctx.now.isoformat()[:19]}Z",
        "x-acs-signature-nonce": ctx.nonce,
    }
    query = acs3.canonical_query(params)
    secret = settings.access_key_secret.get_secret_value()
    headers["authorization"] = acs3.authorization("POST", "/", query, headers, settings.access_key_id, secret)
    return HttpRequest(f"{settings.base_url}/?{query}", headers)


def parameters(template: ProviderTemplate, name: str) -> dict[str, str]:
    """The template's parameters as the JSON text that goes by `name`; nothing for a template without any."""
    return {name: msgspec.json.encode(template.params).decode()} if template.params else {}


def verdicts(own: Mapping[defaults.Verdict, str]) -> dict[str, defaults.Verdict]:
    """A product's table by code: what all products share, and its own."""
    return defaults.verdicts(_COMMON) | defaults.verdicts(own)


def classify(
    response: HttpResponse, decoder: msgspec.json.Decoder[Answer], table: Mapping[str, defaults.Verdict]
) -> Outcome:
    """What the answer means.  `Code` decides, not the HTTP status: the same code comes with 200 or 400.

    A name without its own entry in the table counts by its part before the first dot.
    """
    answer = read_json(decoder, response.body)
    if answer is None or not answer.code:
        return defaults.classify(response)
    if answer.code == "OK":
        ref = clean_reference(answer.ref) if 200 <= response.status < 300 else None
        return Accepted(ref) if ref is not None else Ambiguous(f"http_{response.status}")
    milliseconds = defaults.number(response.headers.get("x-acs-retry-after", ""))
    wait = milliseconds / 1000 if milliseconds is not None else None
    verdict = table.get(answer.code)
    if verdict is None and _ABOUT_A_TEMPLATE.fullmatch(answer.code):
        verdict = TEMPLATE
    verdict = verdict or table.get(answer.code.partition(".")[0])
    return defaults.classify_code({answer.code: verdict} if verdict else {}, answer.code, response, wait)


def _called_number(address: str) -> str:
    """An E.164 number as the vendor wants it: bare in China, landlines with their 0; else country code and number."""
    digits = address.removeprefix("+")
    if not digits.startswith("86"):
        return digits
    national = digits[2:]
    return national if len(national) == 11 and national.startswith("1") else f"0{national}"


def phone_number(address: str) -> str:
    """An E.164 number in the vendor's form, which means the same person to the vendor.

    Raises CannotReach where it would not: after the country code 1 many numbers of North America have the 11 digits of
    a Chinese mobile number, and a stranger in China would hear of the debt.
    """
    number = _called_number(address)
    if e164(number) not in (address, None):
        raise CannotReach("the vendor would take this number for another")
    return number


def e164(number: str) -> str | None:
    """A number as the vendor writes it, in any of the forms it documents; None for anything else."""
    if home := _AT_HOME.fullmatch(number):
        return f"+86{home[1]}"
    abroad = _ABROAD.fullmatch(number)
    return f"+{abroad[1]}" if abroad is not None else None


def replay_key(callback: Callback) -> str:
    """Nothing is signed, so the bytes are all there is to know a report by; the path's token was checked before."""
    return hashlib.sha256(callback.body).hexdigest()


def items(callback: Callback) -> list[msgspec.Raw] | None:
    """The elements of a report, each to be read for itself; None when it is no array, or one that no platform sends."""
    found = read_json(_ITEMS, callback.body)
    return found if found is None or len(found) <= _MOST_ITEMS else None


def our_attempt(out_id: str | None) -> str | None:
    """`OutId` when it can be an attempt of ours: other users of the same account may put anything into it."""
    possible = out_id is not None and len(out_id) == _REFERENCE_LENGTH and out_id.isascii() and out_id.isalnum()
    return out_id if possible else None


def utc(local: str | None) -> dt.datetime | None:
    """A time of day in China, which the vendor gives without a zone, in UTC; None for anything else."""
    try:
        moment = dt.datetime.fromisoformat(local or "")
        return None if moment.tzinfo is not None else (moment - _CHINA_AHEAD).replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        return None


def reply(outcome: CallbackOutcome) -> HttpResponse:
    """The platform looks for 200 and a numeric `code`; anything else makes it push again, after 1, 5 and 10 minutes."""
    return _REPLIES[outcome]


def _reply(status: int, body: bytes) -> HttpResponse:
    return HttpResponse(status, {"content-type": "application/json;charset=UTF-8"}, body)


_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_REPLIES = {
    CallbackOutcome.STORED: _reply(200, b'{"code":0,"msg":"OK"}'),
    CallbackOutcome.FAILED: _reply(503, b'{"code":1,"msg":"try again"}'),
}
