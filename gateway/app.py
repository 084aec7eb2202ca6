"""The only composition root: starts every component in order; `life` stops them in reverse.  How each is made of the
others is told in `gateway.composition`, part by part.

What a stop does, in this order: not ready, stop claiming and reading Kafka, drain what is in hand, take the receipts
that still come, flush the outbox, leave the lease, leave.  The seconds of each phase are in `config.shutdown`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector

from gateway import internal, parameters
from gateway.brokers import Brokers
from gateway.clock import AnchoredClock, VirtualClock
from gateway.composition import callbacks, duties, reading, sending
from gateway.composition.ground import Ground, renew_client
from gateway.config import Config, Role
from gateway.content import DEFAULT_TEMPLATES, Catalogue
from gateway.ids import to_reference
from gateway.inforce import InForce
from gateway.intake import running
from gateway.intake.keeper import Keeper
from gateway.ledger import schema, workers
from gateway.ledger.database import Database
from gateway.ledger.standing import Move
from gateway.life import Life
from gateway.lifecycle import Lifecycle, Phase, at_once, whenever
from gateway.observability.certificates import Certificates
from gateway.observability.gauges import GaugeRefresher
from gateway.observability.logs import get_logger
from gateway.observability.loop_lag import LoopLag
from gateway.observability.metrics import Metrics
from gateway.observability.process import Capacity, show_mode, show_roles
from gateway.observability.reloads import Reloads
from gateway.reload import Reload, Source
from gateway.tracing import Tracer
from gateway.worker import Worker
from providers.catalog import discover
from schemas.vocabulary import Mode

log = get_logger(__name__)


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
        roles, on_stop = self._config.roles, self._lifecycle.on_stop
        await self._start_internal()
        ground = await self._start_ground(self._start_tracer())

        providers = sending.providers(ground)
        for name, provider in providers.items():
            await provider.transport.open()
            on_stop(f"transport {name}", whenever(provider.transport.close))
        gauges = GaugeRefresher(self.registry, ground.database, ground.clock)
        self._lifecycle.background("gauges", gauges.run())
        on_stop("brokers", whenever(self._brokers.stop))
        self._in_force.taken_by(partial(renew_client, self._brokers.renewed))

        on_events: Callable[[], None] = _nobody
        if Role.RELAY in roles:
            publisher = duties.publisher(ground)
            on_stop("producer", publisher.stop)
            relay = duties.relay(ground, publisher)
            await relay.start()
            on_stop("relay", relay.stop, Phase.FLUSH)
            self.health.follows("relay", relay.trouble)
            on_events = relay.wake

        receipts = callbacks.receipts(ground, providers, on_events)
        await receipts.start()
        on_stop("receipts", whenever(receipts.stop), Phase.FLUSH)

        questions = sending.questions(ground)
        for name, question in questions.items():
            await question.transport.open()
            on_stop(f"question {name}", whenever(question.transport.close))
        dispatcher = sending.dispatcher(ground, providers, questions, on_events, self._reloads.key_unknown)
        recovery = duties.recovery(ground, dispatcher)
        await recovery.start()
        on_stop("recovery", whenever(recovery.stop))
        if self._virtual is not None:
            self._virtual.on_move(dispatcher.wake)
            self._virtual.on_move(recovery.wake)

        if Role.CALLBACKS in roles:
            http, listener = self._config.http, callbacks.listener(ground, receipts)
            self.public_port = await listener.start(http.public_host, http.public_port)
            on_stop("public http", whenever(listener.stop), Phase.FLUSH)

        if Role.DISPATCH in roles:
            self._capacity.watch_slots(self._config.dispatch.slots, lambda: len(dispatcher.in_hand))
            await dispatcher.start()
            on_stop("dispatch", whenever(dispatcher.stop), Phase.FLUSH)
            on_stop("drain", dispatcher.drain, Phase.DRAIN)

        if Role.INTAKE in roles:
            fatal, topic = self._life.fatal, self._config.kafka.repayments_topic
            await self._start_reading("intake", reading.requests(ground, dispatcher, gauges, on_events, fatal))
            if topic is not None:
                await self._start_reading("plans", reading.facts(ground, topic, dispatcher, on_events, fatal))
        on_stop("claiming", at_once(dispatcher.stop_claiming), Phase.DRAIN)

        if self._reload is not None:  # last: everybody who takes something is there
            self._lifecycle.background("reload", self._reload.run())

    # --- what it needs for that -----------------------------------------------------------------------------------

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

    def _start_tracer(self) -> Tracer | None:
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

    async def _start_ground(self, tracer: Tracer | None) -> Ground:
        config, settings = self._config, self._config.database
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
            # Whatever it does: what it moves would go on by rules that it does not know.
            cadences = await running.with_running(connection, parameters.cadences(config))
            await running.complete(connection, cadences)
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
        planner = None
        if config.kafka.repayments_topic is not None:
            planner = parameters.planner(config, cadences, sealer, lambda: worker.ids)
        return Ground(
            config=config,
            in_force=self._in_force,
            metrics=self.metrics,
            brokers=self._brokers,
            tracer=tracer,
            database=database,
            clock=clock,
            worker=worker,
            sealer=sealer,
            allowlist=parameters.allowlist(config, sealer),
            rules=parameters.rules(config, cadences, discover()),
            cadences=cadences,
            planner=planner,
            catalogue=Catalogue.load(config.templates_path or DEFAULT_TEMPLATES),
        )

    async def _start_reading(self, name: str, keeper: Keeper) -> None:
        await keeper.start()
        # Not all of the phase: what is in hand needs most of it, and to leave the group is only a courtesy.
        self._lifecycle.on_stop(name, lambda seconds: keeper.stop(seconds / 4), Phase.DRAIN)
        self.health.follows(name, keeper.trouble)


def _nobody() -> None:
    """Who publishes is another process: it looks into the outbox by itself."""


def _held(move: Move) -> None:
    """Somebody has to look at it: a page, or the morning's list."""
    log.error("reminder_held", reminder=to_reference(move.was.id), reason=move.reason)


__all__: Sequence[str] = ("Application",)
