"""Logs carry ids only, whoever writes them and whatever goes wrong."""

from __future__ import annotations

import ast
import asyncio
import gc
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import aiokafka
import asyncpg
import pytest
import structlog
from yarl import URL

import gateway
from gateway.content import Catalogue
from gateway.observability.logs import FIELDS, get_logger, setup
from schemas.vocabulary import Channel

CANARY = "+8613800138000"
early = get_logger("gateway.early")  # as every module does: long before setup


class Output(io.StringIO):
    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().split("\n")[:-1]]

    @property
    def line(self) -> dict[str, Any]:
        assert "8613800138000" not in self.getvalue()
        (line,) = self.lines
        return line


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def out(restored: None) -> Output:
    output = Output()
    setup("info", output)
    return output


def test_a_line_is_one_json_object_with_ids(out: Output) -> None:
    get_logger("gateway.relay").info("published", topic="reminders.events", n=3, channel=Channel.SMS, late=["a b"])
    line = out.line
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "published",
        "logger": "gateway.relay",
        "topic": "reminders.events",
        "n": 3,
        "channel": "sms",
        "late": ["a b"],
    }


def test_a_logger_made_before_setup_follows_it(out: Output) -> None:
    early.warning("early")
    assert (out.line["event"], out.line["logger"]) == ("early", "gateway.early")
    other = Output()
    setup("error", other)
    early.warning("early")
    early.error("late")
    assert other.line["event"] == "late"


def test_an_unlisted_field_is_dropped_and_named(out: Output) -> None:
    get_logger("gateway").info("sent", attempt="0123456789abc", address=CANARY, to=CANARY, **{CANARY: 1})
    assert out.line["dropped_fields"] == ["?", "address", "to"]
    assert out.line["attempt"] == "0123456789abc"


@pytest.mark.parametrize(
    "value",
    [
        f"Key (phone)=({CANARY}) already exists.",
        f"https://api.example.com/?to={CANARY.strip('+')}",
        f"Dear {CANARY}",
        "张三",
        "x" * 129,
        CANARY.encode(),
        {"phone": CANARY},
        [["nested"]],
        [1, CANARY],
        SimpleNamespace(phone=CANARY),
        object,
    ],
)
def test_a_listed_field_holds_no_free_text(out: Output, value: object) -> None:
    get_logger("gateway").info("refused", reason=value)
    assert out.line["dropped_fields"] == ["reason"]
    assert "reason" not in out.line


@pytest.mark.parametrize("event", [f"sent to {CANARY}", "Sent", "", "sent\nfake", "sent 5", "a" + CANARY])
def test_an_event_that_is_no_name_is_withheld(out: Output, event: str) -> None:
    get_logger("gateway").info(event, n=1)
    assert (out.line["event"], out.line["dropped_fields"], out.line["n"]) == ("unnamed", ["event"], 1)


def test_arguments_of_an_event_are_withheld(out: Output) -> None:
    get_logger("gateway").info("sent to %s", CANARY)
    assert out.line["event"] == "unnamed"


def test_nothing_breaks_the_line(out: Output) -> None:
    get_logger("gateway").info("refused", reason='a\r\n{"level":"error"}')
    get_logger("gateway").info("refused", reason="a\r\nb", source="c\u2028d", n=float("nan"), wait=float("-inf"))
    first, second = out.lines
    assert first["dropped_fields"] == ["reason"]
    assert second["dropped_fields"] == ["source"]
    assert (second["reason"], second["n"], second["wait"]) == ("a b", "nan", "-inf")
    assert out.getvalue().isascii()


def _raise(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def _database_error() -> BaseException:
    error = asyncpg.UniqueViolationError(f"duplicate key: {CANARY}")
    error.detail = f"Key (phone)=({CANARY}) already exists."
    return _raise(error)


def _client_error() -> BaseException:
    url = URL(f"https://api.example.com/{CANARY}")
    info = aiohttp.RequestInfo(url, "POST", headers={}, real_url=url)  # type: ignore[arg-type]  # only shown
    return _raise(aiohttp.ClientResponseError(info, (), status=503, message=CANARY))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (_database_error(), {"error": "UniqueViolationError", "sqlstate": "23505"}),
        (_client_error(), {"error": "ClientResponseError", "error_code": 503}),
        (_raise(ConnectionRefusedError(111, f"to {CANARY}")), {"error": "ConnectionRefusedError", "error_code": 111}),
        (_raise(ValueError(CANARY), KeyError(CANARY)), {"error": "ValueError", "causes": ["KeyError"]}),
        (
            ExceptionGroup(CANARY, [ValueError(CANARY), OSError(2, CANARY)]),
            {"error": "ExceptionGroup", "causes": ["ValueError", "FileNotFoundError"]},
        ),
    ],
)
def test_an_exception_is_its_class_and_code(out: Output, error: BaseException, told: dict[str, Any]) -> None:
    log = get_logger("gateway")
    log.error("failed", exc_info=error)
    line = out.line
    assert {name: line[name] for name in line.keys() - {"timestamp", "level", "event", "logger"}} == told


def test_an_exception_in_hand_is_told_with_its_place_in_our_code(out: Output) -> None:
    try:
        Catalogue.load(Path(__file__))
    except Exception:
        get_logger("gateway").exception("failed")
    assert out.line["error"] == "NotADirectoryError"
    assert re.fullmatch(r"gateway\.content\.loading:\d+", out.line["at"])


def test_causes_that_go_round_end(out: Output) -> None:
    one, other = ValueError(CANARY), TypeError(CANARY)
    one.__cause__, other.__cause__ = other, one
    get_logger("gateway").error("failed", exc_info=one)
    assert out.line["causes"] == ["TypeError"]


def test_an_exception_as_a_value_is_its_class(out: Output) -> None:
    get_logger("gateway").error("failed", reason=ValueError(CANARY), exc_info=False, stack_info=True)
    assert out.line["reason"] == "ValueError"


# --- libraries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aiohttp.server", "asyncpg", "asyncio", "py.warnings", "root"])
def test_what_a_library_says_is_withheld(out: Output, name: str) -> None:
    logging.getLogger(name).warning("to %s", CANARY, exc_info=_database_error(), extra={"phone": CANARY})
    line = out.line
    assert line.pop("timestamp")
    assert line == {
        "level": "warning",
        "event": "library",
        "logger": name,
        "error": "UniqueViolationError",
        "sqlstate": "23505",
    }


def test_of_aiokafka_the_template_is_told_without_its_values(out: Output) -> None:
    logging.getLogger("aiokafka.conn").error("No\r\nanswer from %s", CANARY)
    logging.getLogger("aiokafka.conn").error(ValueError(CANARY))
    logging.getLogger("aiokafkalike").error("To %s", CANARY)
    assert CANARY not in out.getvalue()
    assert [line.get("message") for line in out.lines] == ["No answer from %s", None, None]


def test_what_a_library_repeats_is_told_every_ten_seconds_and_counted(restored: None) -> None:
    now, out = [100.0], Output()
    setup("info", out, lambda: now[0])
    client = logging.getLogger("aiokafka")

    def outage(seconds: float) -> None:
        for _ in range(int(seconds * 20)):
            client.error("Unable to update metadata from %s", [1, 2])
            client.warning("Heartbeat failed: %s", "no coordinator")
            now[0] += 0.05

    outage(9.9)
    assert [(line["message"], line.get("n")) for line in out.lines] == [
        ("Unable to update metadata from %s", None),
        ("Heartbeat failed: %s", None),
    ]
    now[0] = 110.0
    outage(1)
    assert [line.get("n") for line in out.lines[2:]] == [197, 197]
    now[0] += 10
    outage(0.05)
    assert [line.get("n") for line in out.lines[4:]] == [19, 19]
    now[0] += 20
    outage(0.05)
    assert [line.get("n") for line in out.lines[6:]] == [None, None]


def test_other_errors_of_a_library_at_the_same_place_are_no_repetition(restored: None) -> None:
    out = Output()
    setup("info", out, lambda: 100.0)

    def fails(error: Exception) -> None:
        try:
            raise error
        except Exception:
            logging.getLogger("aiohttp.server").exception("Error handling request")

    for error in (ValueError(CANARY), KeyError(CANARY), ValueError(CANARY)):
        fails(error)
    assert [line["error"] for line in out.lines] == ["ValueError", "KeyError"]


def test_what_libraries_said_is_not_remembered_without_an_end(restored: None) -> None:
    out = Output()
    setup("info", out, lambda: 100.0)
    for n in range(1500):
        logging.getLogger(f"library.{n}").error("it broke")
    [handler] = logging.getLogger().handlers
    assert len(out.lines) == 1500
    assert len(handler._said) <= 1000


def test_an_access_log_with_tokens_in_its_paths_stays_out(out: Output) -> None:
    logging.getLogger("aiohttp.access").info("POST /callbacks/twilio/token")
    assert out.getvalue() == ""


async def test_a_task_that_nobody_awaited_is_told_without_its_words(out: Output) -> None:
    async def fails() -> None:
        raise ValueError(CANARY)

    task = asyncio.create_task(fails(), name=f"send {CANARY}")
    await asyncio.wait([task])
    del task
    gc.collect()
    assert (out.line["logger"], out.line["error"]) == ("asyncio", "ValueError")


def test_logging_never_raises(restored: None) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        setup("info", stream)
        get_logger("gateway").info("sent")
        logging.getLogger("asyncio").error("x")


def test_a_record_that_cannot_be_formatted_does_no_harm(out: Output) -> None:
    setup("info", out)  # without pytest's own handler, which would format it
    template = "%d of %d"
    logging.getLogger("aiokafka").error(template, CANARY)
    assert out.line["message"] == "%d of %d"


# --- what is written, read from the source ------------------------------------------------------------------------

_METHODS = {"debug", "info", "warning", "error", "critical", "exception"}


def _log_calls(package: Path, is_logger: Callable[[str], bool]) -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
                owner = node.func.value
                name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                if is_logger(name):
                    yield f"{path.relative_to(package)}:{node.lineno}", node


def test_every_log_call_of_ours_keeps_to_the_list() -> None:
    (root,) = gateway.__path__
    calls = list(_log_calls(Path(root), lambda name: name == "log"))
    assert len(calls) > 10
    for place, call in calls:
        assert {each.arg for each in call.keywords} <= FIELDS | {"exc_info"}, place
        (event,) = call.args
        names = [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]
        for name in names:
            assert isinstance(name, ast.Constant), f"{place}: an event has one name, written out"
            assert re.fullmatch(r"[a-z]+(?:[._][a-z]+)*", str(name.value)), place


def test_aiokafka_keeps_its_values_out_of_its_templates() -> None:
    (root,) = aiokafka.__path__
    calls = list(_log_calls(Path(root), lambda name: name in ("log", "logger", "_log")))
    assert len(calls) > 100
    for place, call in calls:
        assert isinstance(call.args[0], ast.Constant | ast.Name), place
        if isinstance(call.args[0], ast.Name):  # an exception, whose text is withheld
            assert call.args[0].id in {"err", "exc", "error", "e"}, place
