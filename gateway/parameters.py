"""What the configuration means to the components: their own values, made of its."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable, Mapping
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from gateway.allowlist import Allowlist
from gateway.cadence.loading import PACKAGED, Cadences
from gateway.cadence.loading import load as load_cadences
from gateway.cadence.model import Cadence, duration
from gateway.config import DEFAULT, Config, Kafka, Lender, Tracing
from gateway.config import Provider as ProviderConfig
from gateway.config.question import Question as QuestionConfig
from gateway.content import Catalogue
from gateway.dispatch.dispatcher import Limits
from gateway.dispatch.pipeline import LenderRoutes
from gateway.dispatch.provider import TemplateMapping
from gateway.dispatch.send import Retries
from gateway.dispatch.transport import Proxy, Timeouts, Transport
from gateway.ids import IdSource
from gateway.intake.decode import LenderFacts
from gateway.intake.decode_facts import CadenceOf, FactDecoder
from gateway.intake.intake import FreezeRule
from gateway.intake.planner import Planner
from gateway.ledger.climbing import climbs
from gateway.ledger.quotas import MILLIONTHS, Quota, Quotas
from gateway.ledger.standing import Rules
from gateway.lifecycle import Phase
from gateway.public.http import CallbackRoute
from gateway.public.listener import PublicLimits
from gateway.sealing import Sealer
from providers.contract import Adapter
from schemas.vocabulary import Channel, Mode


def phases(config: Config) -> dict[Phase, float]:
    shutdown = config.shutdown
    return {
        Phase.DRAIN: shutdown.drain_seconds,
        Phase.FLUSH: shutdown.flush_seconds,
        Phase.LEAVE: shutdown.leave_seconds,
    }


# --- ledger and dispatch ----------------------------------------------------------------------------------------------


def rules(config: Config, cadences: Cadences, adapters: Mapping[str, Adapter]) -> Rules:
    """With what every version of every cadence says, also those that only plans of long ago were made with."""
    dispatch = config.dispatch
    return Rules(
        receipt_window={name: dt.timedelta(hours=each.receipt_window_hours) for name, each in config.providers.items()},
        resend=frozenset((name, stage) for name, each in config.providers.items() for stage in each.resends()),
        backoff_base=dt.timedelta(seconds=dispatch.backoff_base_seconds),
        backoff_cap=dt.timedelta(seconds=dispatch.backoff_cap_seconds),
        max_tries=dispatch.max_tries,
        max_rescues=dispatch.max_rescues,
        release_per_second=dispatch.release_per_second,
        routes={name: _routes(each) for name, each in config.lenders.items()},
        quotas=quotas(config),
        climbs={occasion: climb for each in cadences for occasion, climb in climbs(each).items()},
        receipts=frozenset(
            name for name, each in config.providers.items() if _tells(config, each, adapters[each.adapter])
        ),
        replaces=frozenset(name for name, each in config.providers.items() if adapters[each.adapter].replaces),
        call_centre={
            name: each.call_centre_per_hour
            for name, each in config.lenders.items()
            if each.call_centre_per_hour is not None
        },
    )


def _tells(config: Config, provider: ProviderConfig, adapter: Adapter) -> bool:
    """Whether anybody tells what became of a message: the provider, or of a push the lender's app."""
    if adapter.channel is Channel.PUSH and config.http.app_tokens:
        return True
    return adapter.receipts and bool(provider.callback_tokens)


def quotas(config: Config) -> Quotas | None:
    """None where nothing is bounded: then nothing is counted either."""
    brakes = config.brakes
    if not brakes.sources and not brakes.lenders:
        return None
    sources = {name: Quota(each.per_hour, each.per_day) for name, each in brakes.sources.items()}
    lenders = {
        name: Quota(each.per_hour, each.per_day, millionths(each.spend_per_day))
        for name, each in brakes.lenders.items()
    }
    return Quotas(sources, lenders, sources.pop(DEFAULT, None), lenders.pop(DEFAULT, None), brakes.timezone)


def millionths(amount: Decimal | None) -> int | None:
    """Exact: an amount has six decimals at most."""
    return None if amount is None else int(amount * MILLIONTHS)


def amount(millionths: int) -> str:
    """For people, with no more decimals than it has."""
    return f"{(Decimal(millionths) / MILLIONTHS).normalize():f}"


def limits(config: Config) -> Limits:
    dispatch = config.dispatch
    return Limits(
        slots=dispatch.slots,
        urgent_share=dispatch.urgent_share,
        claim_batch=dispatch.claim_batch,
        poll_seconds=dispatch.poll_interval_seconds,
    )


def retries(config: Config) -> Retries:
    return Retries(attempts=config.dispatch.retry_attempts)


def lenders(config: Config) -> dict[str, LenderRoutes]:
    return {name: LenderRoutes(each.name, each.default_locale, _routes(each)) for name, each in config.lenders.items()}


def allowlist(config: Config, sealer: Sealer) -> Allowlist | None:
    """Who may be reached; None where nobody is left out."""
    match config.mode:
        case Mode.ALLOWLIST:
            return Allowlist(config.listed, sealer)
        case Mode.SIMULATE | Mode.LIVE:
            return None


def transport(config: Config, provider: ProviderConfig) -> Transport:
    tls, proxy = outbound(config, provider)
    simulated = config.mode is Mode.SIMULATE
    return Transport(timeouts(provider), provider.concurrency, tls, proxy=proxy, loopback_only=simulated)


def question_transport(config: Config, question: QuestionConfig) -> Transport:
    """The common way out."""
    seconds = question.timeout_seconds
    tls, proxy = common_outbound(config)
    simulated = config.mode is Mode.SIMULATE
    return Transport(
        Timeouts(seconds / 2, seconds, seconds), question.concurrency, tls, proxy=proxy, loopback_only=simulated
    )


def common_outbound(config: Config) -> tuple[ssl.SSLContext | None, Proxy | None]:
    found = None if config.mode is Mode.SIMULATE else config.outbound.proxy
    tls = config.outbound.tls
    return (None if tls is None else tls.context), (None if found is None else Proxy(*found))


def outbound(config: Config, provider: ProviderConfig) -> tuple[ssl.SSLContext | None, Proxy | None]:
    """Whose certificates count, None for the system's, and the proxy: the provider's own before the common ones.

    No proxy in mode simulate: nobody can say where it leads.
    """
    own, common = provider.outbound, config.outbound
    tls = own.tls or common.tls
    found = (own if own.proxy_url is not None else common).proxy
    proxy = None if found is None or config.mode is Mode.SIMULATE else Proxy(*found)
    return (None if tls is None else tls.context), proxy


def timeouts(provider: ProviderConfig) -> Timeouts:
    return Timeouts(provider.connect_timeout_seconds, provider.read_timeout_seconds, provider.total_timeout_seconds)


def templates(provider: ProviderConfig) -> dict[tuple[str, str, str], TemplateMapping]:
    return {key: TemplateMapping(each.code, each.sign, each.params) for key, each in provider.mappings().items()}


def relay_alive_for(config: Config) -> dt.timedelta:
    """A process whose heart has missed two beats has no share in the publishing."""
    return dt.timedelta(seconds=config.dispatch.lease_seconds - 2.5 * config.dispatch.heartbeat_seconds)


def _routes(lender: Lender) -> dict[Channel, str]:
    return {Channel(channel): provider for channel, provider in lender.routes.items()}


# --- spans ------------------------------------------------------------------------------------------------------------


def export(tracing: Tracing) -> dict[str, Any]:
    return {
        "endpoint": tracing.endpoint,
        "headers": trace_headers(tracing),
        "ca_file": tracing.ca_file,
        "service": tracing.service_name,
        "version": version("reminder-gateway"),
    }


def trace_headers(tracing: Tracing) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in tracing.headers.items()}


# --- callbacks --------------------------------------------------------------------------------------------------------


def callback_base(config: Config, provider: str) -> str | None:
    """The public address of a provider's callbacks, without the attempt; None when it has no token."""
    tokens = config.providers[provider].callback_tokens
    if not tokens:
        return None
    return f"{config.http.public_url.rstrip('/')}/callbacks/{provider}/{tokens[0].get_secret_value()}"


def callback_routes(config: Config, adapters: dict[str, Adapter]) -> dict[str, CallbackRoute]:
    return {
        name: CallbackRoute(
            adapters[each.adapter], each.settings, tuple(token.get_secret_value() for token in each.callback_tokens)
        )
        for name, each in config.providers.items()
        if each.callback_tokens
    }


def app_tokens(config: Config) -> tuple[str, ...]:
    return tuple(token.get_secret_value() for token in config.http.app_tokens)


def public_limits(config: Config) -> PublicLimits:
    http = config.http
    return PublicLimits(http.max_body_bytes, http.read_timeout_seconds, http.idle_timeout_seconds, http.max_connections)


# --- Kafka ------------------------------------------------------------------------------------------------------------


def lender_facts(config: Config) -> dict[str, LenderFacts]:
    return {name: LenderFacts(each.name, each.default_locale) for name, each in config.lenders.items()}


def freeze_rule(config: Config) -> FreezeRule:
    intake = config.intake
    return FreezeRule(
        intake.freeze_share, intake.freeze_min_records, dt.timedelta(seconds=intake.freeze_window_seconds)
    )


def cadences(config: Config) -> Cadences:
    return load_cadences(config.cadences_path or PACKAGED)


def max_fact_ages(cadences: Cadences) -> dict[str, dt.timedelta]:
    """By occasion, as a planned reminder names it."""
    return {
        f"{cadence}/{occasion.name}": duration(occasion.max_fact_age)
        for cadence in cadences
        for occasion in cadence.occasions
    }


def cadence_of(config: Config, cadences: Cadences) -> CadenceOf:
    """The version that a plan of a lender's product is made with at a moment."""

    def found(lender: str, product: str | None, at: dt.datetime) -> Cadence | None:
        settings = config.lenders.get(lender)
        return None if settings is None else cadences.in_force(settings.cadence_of(product), at.date())

    return found


def reachable(config: Config) -> dict[str, frozenset[Channel]]:
    """By which channels each lender's borrowers are reached."""
    return {name: frozenset(each.routes) for name, each in config.lenders.items()}


def fact_decoder(config: Config, cadences: Cadences, catalogue: Catalogue, sealer: Sealer) -> FactDecoder:
    return FactDecoder(
        lenders=lender_facts(config), catalogue=catalogue, sealer=sealer, cadence_of=cadence_of(config, cadences)
    )


def planner(config: Config, cadences: Cadences, sealer: Sealer, ids: Callable[[], IdSource]) -> Planner:
    return Planner(sealer, cadences, cadence_of(config, cadences), reachable(config), ids)


def consumer_options(kafka: Kafka, group: str | None = None) -> dict[str, Any]:
    return {
        **kafka.client_options(),
        "group_id": group or kafka.group,
        "enable_auto_commit": False,
        # Never guess a place to start: an unknown or lost offset raises, and intake decides, loudly.
        "auto_offset_reset": "none",
        # What an upstream's transaction has taken back was never said.
        "isolation_level": "read_committed",
        "max_poll_records": kafka.max_poll_records,
        "fetch_max_wait_ms": int(kafka.fetch_wait_seconds * 1000),
        "session_timeout_ms": int(kafka.session_timeout_seconds * 1000),
        "heartbeat_interval_ms": int(kafka.session_timeout_seconds * 1000 / 5),
        "rebalance_timeout_ms": int(kafka.rebalance_timeout_seconds * 1000),
        "max_poll_interval_ms": int(kafka.max_poll_interval_seconds * 1000),
    }


def producer_options(kafka: Kafka) -> dict[str, Any]:
    return {
        **kafka.client_options(),
        "acks": "all",
        "max_batch_size": 256 * 1024,
        "request_timeout_ms": 5_000,
    }
