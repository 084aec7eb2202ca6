"""A provider that answers from a script, and a job on its way to it.  Everything else is the real thing."""

import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.dispatch.pipeline import Job
from gateway.dispatch.provider import Provider
from gateway.dispatch.reserve import Reservation
from gateway.dispatch.transport import MaybeSent, NotSent, Timeouts, Wire
from gateway.ledger.claims import Claimed
from gateway.worker import Lease
from providers.contract import Accepted, Adapter, Ambiguous, Context, HttpRequest, HttpResponse, Message, Refused, Token
from schemas.vocabulary import Channel, Failure, FailureScope, Lane

NOW = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
TIMEOUTS = Timeouts(connect=1.0, read=2.0, total=4.0)
PHONE = "+14155550123"

Wired = HttpResponse | NotSent | MaybeSent


class Scripted(Adapter):
    """Reads its verdict from a table by status; the access token is the token endpoint's body."""

    name = "scripted"
    channel = Channel.SMS
    table: dict[int, Accepted | Refused | Ambiguous]

    def __init__(self, needs_token: bool = False, needs_template: bool = False) -> None:
        self.needs_token, self.needs_template = needs_token, needs_template  # type: ignore[misc]  # per instance here
        self.table = {
            200: Accepted("ref-1"),
            401: Refused(Failure.BAD_CONFIG, FailureScope.ACCOUNT, "http_401"),
            500: Ambiguous("http_500"),
        }
        self.token_status = 200
        self.token_wait: float | None = None
        self.broken = self.broken_token = False

    def build_request(self, message: Message, settings: Any, ctx: Context) -> HttpRequest:
        if self.broken:
            raise KeyError(message.address)
        return HttpRequest("https://provider/send", {"authorization": ctx.access_token or ""}, message.text.encode())

    def classify_response(self, response: HttpResponse) -> Accepted | Refused | Ambiguous:
        return self.table[response.status]

    def token_request(self, settings: Any, ctx: Context) -> HttpRequest:
        if self.broken_token:
            raise ValueError("no such key")
        return HttpRequest("https://provider/token", {})

    def parse_token(self, response: HttpResponse) -> Token | Refused:
        if response.status == 200:
            return Token(response.body.decode(), 3600.0)
        failure = Failure.BAD_CONFIG if response.status < 500 else Failure.TRANSIENT
        return Refused(failure, FailureScope.ACCOUNT, f"http_{response.status}", self.token_wait)


class Line:
    """Stands where the transport stands.  The last answer repeats."""

    def __init__(self, *answers: Wired) -> None:
        self.answers = list(answers)
        self.sent: list[HttpRequest] = []
        self.tokens = 0
        self.token_answer: Wired | None = None

    async def post(self, request: HttpRequest, may_start: Callable[[], bool] = lambda: True) -> Wired:
        if request.url.endswith("/token"):
            self.tokens += 1
            return self.token_answer or HttpResponse(200, {}, f"token-{self.tokens}".encode())
        if not may_start():
            return NotSent(Wire.CANCELLED)
        self.sent.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Watched(Reservation):
    """A real reservation that also writes down what it is told."""

    def __init__(self) -> None:
        super().__init__(10, None, None, lambda: 1000.0)
        self.told: list[tuple[Failure | None, FailureScope | None, float | None]] = []

    def succeeded(self, template: str, started_at: float) -> None:
        super().succeeded(template, started_at)
        self.told.append((None, None, None))

    def failed(
        self,
        failure: Failure,
        scope: FailureScope,
        template: str,
        retry_after: float | None = None,
        started_at: float = 0.0,
    ) -> None:
        super().failed(failure, scope, template, retry_after, started_at)
        self.told.append((failure, scope, retry_after))


def provider(line: Line, adapter: Scripted | None = None, **more: Any) -> Provider:
    return Provider(
        name="scripted-1",
        adapter=adapter or Scripted(),
        settings=None,
        timeouts=TIMEOUTS,
        reservation=Watched(),
        transport=line,  # type: ignore[arg-type]  # the seam
        wall_clock=lambda: NOW,
        **{"allowlist": None, **more},
    )


def told(it: Provider) -> Sequence[tuple[Failure | None, FailureScope | None, float | None]]:
    assert isinstance(it.reservation, Watched)
    return it.reservation.told


def claimed(**changes: Any) -> Claimed:
    values: dict[str, Any] = {
        "id": 0x0123_4567_89AB_CD42, "subject": b"s" * 16, "lender": "acme", "source": "loan-core", "request_id": "r-1",
        "product": None, "stage": "d3", "template": "repayment", "lane": Lane.BULK, "ladder": "s", "rung": 0,
        "attempts": 0, "tries": 0, "not_after": NOW + dt.timedelta(hours=8), "sealed": b"", "due_at": NOW, "token": 7,
    }  # fmt: skip
    return Claimed(**(values | changes))


def message(reference: str = "0000000000001") -> Message:
    return Message(reference, Channel.SMS, PHONE, "Dear Li Lei, 12.50 is due", "en")


def job(it: Provider, lease_seconds: float = 60.0, send_by: dt.datetime | None = None) -> Job:
    made = Job(claimed(), Lease(3, time.monotonic() + lease_seconds))
    made.provider, made.message, made.attempt = it, message(), 1
    made.send_by = send_by or NOW + dt.timedelta(hours=1)
    return made
