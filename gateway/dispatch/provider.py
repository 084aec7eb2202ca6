"""A configured provider at run time: its adapter, settings, transport, capacity and token."""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gateway.allowlist import Allowlist
from gateway.content import Rendered
from gateway.dispatch.reserve import Reservation
from gateway.dispatch.tokens import TokenCache
from gateway.dispatch.transport import MaybeSent, NotSent, Timeouts, Transport, Wire
from gateway.observability.logs import get_logger
from providers.contract import (
    Adapter,
    Ambiguous,
    CannotReach,
    Context,
    HttpResponse,
    Message,
    Outcome,
    ProviderTemplate,
    Refused,
    Token,
)
from schemas.vocabulary import Failure, FailureScope

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TemplateMapping:
    """How the provider knows one template: `params` maps its parameter names to our slots."""

    code: str
    sign: str | None
    params: Mapping[str, str]


@dataclass(slots=True)
class Provider:
    """One row of the configuration, ready to send.  `templates` is keyed (template, stage or "*", locale or "*").

    Its credentials never change: a rotation makes another one (`renewed`), and a message goes by the one that it was
    routed to.  So whatever is built for one message is built with one set.
    """

    name: str
    adapter: Adapter
    settings: Any = field(repr=False)
    timeouts: Timeouts
    reservation: Reservation
    transport: Transport = field(repr=False)
    wall_clock: Callable[[], dt.datetime]
    allowlist: Allowlist | None  # the last fence: None where nobody is left out
    templates: Mapping[tuple[str, str, str], TemplateMapping] = field(default_factory=dict)
    callback_base: str | None = field(default=None, repr=False)  # public URL plus /callbacks/<provider>/<token>
    ttl_seconds: int | None = None
    price: int = 0  # of a segment of an SMS, of a push, of a call; in millionths
    on_token: Callable[[str, Token | Refused], None] = lambda provider, answer: None
    _tokens: TokenCache | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.adapter.needs_token:
            self._tokens = TokenCache(
                build=lambda: self.adapter.token_request(self.settings, self._context(None, None)),
                parse=self.adapter.parse_token,
                fetch=self.transport.post,
                clock=time.monotonic,
                on_answer=partial(self.on_token, self.name),
            )

    def renewed(self, settings: Any, callback_base: str | None) -> Provider:
        """The same with other credentials, over the same connections, slots and circuits.

        An access token that was got with other settings is not passed on.
        """
        fresh = replace(self, settings=settings, callback_base=callback_base, _tokens=None)
        if settings == self.settings:
            fresh._tokens = self._tokens
        return fresh

    def template(self, name: str, stage: str, rendered: Rendered) -> ProviderTemplate | None:
        """The provider's own template for ours, filled; None when the configuration maps none."""
        found = next(
            (
                self.templates[key]
                for key in (
                    (name, stage, rendered.locale),
                    (name, "*", rendered.locale),
                    (name, stage, "*"),
                    (name, "*", "*"),
                )
                if key in self.templates
            ),
            None,
        )
        if found is None:
            return None
        params = {theirs: str(rendered.slots.get(ours, "")) for theirs, ours in found.params.items()}
        return ProviderTemplate(found.code, found.sign, params)

    async def token(self) -> Token | Refused | None:
        """The access token, None for a provider that needs none."""
        if self._tokens is None:
            return None
        try:
            return await self._tokens.get()
        except Exception as error:  # of an adapter: most likely a key that signs nothing
            log.error("token_not_fetched", provider=self.name, exc_info=error)
            return Refused(Failure.BAD_CONFIG, FailureScope.ACCOUNT, "token_error")

    def reject_token(self, token: Token) -> None:
        if self._tokens is not None:
            self._tokens.reject(token)

    def callback_url(self, reference: str) -> str | None:
        """Where the provider calls back about one attempt; None where it does not."""
        return None if self.callback_base is None else f"{self.callback_base}/{reference}"

    async def post(
        self, message: Message, token: Token | None, may_start: Callable[[], bool]
    ) -> HttpResponse | NotSent | MaybeSent:
        """Builds the request and makes it, once, unless `may_start` says no when the first byte would leave.

        Nothing is built for an address that is not listed, whoever decided to send it: there is no other way out.
        """
        if self.allowlist is not None and not self.allowlist.lists(message.address):
            log.error("address_not_allowlisted", provider=self.name, attempt=message.reference)
            return NotSent(Wire.NOT_ALLOWLISTED)
        context = self._context(token, self.callback_url(message.reference))
        try:
            request = self.adapter.build_request(message, self.settings, context)
        except CannotReach:
            return NotSent(Wire.CANNOT_REACH)
        except Exception as error:
            log.error("request_not_built", provider=self.name, attempt=message.reference, exc_info=error)
            return NotSent(Wire.BAD_REQUEST)
        return await self.transport.post(request, may_start)

    def classify(self, message: Message, answer: HttpResponse) -> Outcome:
        """What the answer means; ambiguous when the adapter cannot say."""
        try:
            outcome = self.adapter.classify_response(answer)
        except Exception as error:
            log.error("answer_not_classified", provider=self.name, attempt=message.reference, exc_info=error)
            return Ambiguous("adapter_error")
        if isinstance(outcome, Refused) and outcome.code in self.adapter.alerts:
            log.error("refused_by_our_fault", provider=self.name, attempt=message.reference, code=outcome.code)
        return outcome

    def _context(self, token: Token | None, callback_url: str | None) -> Context:
        return Context(
            now=self.wall_clock(),
            nonce=f"{random.getrandbits(128):032x}",
            access_token=None if token is None else token.value,
            callback_url=callback_url,
        )
