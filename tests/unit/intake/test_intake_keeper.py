"""The keeper of the consumer: what it rebuilds, what it forgives, and when it gives the process up.

The clients follow a script and time is the loop's own: it passes when everybody waits, and then at once.
"""

import asyncio
import itertools
import selectors
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from gateway.intake.consumer import Progress
from gateway.intake.keeper import Keeper

WATCHDOG, REBALANCE = 8.0, 12.0
FOREVER = 20_000.0


class Hurry(asyncio.SelectorEventLoop):
    """A loop that never sleeps: where it would, its clock moves on."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        self._now += seconds


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: Hurry) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and nobody will ever wake anybody up"
            self._loop.pass_time(timeout)
        return ready


@dataclass
class Client:
    """Stands where the consumer stands: `start` and `run` are its script."""

    number: int
    script: "Script"
    diary: list[tuple[float, str, int]]
    assigned: frozenset[int] = frozenset({0})
    asked: bool = False
    progress: Progress = field(default_factory=lambda: Progress(polled_at=now(), heard_at=now()))
    reached: bool = True
    known: dict[int, int] = field(default_factory=dict)

    async def start(self) -> None:
        await self.script.start(self)
        self.note("started")

    async def run(self) -> None:
        await self.script.run(self)

    def ask_to_stop(self) -> None:
        self.asked = True

    async def stop(self, seconds: float = 5.0) -> None:
        self.note("stopped")

    def note(self, what: str) -> None:
        self.diary.append((now(), what, self.number))


Part = Callable[[Client], Awaitable[None]]


async def at_once(client: Client) -> None:
    """A start."""


async def never(client: Client) -> None:
    """A start, or a round, that hangs."""
    await asyncio.get_running_loop().create_future()


async def in_the_void(client: Client) -> None:
    """A start on a link that answers nothing at all, not even that it refuses."""
    client.reached = False
    await never(client)


async def refused(client: Client) -> None:
    """A start, or a run."""
    raise RuntimeError("no such thing")


async def alone(client: Client) -> None:
    """A start, or a run, without a broker."""
    raise KafkaConnectionError("no broker")


@dataclass(frozen=True)
class Script:
    run: Part
    start: Part = at_once


def polls(
    *,
    behind: bool = False,
    hears: bool = False,
    writes: bool = False,
    lasts: float = FOREVER,
    then: Part | None = None,
    every: float = 0.25,
) -> Script:
    """Goes round and round until it is asked to stop; after `lasts` seconds it goes on with `then`."""

    async def run(client: Client) -> None:
        began, progress = now(), client.progress
        progress.behind = behind
        while not client.asked and now() < began + lasts:
            await asyncio.sleep(every)
            progress.polled_at = now()
            progress.heard_at = now() if hears else progress.heard_at
            progress.written_at = now() if writes else progress.written_at
        if not client.asked and then is not None:
            await then(client)

    return Script(run)


WORKS = polls(behind=True, hears=True, writes=True)
SILENT = polls(behind=True)
FAILS = Script(refused)


def wrote_then(script: Script) -> Script:
    """A batch is written, and then it goes as in `script`."""
    return polls(hears=True, writes=True, lasts=1, then=script.run)


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Stage:
    """A keeper whose clients follow the scripts, one after the other; the last one's is used again and again."""

    scripts: Sequence[Script]
    diary: list[tuple[float, str, int]] = field(default_factory=list)
    rebuilt: int = 0

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        unused: Any = None
        metrics: Any = SimpleNamespace(rebuilt=self._count)
        self.keeper = Keeper(self._make, unused, "requests", metrics, self._fatal, WATCHDOG, REBALANCE)

    def _make(self) -> Any:
        number = next(self._numbers)
        self.diary.append((now(), "made", number))
        return Client(number, self.scripts[min(number, len(self.scripts) - 1)], self.diary)

    def _count(self) -> None:
        self.rebuilt += 1

    def _fatal(self, reason: str) -> None:
        self.diary.append((now(), reason, -1))

    async def fatal(self) -> str:
        """Runs until the process is given up, and some time longer: whoever gave up builds nothing any more."""
        await self.keeper.start()
        began = now()
        while not (reasons := self.reasons) and now() < began + FOREVER:
            await asyncio.sleep(1)
        await asyncio.sleep(600)
        await self.keeper.stop(5)
        (reason,) = reasons
        return reason

    @property
    def reasons(self) -> list[str]:
        return [what for _, what, number in self.diary if number == -1]

    def at(self, what: str) -> list[float]:
        """When it happened, client by client."""
        return [when for when, each, _ in self.diary if each == what]

    @property
    def story(self) -> list[str]:
        return [what for _, what, _ in self.diary]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """Runs a coroutine on a loop in a hurry, which is also the keeper's clock."""
    with asyncio.Runner(loop_factory=Hurry) as runner:
        monkeypatch.setattr("gateway.intake.keeper.time", SimpleNamespace(monotonic=runner.get_loop().time))
        yield runner.run


Play = Callable[[Awaitable[Any]], Any]


def test_one_that_goes_silent_is_stopped_and_built_anew(play: Play) -> None:
    async def body() -> None:
        stage = Stage([SILENT, WORKS])
        assert stage.keeper.trouble() == "no_consumer"
        await stage.keeper.start()
        await asyncio.sleep(WATCHDOG - 0.5)
        assert stage.story == ["made", "started"]
        assert stage.keeper.trouble() is None
        await asyncio.sleep(10 * WATCHDOG)
        assert stage.story == ["made", "started", "stopped", "made", "started"]
        assert stage.rebuilt == 1
        assert stage.keeper.trouble() is None
        await stage.keeper.stop(5)
        assert stage.story[5:] == ["stopped"]

    play(body())


def test_silent_again_without_having_written_gives_the_process_up(play: Play) -> None:
    stage = Stage([SILENT])
    assert play(stage.fatal()) == "consumer_silent"
    assert stage.story == ["made", "started", "stopped"] * 2 + ["consumer_silent"]
    assert stage.rebuilt == 1


def test_a_start_that_reaches_nobody_waits_for_the_broker(play: Play) -> None:
    """However often: a restart would not bring it back."""

    async def body() -> None:
        stage = Stage([Script(at_once, in_the_void)])
        await stage.keeper.start()
        await asyncio.sleep(20 * (WATCHDOG + REBALANCE))
        assert stage.reasons == []
        assert stage.rebuilt > 4
        await stage.keeper.stop(5)

    play(body())


def test_who_is_not_answered_says_so(play: Play) -> None:
    async def unanswered(client: Client) -> None:
        client.progress.unanswered_since = now()
        while not client.asked:
            client.progress.polled_at = now()
            await asyncio.sleep(0.25)

    async def body() -> None:
        stage = Stage([Script(unanswered)])
        await stage.keeper.start()
        await asyncio.sleep(5)
        assert stage.keeper.trouble() is None
        await asyncio.sleep(6)
        assert stage.keeper.trouble() == "unanswered"
        await stage.keeper.stop(5)

    play(body())


def test_a_start_that_hangs_is_silence(play: Play) -> None:
    stage = Stage([Script(never, start=never)])
    assert play(stage.fatal()) == "consumer_silent"
    assert stage.story == ["made", "stopped"] * 2 + ["consumer_silent"]
    assert stage.at("stopped")[0] - stage.at("made")[0] == pytest.approx(WATCHDOG + REBALANCE)


def test_a_silence_after_a_batch_was_written_begins_a_new_count(play: Play) -> None:
    stage = Stage([SILENT, wrote_then(SILENT), wrote_then(SILENT), SILENT, SILENT])
    assert play(stage.fatal()) == "consumer_silent"
    assert stage.story.count("made") == 4  # the second one that wrote was silent, and so was the one after it
    assert stage.rebuilt == 3


@pytest.mark.parametrize("fault", [FAILS, Script(never, start=refused)], ids=["in the loop", "at the start"])
def test_nine_failures_in_a_row_give_the_process_up(play: Play, fault: Script) -> None:
    stage = Stage([fault])
    assert play(stage.fatal()) == "consumer_failed"
    assert stage.story.count("made") == stage.story.count("stopped") == 9
    assert stage.rebuilt == 8
    made = stage.at("made")
    assert [later - sooner for sooner, later in itertools.pairwise(made)] == pytest.approx(
        [1, 2, 4, 8, 15, 15, 15, 15], abs=0.5
    )


def test_what_cannot_even_be_made_is_a_failure(play: Play) -> None:
    class Barren(Stage):
        def _make(self) -> Any:
            super()._make()
            raise ValueError("no such file")

    stage = Barren([FAILS])
    assert play(stage.fatal()) == "consumer_failed"
    assert stage.story == ["made"] * 9 + ["consumer_failed"]


def test_a_batch_that_was_written_resets_the_failures(play: Play) -> None:
    stage = Stage([*[FAILS] * 8, wrote_then(FAILS), *[FAILS] * 8])
    assert play(stage.fatal()) == "consumer_failed"
    assert stage.story.count("made") == 8 + 1 + 8


def test_failures_long_ago_are_forgiven_without_a_batch(play: Play) -> None:
    """Nothing to read for a long while, then the broker goes away."""
    quiet = polls(lasts=10 * WATCHDOG + 1, then=refused)
    stage = Stage([*[FAILS] * 8, quiet, *[FAILS] * 8])
    assert play(stage.fatal()) == "consumer_failed"
    assert stage.story.count("made") == 8 + 1 + 8
    short = polls(lasts=5 * WATCHDOG, then=refused)
    stage = Stage([*[FAILS] * 8, short, *[FAILS] * 8])
    assert play(stage.fatal()) == "consumer_failed"
    assert stage.story.count("made") == 9


def test_a_broker_that_is_away_is_waited_for(play: Play) -> None:
    async def body() -> None:
        stage = Stage([*[Script(WORKS.run, start=alone)] * 20, *[Script(alone)] * 20, WORKS])
        await stage.keeper.start()
        await asyncio.sleep(15 * 41)
        assert stage.reasons == []
        assert stage.keeper.trouble() is None
        made = stage.at("made")
        assert len(made) == 41
        assert max(later - sooner for sooner, later in itertools.pairwise(made)) <= 15.5
        await stage.keeper.stop(5)

    play(body())


def test_silences_and_failures_are_counted_apart(play: Play) -> None:
    stage = Stage([SILENT, *[FAILS] * 8, SILENT])
    assert play(stage.fatal()) == "consumer_silent"
    assert stage.story.count("made") == 10


@pytest.mark.parametrize(
    "script",
    [polls(behind=True, hears=True), polls(behind=False), polls(every=WATCHDOG + REBALANCE - 1)],
    ids=["behind and hearing", "nothing to hear", "as long as a rebalance may take"],
)
def test_what_is_no_silence(play: Play, script: Script) -> None:
    async def body() -> None:
        stage = Stage([script])
        await stage.keeper.start()
        await asyncio.sleep(1000)
        assert stage.story == ["made", "started"]
        await stage.keeper.stop(5)

    play(body())


def test_a_round_that_never_ends_is_silence_and_is_cut_off(play: Play) -> None:
    """It cannot be asked, so it is cancelled; only then is the next one built."""
    stage = Stage([Script(never), WORKS])

    async def body() -> None:
        await stage.keeper.start()
        await asyncio.sleep(WATCHDOG + 1)
        assert stage.story == ["made", "started"]
        assert stage.keeper.trouble() == "silent"
        await asyncio.sleep(100)
        assert stage.story == ["made", "started", "stopped", "made", "started"]
        assert stage.keeper.trouble() is None
        await stage.keeper.stop(5)

    play(body())
    assert WATCHDOG + REBALANCE < stage.at("stopped")[0] - stage.at("started")[0] <= WATCHDOG + REBALANCE + 1 + 5


def test_a_stop_ends_a_pause_between_two_clients(play: Play) -> None:
    async def body() -> None:
        stage = Stage([FAILS])
        await stage.keeper.start()
        await asyncio.sleep(16)  # five have failed: the keeper is in a pause of 15 seconds
        made = stage.story.count("made")
        assert stage.keeper.trouble() == "no_consumer"
        await stage.keeper.stop(5)
        await asyncio.sleep(600)
        assert stage.story.count("made") == made
        assert stage.reasons == []

    play(body())


def test_a_broker_that_does_not_say_is_waited_for_and_asked_by_another_client_in_the_end(play: Play) -> None:
    """Whether anything is missing nobody knows: that is no silence of the client."""

    async def unanswered(client: Client) -> None:
        client.progress.unanswered_since = now()
        await polls().run(client)

    async def body() -> None:
        stage = Stage([Script(unanswered)])
        await stage.keeper.start()
        await asyncio.sleep(9 * WATCHDOG)
        assert stage.story == ["made", "started"]
        await asyncio.sleep(100 * WATCHDOG)
        assert stage.rebuilt > 2
        assert stage.reasons == []
        await stage.keeper.stop(5)

    play(body())


def test_a_keeper_that_ends_by_itself_gives_the_process_up(play: Play) -> None:
    """Nobody would build another: what looks like a cancellation of its own is none."""

    class Torn(Client):
        async def stop(self, seconds: float = 5.0) -> None:
            raise asyncio.CancelledError

    class TornStage(Stage):
        def _make(self) -> Any:
            made = super()._make()
            return Torn(made.number, made.script, made.diary)

    assert play(TornStage([FAILS]).fatal()) == "intake_ended"


def test_a_client_is_made_anew_when_the_login_changes_and_that_is_no_fault(play: Play) -> None:
    async def body() -> None:
        stage = Stage([WORKS])
        await stage.keeper.start()
        await asyncio.sleep(3)
        for n in range(1, 20):
            stage.keeper.renew()
            stage.keeper.renew()
            await asyncio.sleep(5)
            assert stage.story == ["made", "started", *["stopped", "made", "started"] * n]
        assert (stage.rebuilt, stage.reasons, stage.keeper.trouble()) == (0, [], None)
        await stage.keeper.stop(5)

    play(body())


def test_a_client_that_is_not_made_yet_is_not_made_twice(play: Play) -> None:
    async def body() -> None:
        stage = Stage([WORKS])
        stage.keeper.renew()
        await stage.keeper.start()
        await asyncio.sleep(10)
        assert stage.story == ["made", "started"]
        await stage.keeper.stop(5)

    play(body())


class Told:
    """Knows from the second time it is asked why the brokers cannot be reached."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def why(self) -> str | None:
        return "login_refused" if self.asked > 1 else None

    def trouble(self) -> None:
        self.asked += 1


def test_why_the_brokers_cannot_be_reached_is_found_out_and_told(play: Play) -> None:
    async def body() -> None:
        stage = Stage([refused])
        told: Any = Told()
        stage.keeper._brokers = told
        await stage.keeper.start()
        await asyncio.sleep(0.2)
        assert told.asked == 1  # by the keeper itself, whether or not somebody looks at its health
        assert stage.keeper.trouble() == "login_refused"
        await stage.keeper.stop(5)

    play(body())


def test_another_login_is_tried_at_once(play: Play) -> None:
    """Not when the pause between two clients is over, which grows to a quarter of a minute."""

    async def body() -> None:
        stage = Stage([refused])
        await stage.keeper.start()
        await asyncio.sleep(60)
        await asyncio.sleep(max(0.0, stage.at("made")[-1] + 1 - now()))
        before = len(stage.at("made"))
        stage.keeper.renew()
        await asyncio.sleep(0.1)
        assert len(stage.at("made")) == before + 1
        await stage.keeper.stop(5)

    play(body())
