"""What a reminder leaves by: the providers, the lenders' own services that are asked before, and who sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from gateway import parameters
from gateway.composition.ground import Ground
from gateway.config import Config
from gateway.dispatch.dispatcher import Dispatcher
from gateway.dispatch.pipeline import Steps
from gateway.dispatch.provider import Provider
from gateway.dispatch.question import Question
from gateway.dispatch.reserve import Reservation
from gateway.observability.logs import get_logger
from providers.catalog import discover
from schemas.vocabulary import Failure, FailureScope

log = get_logger(__name__)


def providers(ground: Ground) -> dict[str, Provider]:
    """By name.  A rotation puts another one in a name's place."""
    adapters = discover()
    made = {}
    for name, each in ground.config.providers.items():
        reservation = Reservation(
            each.concurrency,
            each.rate_per_second,
            each.burst,
            asyncio.get_running_loop().time,
            partial(_circuit_opened, name),
        )
        ground.metrics.watch_circuits(name, reservation.circuits.states)
        made[name] = Provider(
            name=name,
            adapter=adapters[each.adapter],
            settings=each.settings,
            timeouts=parameters.timeouts(each),
            reservation=reservation,
            transport=parameters.transport(ground.config, each),
            wall_clock=ground.clock.now,
            allowlist=ground.allowlist,
            templates=parameters.templates(each),
            callback_base=parameters.callback_base(ground.config, name),
            ttl_seconds=each.ttl_seconds,
            price=parameters.millionths(each.price) or 0,
            on_token=ground.metrics.token,
        )
    ground.in_force.taken_by(partial(_rotate_providers, made))
    return made


def questions(ground: Ground) -> dict[str, Question]:
    """By lender; who has no service of its own is not among them."""
    made = {}
    for name, lender in ground.config.lenders.items():
        if (each := lender.question) is None:
            continue
        clock = asyncio.get_running_loop().time
        made[name] = question = Question(
            each.url,
            each.token.get_secret_value(),
            parameters.question_transport(ground.config, each),
            Reservation(each.concurrency, each.rate_per_second, None, clock, partial(_question_failed, name)),
            each.cache_seconds,
            ground.clock.now,
            ground.metrics.asked,
            each.requests,
        )
        ground.in_force.taken_by(partial(_rotate_question, name, question))
    return made


def dispatcher(
    ground: Ground,
    providers: Mapping[str, Provider],
    questions: Mapping[str, Question],
    on_events: Callable[[], None],
    on_key_unknown: Callable[[int | None], None],
) -> Dispatcher:
    config = ground.config
    return Dispatcher(
        ground.database,
        ground.worker,
        ground.clock,
        Steps(
            ground.catalogue,
            ground.sealer,
            parameters.lenders(config),
            providers,
            config.mode,
            ground.allowlist,
            on_key_unknown,
            parameters.max_fact_ages(ground.cadences),
            questions,
        ),
        ground.rules,
        parameters.limits(config),
        parameters.retries(config),
        ground.metrics,
        on_events,
        ground.tracer,
    )


def _rotate_providers(made: dict[str, Provider], was: Config | None, now: Config) -> None:
    """What is routed from now on goes by the new credentials; what was routed before, by the old ones."""
    for name, each in now.providers.items():
        if was is None or each != was.providers[name]:
            made[name] = made[name].renewed(each.settings, parameters.callback_base(now, name))
        if was is None or (each.outbound, now.outbound) != (was.providers[name].outbound, was.outbound):
            made[name].transport.renew(*parameters.outbound(now, each))


def _rotate_question(lender: str, question: Question, was: Config | None, now: Config) -> None:
    known = now.lenders[lender].question
    assert known is not None
    question.renew(known.url, known.token.get_secret_value())
    if was is None or now.outbound != was.outbound:
        question.transport.renew(*parameters.common_outbound(now))


def _circuit_opened(provider: str, scope: FailureScope, failure: Failure, seconds: float) -> None:
    log.error("circuit_opened", provider=provider, scope=scope, failure=failure, seconds=round(seconds, 1))


def _question_failed(lender: str, scope: FailureScope, failure: Failure, seconds: float) -> None:
    log.error("question_circuit_opened", lender=lender, failure=failure, seconds=round(seconds, 1))
