"""What providers and the lenders' apps tell: the public listener, and the inbox that keeps what comes in by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from gateway import parameters
from gateway.calls import Calls
from gateway.composition.ground import Ground
from gateway.dispatch.provider import Provider
from gateway.ledger import timeline
from gateway.public.http import PublicApi
from gateway.public.listener import Listener
from gateway.receipts.inbox import ReceiptInbox
from providers.catalog import discover
from schemas.vocabulary import Failure, FailureScope


def receipts(ground: Ground, providers: Mapping[str, Provider], on_events: Callable[[], None]) -> ReceiptInbox:
    return ReceiptInbox(
        ground.database,
        ground.worker,
        ground.clock,
        ground.sealer,
        ground.rules,
        ground.metrics,
        on_events,
        partial(_receipt_failed, providers),
        tracer=ground.tracer,
    )


def listener(ground: Ground, receipts: ReceiptInbox) -> Listener:
    config, limits = ground.config, parameters.public_limits(ground.config)

    async def push_provider(attempt: int) -> str | None:
        async with ground.database.connection() as connection:
            return await timeline.push_provider(connection, attempt)

    adapters = discover()
    api = PublicApi(
        parameters.callback_routes(config, adapters),
        push_provider,
        Calls(ground.database, ground.sealer).answer,
        parameters.app_tokens(config),
        config.http.public_url,
        limits,
        receipts.keep,
        ground.clock.now,
        ground.metrics,
    )
    ground.in_force.taken_by(
        lambda was, now: api.admit(parameters.callback_routes(now, adapters), parameters.app_tokens(now))
    )
    return Listener(api.handle, limits)


def _receipt_failed(
    providers: Mapping[str, Provider], provider: str, failure: Failure, scope: FailureScope, template: str, age: float
) -> None:
    """A receipt that speaks of more than its recipient is the circuits' business, as an answer is."""
    known = providers.get(provider)
    if known is not None:
        known.reservation.failed_by_receipt(failure, scope, template, age)
