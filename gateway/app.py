"""The only composition root: builds every component, starts them in order, stops them in reverse.

On SIGTERM: not ready, stop reading Kafka, stop claiming and drain what is in hand, take the receipts that still come,
flush the outbox, leave the lease, leave.  The arithmetic of the budget is in `config.shutdown`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import UnknownError, UnsupportedVersionError
from prometheus_client import CollectorRegistry, ProcessCollector

from gateway import internal
from gateway.clock import AnchoredClock
from gateway.config import Config, Lender, Role
from gateway.config import Provider as ProviderConfig
from gateway.content import DEFAULT_TEMPLATES, Catalogue
from gateway.dispatch.dispatcher import Dispatcher, Limits
from gateway.dispatch.pipeline import LenderRoutes, Steps
from gateway.dispatch.provider import Provider, TemplateMapping
from gateway.dispatch.reserve import Reservation
from gateway.dispatch.send import Retries
from gateway.dispatch.transport import Timeouts, Transport
from gateway.ids import to_reference
from gateway.intake.consumer import Consumer
from gateway.intake.decode import Decoder, LenderFacts
from gateway.intake.intake import FreezeRule, Intake
from gateway.intake.positions import Positions
from gateway.ledger import schema, timeline, workers
from gateway.ledger.database import Database
from gateway.ledger.follow import Move, Rules
from gateway.lifecycle import Lifecycle
from gateway.observability.gauges import GaugeRefresher
from gateway.observability.logs import get_logger
from gateway.observability.loop_lag import LoopLag
from gateway.observability.metrics import Metrics
from gateway.public.http import CallbackRoute, PublicApi
from gateway.public.listener import Listener, PublicLimits
from gateway.receipts.inbox import ReceiptInbox
from gateway.recovery import Recovery
from gateway.relay import KafkaPublisher, Relay
from gateway.worker import Worker
from providers.catalog import discover
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC
from schemas.vocabulary import Channel, Failure, FailureScope

log = get_logger(__name__)


class Application:
    """The whole service.  `run` returns the process's exit code."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = asyncio.Event()
        self._failed: str | None = None
        self._lifecycle = Lifecycle(config.shutdown.budget_seconds)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._loop_lag = LoopLag(self.registry)
        self.health = internal.Health(lag=self._loop_lag.current)
        channels = {name: discover()[each.adapter].channel for name, each in config.providers.items()}
        self.metrics = Metrics(self.registry, channels, _held)
        self.public_port: int | None = None
        self.internal_port: int | None = None

    # --- life -----------------------------------------------------------------------------------------------------

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> int:
        """Runs until SIGTERM, SIGINT or a component gives up; 0 after a clean stop, 1 after a failure."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            await self.start()
            log.info("ready", public_port=self.public_port, internal_port=self.internal_port)
            on_ready()
            await self._stop.wait()
        except Exception as error:
            self._failed = "start_failed"
            log.error("start_failed", exc_info=error)
        log.info("stopping", reason=self._failed or "asked")
        self.health.stop()
        # Whoever routes work here needs a moment to see it.
        await asyncio.sleep(self._config.shutdown.not_ready_seconds)
        late = await self._lifecycle.stop()
        log.info("stopped", reason=self._failed or "asked", late=late)
        return 1 if self._failed else 0

    def stop(self) -> None:
        """Asks for a clean stop; safe to call again."""
        self._stop.set()

    def fatal(self, reason: str) -> None:
        """A component cannot go on: stop, and say so with the exit code."""
        self._failed = self._failed or reason
        log.error("fatal", reason=reason)
        self._stop.set()

    async def start(self) -> None:
        """Starts every component in order; on failure `Lifecycle.stop` undoes what was started."""
        config, shutdown = self._config, self._config.shutdown
        await self._start_internal()
        database = await self._open_database()
        clock = AnchoredClock(await _database_time(database))

        worker = Worker(
            database,
            clock,
            config.dispatch.lease_seconds,
            config.dispatch.heartbeat_seconds,
            self.metrics,
            relays=Role.RELAY in config.roles,
        )
        await worker.start()
        self._lifecycle.on_stop("worker", worker.stop, shutdown.leave_seconds)
        self.health.needs("ledger", worker.trouble)

        catalogue = Catalogue.load(config.templates_path or DEFAULT_TEMPLATES)
        sealer = config.sealing.sealer()
        rules = _rules(config)
        providers = await self._open_providers(clock)

        relay = await self._start_relay(database, worker, clock)
        receipts = ReceiptInbox(
            database, worker, clock, sealer, rules, self.metrics, relay.wake, partial(_receipt_failed, providers)
        )
        await receipts.start()
        self._lifecycle.on_stop("receipts", receipts.stop, shutdown.flush_seconds)

        steps = Steps(catalogue, sealer, _lenders(config), providers)
        dispatcher = Dispatcher(
            database, worker, clock, steps, rules, _limits(config), _retries(config), self.metrics, relay.wake
        )
        recovery = Recovery(database, worker, clock, rules, lambda: dispatcher.in_hand, self.metrics, dispatcher.wake)
        await recovery.start()
        self._lifecycle.on_stop("recovery", recovery.stop, shutdown.leave_seconds)

        await self._start_public(database, clock, receipts, providers)

        if Role.DISPATCH in config.roles:
            await dispatcher.start()
            self._lifecycle.on_stop("dispatch", dispatcher.stop, shutdown.flush_seconds)
            self._lifecycle.on_stop(
                "drain", lambda: dispatcher.drain(shutdown.drain_seconds), shutdown.drain_seconds + 3
            )
        if Role.INTAKE in config.roles:
            gauges = self._start_gauges(database, clock)
            intake = self._intake(database, worker, clock, catalogue, sealer, rules, dispatcher, relay, gauges)
            await intake.start()
            self.health.follows("intake", intake.trouble)
            self._lifecycle.on_stop("intake", lambda: intake.stop(shutdown.leave_seconds), shutdown.leave_seconds + 6)
        else:
            self._start_gauges(database, clock)
        self.health.started()

    # --- parts ----------------------------------------------------------------------------------------------------

    async def _start_internal(self) -> None:
        http = self._config.http
        self._background("loop lag", self._loop_lag.run())
        app = internal.build(self.registry, self.health)
        self.internal_port = await self._listen("internal http", app, http.internal_host, http.internal_port)

    async def _open_database(self) -> Database:
        settings = self._config.database
        database = Database(
            settings.dsn.get_secret_value(),
            size=settings.pool_size,
            statement_timeout_ms=int(settings.statement_timeout_seconds * 1000),
            statement_cache=settings.statement_cache,
        )
        await database.open()
        self._lifecycle.on_stop("database", database.close, self._config.shutdown.leave_seconds)
        async with database.connection() as connection:
            await schema.check(connection)
        return database

    async def _open_providers(self, clock: AnchoredClock) -> dict[str, Provider]:
        adapters = discover()
        opened = {}
        for name, each in self._config.providers.items():
            timeouts = Timeouts(each.connect_timeout_seconds, each.read_timeout_seconds, each.total_timeout_seconds)
            transport = Transport(timeouts, each.concurrency)
            await transport.open()
            self._lifecycle.on_stop(f"transport {name}", transport.close, 2)
            reservation = Reservation(
                each.concurrency,
                each.rate_per_second,
                each.burst,
                asyncio.get_running_loop().time,
                partial(_circuit_opened, name),
            )
            self.metrics.watch_circuits(name, reservation.circuits.states)
            opened[name] = Provider(
                name=name,
                adapter=adapters[each.adapter],
                settings=each.settings,
                timeouts=timeouts,
                reservation=reservation,
                transport=transport,
                wall_clock=clock.now,
                templates=_templates(each),
                callback_base=self._callback_base(name),
                ttl_seconds=each.ttl_seconds,
            )
        return opened

    def _callback_base(self, name: str) -> str | None:
        each = self._config.providers[name]
        if not each.callback_tokens:
            return None
        return (
            f"{self._config.http.public_url.rstrip('/')}/callbacks/{name}/{each.callback_tokens[0].get_secret_value()}"
        )

    async def _start_relay(self, database: Database, worker: Worker, clock: AnchoredClock) -> Relay:
        config = self._config
        publisher = KafkaPublisher(lambda: _producer(config))
        await publisher.start()
        self._lifecycle.on_stop("producer", publisher.stop, config.shutdown.leave_seconds)
        topics = {EVENTS_TOPIC: config.kafka.events_topic, DEADLETTERS_TOPIC: config.kafka.deadletters_topic}
        # A process whose heart has missed two beats has no share in the publishing.
        alive_for = dt.timedelta(seconds=config.dispatch.lease_seconds - 2.5 * config.dispatch.heartbeat_seconds)
        relay = Relay(database, worker, publisher, topics, self.metrics, clock.now, alive_for)
        if Role.RELAY in config.roles:
            await relay.start()
            self.health.follows("relay", relay.trouble)
            seconds = config.shutdown.flush_seconds
            self._lifecycle.on_stop("relay", lambda: relay.stop(seconds), seconds + 2)
        return relay

    async def _start_public(
        self,
        database: Database,
        clock: AnchoredClock,
        receipts: ReceiptInbox,
        providers: Mapping[str, Provider],
    ) -> None:
        config = self._config
        if Role.CALLBACKS not in config.roles:
            return
        routes = {
            name: CallbackRoute(
                provider.adapter,
                provider.settings,
                tuple(each.get_secret_value() for each in config.providers[name].callback_tokens),
            )
            for name, provider in providers.items()
            if config.providers[name].callback_tokens
        }

        limits = PublicLimits(
            config.http.max_body_bytes,
            config.http.read_timeout_seconds,
            config.http.idle_timeout_seconds,
            config.http.max_connections,
        )

        async def push_provider(attempt: int) -> str | None:
            async with database.connection() as connection:
                return await timeline.push_provider(connection, attempt)

        api = PublicApi(
            routes,
            push_provider,
            [each.get_secret_value() for each in config.http.app_tokens],
            config.http.public_url,
            limits,
            receipts.keep,
            clock.now,
            self.metrics,
        )
        listener = Listener(api.handle, limits)
        self.public_port = await listener.start(config.http.public_host, config.http.public_port)
        self._lifecycle.on_stop("public http", listener.stop, 3)

    async def _listen(self, name: str, app: web.Application, host: str, port: int) -> int:
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2)
        await runner.setup()
        self._lifecycle.on_stop(name, runner.cleanup, 3)
        site = web.TCPSite(runner, host, port, reuse_port=False)
        await site.start()
        bound: int = runner.addresses[0][1]
        return bound

    def _start_gauges(self, database: Database, clock: AnchoredClock) -> GaugeRefresher:
        gauges = GaugeRefresher(self.registry, database, clock)
        self._background("gauges", gauges.run())
        return gauges

    def _background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A loop that runs until the stop."""
        task = asyncio.create_task(work, name=name)

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._lifecycle.on_stop(name, stop, 1)

    def _intake(
        self,
        database: Database,
        worker: Worker,
        clock: AnchoredClock,
        catalogue: Catalogue,
        sealer: Any,
        rules: Rules,
        dispatcher: Dispatcher,
        relay: Relay,
        gauges: GaugeRefresher,
    ) -> Intake:
        config = self._config
        settings = config.intake
        positions = Positions(database, config.kafka.requests_topic, self.metrics.offset_reset)

        def make_consumer(write: Any) -> Consumer:
            return Consumer(
                AIOKafkaConsumer(**_consumer_options(config)),
                config.kafka.requests_topic,
                positions,
                write,
                lambda: gauges.due_rows >= settings.backlog_limit,
                self.metrics.consumer_lag,
                self.metrics.paused,
                self.metrics.assigned,
            )

        lenders = {name: LenderFacts(each.name, each.default_locale) for name, each in config.lenders.items()}
        rule = FreezeRule(
            settings.freeze_share, settings.freeze_min_records, dt.timedelta(seconds=settings.freeze_window_seconds)
        )
        return Intake(
            database,
            worker,
            clock,
            Decoder(lenders=lenders, catalogue=catalogue, sealer=sealer),
            config.kafka.requests_topic,
            rules,
            rule,
            make_consumer,
            dispatcher if config.dispatch.fast_path and Role.DISPATCH in config.roles else None,
            dispatcher.wake,
            relay.wake,
            self.metrics,
            self.fatal,
            settings.watchdog_seconds,
            config.kafka.rebalance_timeout_seconds,
        )


async def _database_time(database: Database) -> dt.datetime:
    async with database.connection() as connection:
        return await workers.clock(connection)


def _circuit_opened(provider: str, scope: FailureScope, failure: Failure, seconds: float) -> None:
    log.error("circuit_opened", provider=provider, scope=scope, failure=failure, seconds=round(seconds, 1))


def _receipt_failed(providers: Mapping[str, Provider], provider: str, failure: Failure, scope: FailureScope) -> None:
    """A receipt that speaks of more than its recipient counts like an answer.  Whose template it was, nobody knows."""
    known = providers.get(provider)
    if known is not None and scope is not FailureScope.TEMPLATE:
        known.reservation.failed(failure, scope, "", None, known.reservation.clock())


def _held(move: Move) -> None:
    """Somebody has to look at it: a page, or the morning's list."""
    log.error("reminder_held", reminder=to_reference(move.was.id), reason=move.reason)


def _rules(config: Config) -> Rules:
    dispatch = config.dispatch
    return Rules(
        receipt_window={name: dt.timedelta(hours=each.receipt_window_hours) for name, each in config.providers.items()},
        resend=frozenset((name, stage) for name, each in config.providers.items() for stage in each.resends()),
        backoff_base=dt.timedelta(seconds=dispatch.backoff_base_seconds),
        backoff_cap=dt.timedelta(seconds=dispatch.backoff_cap_seconds),
        max_tries=dispatch.max_tries,
        max_rescues=dispatch.max_rescues,
        routes={name: _routes(each) for name, each in config.lenders.items()},
    )


def _limits(config: Config) -> Limits:
    dispatch = config.dispatch
    return Limits(
        slots=dispatch.slots,
        urgent_share=dispatch.urgent_share,
        claim_batch=dispatch.claim_batch,
        poll_seconds=dispatch.poll_interval_seconds,
    )


def _retries(config: Config) -> Retries:
    return Retries(attempts=config.dispatch.retry_attempts)


def _lenders(config: Config) -> dict[str, LenderRoutes]:
    return {name: LenderRoutes(each.name, each.default_locale, _routes(each)) for name, each in config.lenders.items()}


def _routes(lender: Lender) -> dict[Channel, str]:
    return {Channel(channel): provider for channel, provider in lender.routes.items()}


def _templates(provider: ProviderConfig) -> dict[tuple[str, str, str], TemplateMapping]:
    return {key: TemplateMapping(each.code, each.sign, each.params) for key, each in provider.mappings().items()}


def _consumer_options(config: Config) -> dict[str, Any]:
    kafka = config.kafka
    return {
        **config.kafka.client_options(),
        "group_id": kafka.group,
        "enable_auto_commit": False,
        # Never guess a place to start: an unknown or lost offset raises, and intake decides, loudly.
        "auto_offset_reset": "none",
        # What an upstream's transaction has taken back was never said.
        "isolation_level": "read_committed",
        "max_poll_records": kafka.max_poll_records,
        "session_timeout_ms": int(kafka.session_timeout_seconds * 1000),
        "heartbeat_interval_ms": int(kafka.session_timeout_seconds * 1000 / 5),
        "rebalance_timeout_ms": int(kafka.rebalance_timeout_seconds * 1000),
        "max_poll_interval_ms": int(kafka.max_poll_interval_seconds * 1000),
    }


async def _producer(config: Config) -> AIOKafkaProducer:
    """An idempotent producer where the broker has it, else acks=all: at least once either way."""
    options = {
        **config.kafka.client_options(),
        "acks": "all",
        "max_batch_size": 256 * 1024,
        "request_timeout_ms": 5_000,
    }
    producer = AIOKafkaProducer(**options, enable_idempotence=True)
    try:
        await producer.start()
        return producer
    except (UnsupportedVersionError, UnknownError):
        # What brokers without producer ids answer.  A producer that failed to start must still be stopped.
        await producer.stop()
    except BaseException:
        await producer.stop()
        raise
    log.warning("producer_not_idempotent")
    producer = AIOKafkaProducer(**options)
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer


__all__: Sequence[str] = ("Application",)
