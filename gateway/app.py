"""The only composition root: builds every component and starts them in order; `life` stops them in reverse.

What a stop does, in this order: not ready, stop claiming and reading Kafka, drain what is in hand, take the receipts
that still come, flush the outbox, leave the lease, leave.  The seconds of each phase are in `config.shutdown`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web
from aiokafka import AIOKafkaConsumer
from prometheus_client import CollectorRegistry, ProcessCollector

from gateway import internal, parameters
from gateway.allowlist import Allowlist
from gateway.brokers import Brokers
from gateway.cadence.loading import Cadences
from gateway.calls import Calls
from gateway.clock import AnchoredClock, ProcessClock, VirtualClock
from gateway.config import Config, Role
from gateway.content import DEFAULT_TEMPLATES, Catalogue
from gateway.dispatch.dispatcher import Dispatcher
from gateway.dispatch.pipeline import Steps
from gateway.dispatch.provider import Provider
from gateway.dispatch.question import Question
from gateway.dispatch.reserve import Reservation
from gateway.dispatch.transport import Transport
from gateway.ids import to_reference
from gateway.inforce import InForce
from gateway.intake.consumer import Consumer
from gateway.intake.decode import Decoder
from gateway.intake.intake import Intake
from gateway.intake.keeper import Keeper
from gateway.intake.planner import Planner
from gateway.intake.positions import Positions
from gateway.intake.running import with_running
from gateway.ledger import schema, timeline, workers
from gateway.ledger.database import Database
from gateway.ledger.standing import Move, Rules
from gateway.life import Life
from gateway.lifecycle import Lifecycle, Phase, at_once, whenever
from gateway.observability.certificates import Certificates
from gateway.observability.gauges import GaugeRefresher
from gateway.observability.logs import get_logger
from gateway.observability.loop_lag import LoopLag
from gateway.observability.metrics import Door, Metrics
from gateway.observability.process import Capacity, show_mode, show_roles
from gateway.observability.reloads import Reloads
from gateway.public.http import PublicApi
from gateway.public.listener import Listener
from gateway.receipts.inbox import ReceiptInbox
from gateway.recovery import Recovery
from gateway.relay import KafkaPublisher, Relay, start_producer
from gateway.reload import Reload, Source
from gateway.sealing import Sealer
from gateway.tracing import Tracer
from gateway.worker import Worker
from providers.catalog import discover
from schemas.messages import CONTACTS, DEADLETTERS_TOPIC, EVENTS_TOPIC
from schemas.vocabulary import Failure, FailureScope, Mode

log = get_logger(__name__)

Wake = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Ground:
    """What most components stand on."""

    database: Database
    clock: ProcessClock
    worker: Worker
    sealer: Sealer
    rules: Rules
    allowlist: Allowlist | None
    tracer: Tracer | None
    cadences: Cadences
    planner: Planner | None  # where facts are read


class Application:
    """The whole service.  `run` returns the process's exit code."""

    def __init__(self, config: Config, source: Source | None = None, virtual: VirtualClock | None = None) -> None:
        """`source` is where the configuration came from; without one its secrets stay what they are.

        `virtual` replaces business time, for rehearsals against simulators; no configuration can ask for it.
        """
        if virtual is not None and config.mode is not Mode.SIMULATE:
            raise ValueError("business time is virtual in mode simulate only")
        self._virtual = virtual
        self._config = config  # what counts from the start; what rotates is asked for in `_in_force`
        self._in_force = InForce(config)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._loop_lag = LoopLag(self.registry)
        self.health = internal.Health(lag=self._loop_lag.current)
        self._lifecycle = Lifecycle(parameters.phases(config))
        self._life = Life(self._lifecycle, self.health, config.shutdown.not_ready_seconds)
        channels = {name: discover()[each.adapter].channel for name, each in config.providers.items()}
        self.metrics = Metrics(self.registry, channels, _held)
        show_mode(self.registry, config.mode)
        show_roles(self.registry, config.roles)
        self._capacity = Capacity(self.registry)
        self._reloads = Reloads(self.registry)
        self._reloads.started(config, time.time())
        self._reload = None
        if source is not None:
            self._reload = Reload(source, self._in_force, self._reloads, config.secrets.reload_seconds)
        self._brokers = Brokers(self._client_options)
        self.public_port: int | None = None
        self.internal_port: int | None = None

    # --- life -----------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Runs until SIGTERM, SIGINT or a component gives up; 0 after a clean stop, 1 after a failure."""

        def announce() -> None:
            log.info("ready", public_port=self.public_port, internal_port=self.internal_port)

        return await self._life.run(self.start, self.reload, announce)

    def _client_options(self) -> dict[str, Any]:
        """Of the brokers as they are in force when it is asked."""
        return self._in_force.config.kafka.client_options()

    def stop(self) -> None:
        """Asks for a clean stop; safe to call again."""
        self._life.stop()

    def reload(self) -> None:
        """Asks for a look at the secrets; safe to call again."""
        if self._reload is not None:
            self._reload.ask()

    async def start(self) -> None:
        """Starts every component in order; on failure `Lifecycle.stop` undoes what was started."""
        roles = self._config.roles
        await self._start_internal()
        tracer = self._tracer()
        ground = await self._start_ground(tracer)
        catalogue = Catalogue.load(self._config.templates_path or DEFAULT_TEMPLATES)
        providers = await self._open_providers(ground)
        gauges = self._start_gauges(ground)
        self._lifecycle.on_stop("brokers", whenever(self._brokers.stop))
        self._in_force.taken_by(partial(_renew_client, self._brokers.renewed))
        on_events = await self._start_relay(ground) if Role.RELAY in roles else _nobody
        receipts = await self._start_receipts(ground, providers, on_events)
        questions = await self._open_questions(ground)
        dispatcher = self._dispatcher(ground, catalogue, providers, questions, on_events)
        await self._start_recovery(ground, dispatcher)
        if Role.CALLBACKS in roles:
            await self._start_public(ground, receipts)
        if Role.DISPATCH in roles:
            self._capacity.watch_slots(self._config.dispatch.slots, lambda: len(dispatcher.in_hand))
            await dispatcher.start()
            self._lifecycle.on_stop("dispatch", whenever(dispatcher.stop), Phase.FLUSH)
            self._lifecycle.on_stop("drain", dispatcher.drain, Phase.DRAIN)
        if Role.INTAKE in roles:
            await self._start_intake(ground, catalogue, dispatcher, on_events, gauges)
            if (topic := self._config.kafka.repayments_topic) is not None:
                await self._start_plans(ground, catalogue, dispatcher, on_events, topic)
        self._lifecycle.on_stop("claiming", at_once(dispatcher.stop_claiming), Phase.DRAIN)
        if self._reload is not None:  # last: everybody who takes something is there
            self._lifecycle.background("reload", self._reload.run())

    # --- parts ----------------------------------------------------------------------------------------------------

    async def _start_internal(self) -> None:
        http = self._config.http
        self._lifecycle.background("loop lag", self._loop_lag.run())
        self._lifecycle.background("certificates", Certificates(self.registry, self._config).run())
        runner = web.AppRunner(
            internal.build(self.registry, self.health, self._config.mode),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1,
        )
        await runner.setup()
        self._lifecycle.on_stop("internal http", whenever(runner.cleanup))
        await web.TCPSite(runner, http.internal_host, http.internal_port, reuse_port=False).start()
        self.internal_port = runner.addresses[0][1]

    def _tracer(self) -> Tracer | None:
        """Before everybody who tells it something, so that it stops after them."""
        settings = self._config.tracing
        if settings is None:
            return None
        from gateway.tracing.otlp import Export  # an extra

        export = Export(**parameters.export(settings), registry=self.registry)
        self._lifecycle.on_stop("spans", export.stop)

        def take(was: Config | None, now: Config) -> None:
            if now.tracing is not None and (was is None or was.tracing != now.tracing):
                export.renew(parameters.trace_headers(now.tracing))

        self._in_force.taken_by(take)
        return Tracer(export, settings.sample_ratio)

    async def _start_ground(self, tracer: Tracer | None) -> _Ground:
        config, settings = self._config, self._config.database
        cadences = parameters.cadences(config)
        database = Database(
            settings.dsn.get_secret_value(),
            size=settings.pool_size,
            statement_timeout_ms=int(settings.statement_timeout_seconds * 1000),
            statement_cache=settings.statement_cache,
        )
        await database.open()
        self._lifecycle.on_stop("database", whenever(database.close))
        async with database.connection() as connection:
            await schema.check(connection)
            cadences = await with_running(connection, cadences)
            clock = self._virtual or AnchoredClock(await workers.clock(connection))
        worker = Worker(
            database,
            clock,
            config.dispatch.lease_seconds,
            config.dispatch.heartbeat_seconds,
            self.metrics,
            relays=Role.RELAY in config.roles,
        )
        await worker.start()
        self._lifecycle.on_stop("worker", whenever(worker.stop))
        self._capacity.watch_pool(settings.pool_size, database.connections)
        self._capacity.watch_lease(lambda: worker.lease.left)
        self.health.needs("ledger", worker.trouble)
        sealer = config.sealing.sealer()

        def take(was: Config | None, now: Config) -> None:
            sealer.replace_keys(now.sealing.key_bytes(), now.sealing.current)
            if was is None or now.database.dsn != was.database.dsn:
                database.log_in_as(now.database.dsn.get_secret_value())

        self._in_force.taken_by(take)
        allowlist = parameters.allowlist(config, sealer)
        rules = parameters.rules(config, cadences, discover())
        planner = None
        if config.kafka.repayments_topic is not None:
            planner = parameters.planner(config, cadences, sealer, lambda: worker.ids)
        return _Ground(database, clock, worker, sealer, rules, allowlist, tracer, cadences, planner)

    async def _open_providers(self, ground: _Ground) -> dict[str, Provider]:
        adapters = discover()
        opened = {}
        for name, each in self._config.providers.items():
            transport = parameters.transport(self._config, each)
            await transport.open()
            self._lifecycle.on_stop(f"transport {name}", whenever(transport.close))
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
                timeouts=parameters.timeouts(each),
                reservation=reservation,
                transport=transport,
                wall_clock=ground.clock.now,
                allowlist=ground.allowlist,
                templates=parameters.templates(each),
                callback_base=parameters.callback_base(self._config, name),
                ttl_seconds=each.ttl_seconds,
                price=parameters.millionths(each.price) or 0,
                on_token=self.metrics.token,
            )
        self._in_force.taken_by(partial(self._rotate_providers, opened))
        return opened

    def _rotate_providers(self, opened: dict[str, Provider], was: Config | None, now: Config) -> None:
        """What is routed from now on goes by the new credentials; what was routed before, by the old ones."""
        for name, each in now.providers.items():
            if was is None or each != was.providers[name]:
                opened[name] = opened[name].renewed(each.settings, parameters.callback_base(now, name))
            if was is None or (each.outbound, now.outbound) != (was.providers[name].outbound, was.outbound):
                opened[name].transport.renew(*parameters.outbound(now, each))

    def _start_gauges(self, ground: _Ground) -> GaugeRefresher:
        gauges = GaugeRefresher(self.registry, ground.database, ground.clock)
        self._lifecycle.background("gauges", gauges.run())
        return gauges

    async def _start_relay(self, ground: _Ground) -> Wake:
        config = self._config
        publisher = KafkaPublisher(lambda: start_producer(parameters.producer_options(self._in_force.config.kafka)))
        self._lifecycle.on_stop("producer", publisher.stop)
        self._in_force.taken_by(partial(_renew_client, publisher.renew))
        events = config.kafka.events_topic
        topics = {EVENTS_TOPIC: events, CONTACTS: events, DEADLETTERS_TOPIC: config.kafka.deadletters_topic}
        relay = Relay(
            ground.database,
            ground.worker,
            publisher,
            topics,
            self.metrics,
            ground.clock.now,
            parameters.relay_alive_for(config),
            tracer=ground.tracer,
            brokers=self._brokers,
        )
        await relay.start()
        self._lifecycle.on_stop("relay", relay.stop, Phase.FLUSH)
        self.health.follows("relay", relay.trouble)
        return relay.wake

    async def _start_receipts(
        self, ground: _Ground, providers: Mapping[str, Provider], on_events: Wake
    ) -> ReceiptInbox:
        receipts = ReceiptInbox(
            ground.database,
            ground.worker,
            ground.clock,
            ground.sealer,
            ground.rules,
            self.metrics,
            on_events,
            partial(_receipt_failed, providers),
            tracer=ground.tracer,
        )
        await receipts.start()
        self._lifecycle.on_stop("receipts", whenever(receipts.stop), Phase.FLUSH)
        return receipts

    async def _open_questions(self, ground: _Ground) -> dict[str, Question]:
        opened = {}
        for name, lender in self._config.lenders.items():
            if (each := lender.question) is None:
                continue
            transport = parameters.question_transport(self._config, each)
            await transport.open()
            self._lifecycle.on_stop(f"question {name}", whenever(transport.close))
            clock = asyncio.get_running_loop().time
            opened[name] = question = Question(
                each.url,
                each.token.get_secret_value(),
                transport,
                Reservation(each.concurrency, each.rate_per_second, None, clock, partial(_question_failed, name)),
                each.cache_seconds,
                ground.clock.now,
                self.metrics.asked,
                each.requests,
            )
            self._in_force.taken_by(partial(_rotate_question, name, question, transport))
        return opened

    def _dispatcher(
        self,
        ground: _Ground,
        catalogue: Catalogue,
        providers: Mapping[str, Provider],
        questions: Mapping[str, Question],
        on_events: Wake,
    ) -> Dispatcher:
        config = self._config
        return Dispatcher(
            ground.database,
            ground.worker,
            ground.clock,
            Steps(
                catalogue,
                ground.sealer,
                parameters.lenders(config),
                providers,
                config.mode,
                ground.allowlist,
                self._reloads.key_unknown,
                parameters.max_fact_ages(ground.cadences),
                questions,
            ),
            ground.rules,
            parameters.limits(config),
            parameters.retries(config),
            self.metrics,
            on_events,
            ground.tracer,
        )

    async def _start_recovery(self, ground: _Ground, dispatcher: Dispatcher) -> None:
        recovery = Recovery(
            ground.database,
            ground.worker,
            ground.clock,
            ground.rules,
            lambda: dispatcher.in_hand,
            self.metrics,
            dispatcher.wake,
            ground.planner,
            sends=Role.DISPATCH in self._config.roles,
        )
        await recovery.start()
        self._lifecycle.on_stop("recovery", whenever(recovery.stop))
        if self._virtual is not None:
            self._virtual.on_move(dispatcher.wake)
            self._virtual.on_move(recovery.wake)

    async def _start_public(self, ground: _Ground, receipts: ReceiptInbox) -> None:
        http, limits = self._config.http, parameters.public_limits(self._config)

        async def push_provider(attempt: int) -> str | None:
            async with ground.database.connection() as connection:
                return await timeline.push_provider(connection, attempt)

        adapters = discover()
        api = PublicApi(
            parameters.callback_routes(self._config, adapters),
            push_provider,
            Calls(ground.database, ground.sealer).answer,
            parameters.app_tokens(self._config),
            http.public_url,
            limits,
            receipts.keep,
            ground.clock.now,
            self.metrics,
        )
        self._in_force.taken_by(
            lambda was, now: api.admit(parameters.callback_routes(now, adapters), parameters.app_tokens(now))
        )
        listener = Listener(api.handle, limits)
        self.public_port = await listener.start(http.public_host, http.public_port)
        self._lifecycle.on_stop("public http", whenever(listener.stop), Phase.FLUSH)

    async def _start_intake(
        self, ground: _Ground, catalogue: Catalogue, dispatcher: Dispatcher, on_events: Wake, gauges: GaugeRefresher
    ) -> None:
        config, topic = self._config, self._config.kafka.requests_topic
        fast_path = dispatcher if config.dispatch.fast_path and Role.DISPATCH in config.roles else None
        decoder = Decoder(lenders=parameters.lender_facts(config), catalogue=catalogue, sealer=ground.sealer)
        intake = Intake(
            ground.database,
            ground.worker,
            ground.clock,
            decoder,
            topic,
            ground.rules,
            parameters.freeze_rule(config),
            fast_path,
            dispatcher.wake,
            on_events,
            self.metrics,
            ground.tracer,
        )
        await self._start_reading(
            ground,
            Door.REQUESTS,
            topic,
            config.kafka.group,
            intake,
            lambda: gauges.due_rows >= config.intake.backlog_limit,
            _any_number if fast_path is None else fast_path.room,
            self.metrics.paused,
        )

    async def _start_plans(
        self, ground: _Ground, catalogue: Catalogue, dispatcher: Dispatcher, on_events: Wake, topic: str
    ) -> None:
        """Facts are read however much is due: among them are stops."""
        config = self._config
        cadences = ground.cadences
        intake = Intake(
            ground.database,
            ground.worker,
            ground.clock,
            parameters.fact_decoder(config, cadences, catalogue, ground.sealer),
            topic,
            ground.rules,
            parameters.freeze_rule(config),
            None,
            dispatcher.wake,
            on_events,
            self.metrics,
            ground.tracer,
            ground.planner,
        )
        group = f"{config.kafka.group}-repayments"
        await self._start_reading(
            ground, Door.REPAYMENTS, topic, group, intake, lambda: False, _any_number, lambda paused: None
        )

    async def _start_reading(
        self,
        ground: _Ground,
        door: Door,
        topic: str,
        group: str,
        intake: Intake,
        overloaded: Callable[[], bool],
        room: Callable[[], Awaitable[int | None]],
        on_pause: Callable[[bool], None],
    ) -> None:
        config = self._config
        self.metrics.reads(door)
        positions = Positions(ground.database, topic, self.metrics.offset_reset)

        def make_consumer() -> Consumer:
            return Consumer(
                AIOKafkaConsumer(**parameters.consumer_options(self._in_force.config.kafka, group)),
                topic,
                positions,
                intake.write,
                overloaded,
                room,
                partial(self.metrics.consumer_lag, door),
                on_pause,
                partial(self.metrics.assigned, door),
            )

        keeper = Keeper(
            make_consumer,
            ground.database,
            topic,
            self.metrics,
            self._life.fatal,
            config.intake.watchdog_seconds,
            config.kafka.rebalance_timeout_seconds,
            self._brokers,
        )
        self._in_force.taken_by(partial(_renew_client, keeper.renew))
        await keeper.start()
        # Not all of the phase: what is in hand needs most of it, and to leave the group is only a courtesy.
        name = "intake" if door is Door.REQUESTS else "plans"
        self._lifecycle.on_stop(name, lambda seconds: keeper.stop(seconds / 4), Phase.DRAIN)
        self.health.follows(name, keeper.trouble)


def _renew_client(renew: Callable[[], None], was: Config | None, now: Config) -> None:
    """aiokafka's clients keep the password and the certificates they were made with."""
    if was is None or now.kafka.security != was.kafka.security:
        renew()


def _rotate_question(lender: str, question: Question, transport: Transport, was: Config | None, now: Config) -> None:
    known = now.lenders[lender].question
    assert known is not None
    question.renew(known.url, known.token.get_secret_value())
    if was is None or now.outbound != was.outbound:
        transport.renew(*parameters.common_outbound(now))


async def _any_number() -> int | None:
    """Nobody here sends: everything read goes into the queue."""
    return None


def _nobody() -> None:
    """Who publishes is another process: it looks into the outbox by itself."""


# --- what people hear of ----------------------------------------------------------------------------------------------


def _circuit_opened(provider: str, scope: FailureScope, failure: Failure, seconds: float) -> None:
    log.error("circuit_opened", provider=provider, scope=scope, failure=failure, seconds=round(seconds, 1))


def _question_failed(lender: str, scope: FailureScope, failure: Failure, seconds: float) -> None:
    log.error("question_circuit_opened", lender=lender, failure=failure, seconds=round(seconds, 1))


def _receipt_failed(
    providers: Mapping[str, Provider], provider: str, failure: Failure, scope: FailureScope, template: str, age: float
) -> None:
    """A receipt that speaks of more than its recipient is the circuits' business, as an answer is."""
    known = providers.get(provider)
    if known is not None:
        known.reservation.failed_by_receipt(failure, scope, template, age)


def _held(move: Move) -> None:
    """Somebody has to look at it: a page, or the morning's list."""
    log.error("reminder_held", reminder=to_reference(move.was.id), reason=move.reason)


__all__: Sequence[str] = ("Application",)
