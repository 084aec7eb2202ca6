"""A real Prometheus, as `make prometheus` fetches it, and what its queries select by its own grammar."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import aiohttp
import promql_parser
import yaml

from gateway.dev.host import StackError, free_port
from gateway.dev.server import Server
from tests.stack.tools import required

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".cache" / "prometheus" / "bin"
FILES = ROOT / "helm" / "reminder-gateway" / "files"
RULES = FILES / "alerts.yaml"
MISSING = "!!! apt is missing, and so is Prometheus: alerts and dashboards are not tried"


def there_is_none() -> bool:
    """No Prometheus, and none is insisted on here."""
    return not (BIN / "promtool").exists() and not required("apt-get", "dpkg-deb")


def promtool(*arguments: str | Path, told: str | None = None) -> subprocess.CompletedProcess[str]:
    """`told` is what it reads from its standard input."""
    command = [BIN / "promtool", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, input=told)


class PrometheusServer(Server):
    """Scrapes every second and evaluates our rules every second.  `targets` are jobs: (address, labels) each."""

    name = "prometheus"

    def __init__(self, targets: Mapping[str, Sequence[tuple[str, Mapping[str, str]]]]) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._targets = targets

    async def _prepare(self, home: Path) -> None:
        program = BIN / "prometheus"
        if not program.exists():
            raise StackError(f"no Prometheus in {BIN}: run `make prometheus`")
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [a], "labels": dict(labels)} for a, labels in targets]}
            for job, targets in self._targets.items()
        ]
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = home / "prometheus.yaml"
        config.write_text(yaml.safe_dump({"global": every, "rule_files": [str(RULES)], "scrape_configs": jobs}))
        self._arguments = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]

    def _command(self) -> Sequence[str | Path]:
        return self._arguments

    async def _answers(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def ask(self, what: str, **parameters: str) -> Any:
        """The data of one answer of its API; an error of its own fails."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/api/v1/{what}", params=parameters) as response,
        ):
            answer = await response.json()
        assert answer["status"] == "success", (what, parameters, answer)
        return answer["data"]

    async def without_series(self, selectors: Sequence[str]) -> list[str]:
        """Those that match nothing that was ever scraped or recorded."""
        found = await asyncio.gather(*(self.ask("series", **{"match[]": each, "start": "0"}) for each in selectors))
        return [selector for selector, series in zip(selectors, found, strict=True) if not series]


def selectors(expression: str) -> list[str]:
    """What an expression selects, without ranges and offsets."""
    return list(_selectors(promql_parser.parse(expression)))


def singled(selector: str) -> Iterator[str]:
    """The selector with each value that it names alone: those of `a=~"x|y"`, and what `a!="x"` leaves out.

    A slip in one of several, or in what is excluded, selects something all the same.
    """
    node = promql_parser.parse(selector)
    written = [_matcher(each) for each in node.matchers.matchers]
    for index, each in enumerate(node.matchers.matchers):
        if _operator(each) != "=" and re.fullmatch(r"[\w|]+", each.value):
            for value in filter(None, each.value.split("|")):
                alone = [*written[:index], f'{each.name}="{value}"', *written[index + 1 :]]
                yield f"{node.name or ''}{{{', '.join(alone)}}}"


_OPERATORS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


def _operator(matcher: Any) -> str:
    return _OPERATORS[str(matcher.op).removeprefix("MatchOp.")]


def _matcher(matcher: Any) -> str:
    return f'{matcher.name}{_operator(matcher)}"{matcher.value}"'


def _selectors(node: Any) -> list[str]:
    match node:
        case promql_parser.VectorSelector():
            assert not node.matchers.or_matchers
            return [f"{node.name or ''}{{{', '.join(map(_matcher, node.matchers.matchers))}}}"]
        case promql_parser.MatrixSelector():
            return _selectors(node.vector_selector)
        case promql_parser.BinaryExpr():
            return _selectors(node.lhs) + _selectors(node.rhs)
        case promql_parser.Call():
            return [each for argument in node.args for each in _selectors(argument)]
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return []
    return _selectors(node.expr)  # an aggregation, a subquery, parentheses, a sign


def labels(expression: str, metrics: Mapping[str, Set[str]]) -> Set[str]:
    """The labels that a result of the expression can have.  `metrics` are those of each name that may be selected."""
    return _labels(promql_parser.parse(expression), metrics)


def _labels(node: Any, metrics: Mapping[str, Set[str]]) -> Set[str]:
    match node:
        case promql_parser.VectorSelector():
            return metrics[node.name]
        case promql_parser.MatrixSelector():
            return _labels(node.vector_selector, metrics)
        case promql_parser.AggregateExpr():
            return _kept(_labels(node.expr, metrics), node.modifier) if node.modifier else set()
        case promql_parser.BinaryExpr():
            left, right = (_labels(each, metrics) for each in (node.lhs, node.rhs))
            if str(node.op) in ("and", "unless"):
                return left
            matching = node.modifier and node.modifier.matching
            assert not matching or node.modifier.card == promql_parser.VectorMatchCardinality.OneToOne
            return _kept(left | right, matching) if matching else left | right
        case promql_parser.Call():
            found = {label for each in node.args for label in _labels(each, metrics)}
            assert node.func.name not in ("label_replace", "label_join")
            return {"absent": set(), "histogram_quantile": found - {"le"}}.get(node.func.name, found)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return set()
    return _labels(node.expr, metrics)  # a subquery, parentheses, a sign


def _kept(labels: Set[str], modifier: Any) -> Set[str]:
    """By `by (…)` and `on (…)` these alone, by `without (…)` and `ignoring (…)` all others."""
    named = set(modifier.labels)
    return labels & named if str(modifier).startswith(("by", "on")) else labels - named
