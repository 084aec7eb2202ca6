"""The script: how the vendors misbehave, on order and repeatably.

A script is a seed and a list of rules.  For every request that passed a vendor's own checks, the first rule that
matches and speaks about the action decides the action; likewise for the latency, the receipts and the callee.  Chances
and delays are drawn from (seed, rule, vendor, recipient, n), n being the recipient's n-th request, so a run repeats
whatever the order in which recipients come.  Example, as YAML:

    seed: 7
    rules:
      - {vendor: twilio, recipient: "+1555*", action: error, code: "20429", retry_after: 1, times: 2}
      - {vendor: aliyun, chance: 0.05, receipts: {outcome: busy}}
      - {recipient: "*9", action: reset, times: 1}
      - {latency: [0.01, 0.2], receipts: {copies: 2, reorder: true}}
      - {vendor: twilio_voice, recipient: "*7", callee: {keys: ["", "1"], hangs_up: 3}}
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.dev.simulator.callee import Callee
from gateway.dev.simulator.codes import FAULTS
from gateway.dev.simulator.names import Action, Outcome, Vendor

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Span = tuple[Seconds, Seconds]  # drawn evenly between the two


class ReceiptPlan(BaseModel):
    """What receipts follow an accepted message.  `code` replaces the vendor's usual one for the outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome = Outcome.DELIVERED
    code: str | None = None
    copies: Annotated[int, Field(ge=1, le=20)] = 1  # 2 sends every receipt twice
    reorder: bool = False  # the last word first
    lost: bool = False  # none is sent; the log still says what would have been
    delay: Span | None = None  # before each receipt; the configured delay when absent


class Rule(BaseModel):
    """One rule.  It matches by vendor, recipient glob and chance, at most `times` times for each recipient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vendor: Vendor | None = None
    recipient: str = "*"
    chance: Annotated[float, Field(ge=0, le=1)] = 1.0
    times: Annotated[int, Field(ge=1)] | None = None
    action: Action | None = None
    code: str | None = None  # of `error`: the vendor's own code
    status: Annotated[int, Field(ge=400, le=599)] | None = None  # of `error`: alone, a bare HTTP error of a proxy
    retry_after: Seconds | None = None  # of `error`
    after_accept: bool = False  # of `error`: the message is taken all the same
    seconds: Seconds = 300.0  # how long `stall` and `hang` hold the connection
    latency: Span | None = None  # after the message is accepted or refused, before the answer
    receipts: ReceiptPlan | None = None
    callee: Callee | None = None  # of a call with a dialogue; the outcome of `receipts` then says nothing about it

    @model_validator(mode="after")
    def _speakable(self) -> Rule:
        if self.action is Action.ERROR:
            if self.code is None and self.status is None:
                raise ValueError("an error needs a code or a status")
            if self.code is not None and self.vendor is None:
                raise ValueError("a code belongs to one vendor: name it")
            if self.vendor is not None and self.code not in (None, *FAULTS[self.vendor]) and self.status is None:
                raise ValueError("an unlisted code needs its status")
        elif self.code is not None or self.status is not None or self.retry_after is not None or self.after_accept:
            raise ValueError("code, status, retry_after and after_accept belong to the action error")
        if self.callee is not None and self.vendor not in (None, Vendor.TWILIO_VOICE):
            raise ValueError("only calls by twilio_voice have a callee")
        return self

    @cached_property
    def digest(self) -> str:
        """Names the rule in the log, whatever its place in the list."""
        # A rule that says nothing about the callee keeps the name, and the chances, it had before there were callees.
        content = self.model_dump_json(exclude={"callee"} if self.callee is None else None)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(translate(self.recipient))

    def concerns(self, vendor: Vendor, recipient: str) -> bool:
        return self.vendor in (None, vendor) and (self.recipient == "*" or self._pattern.match(recipient) is not None)


class Script(BaseModel):
    """A seed and rules; without rules every vendor behaves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    rules: tuple[Rule, ...] = ()


_BEHAVE = Rule(action=Action.ANSWER)
_PLAIN = ReceiptPlan()


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one request: the deciding rule, the latency in seconds, the receipts that follow, the callee."""

    key: str
    turn: int
    rule: Rule
    latency: float
    receipts: ReceiptPlan
    rules: tuple[str, ...]
    callee: Callee | None = None

    @property
    def action(self) -> Action:
        return self.rule.action or Action.ANSWER

    def between(self, span: Span, what: str) -> float:
        """A moment inside `span`, the same in every run for the same `what`."""
        return span[0] + (span[1] - span[0]) * _draw(f"{self.key}|{what}")


def _draw(key: str) -> float:
    """Evenly in [0, 1)."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "big") / 2**56


class Director:
    """Applies a script and remembers each recipient's turn, also across a restart (`recall`)."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._turns: Counter[tuple[str, str]] = Counter()
        self._hits: Counter[tuple[str, str, str]] = Counter()

    def recall(self, line: Mapping[str, Any]) -> None:
        """Takes in one line of the log of an earlier run."""
        vendor, recipient, turn = line.get("vendor"), line.get("recipient"), line.get("turn")
        if isinstance(vendor, str) and isinstance(recipient, str) and isinstance(turn, int):
            self._turns[vendor, recipient] = max(turn, self._turns[vendor, recipient])
            self._count(line.get("rules", ()), vendor, recipient)

    def decide(self, vendor: Vendor, recipient: str) -> Plan:
        """The plan for this recipient's next request."""
        self._turns[vendor, recipient] += 1
        turn = self._turns[vendor, recipient]
        key = f"{self.script.seed}|{vendor}|{recipient}|{turn}"
        action: Rule | None = None
        latency: Rule | None = None
        receipts: Rule | None = None
        callee: Rule | None = None
        for rule in self.script.rules:
            if not rule.concerns(vendor, recipient) or self._spent(rule, vendor, recipient):
                continue
            if rule.chance < 1 and _draw(f"{key}|{rule.digest}") >= rule.chance:
                continue
            action = action or (rule if rule.action is not None else None)
            latency = latency or (rule if rule.latency is not None else None)
            receipts = receipts or (rule if rule.receipts is not None else None)
            callee = callee or (rule if rule.callee is not None else None)
        used = tuple(dict.fromkeys(rule.digest for rule in (action, latency, receipts, callee) if rule is not None))
        self._count(used, vendor, recipient)
        plan = receipts.receipts if receipts and receipts.receipts else _PLAIN
        decided = Plan(key, turn, action or _BEHAVE, 0.0, plan, used, callee.callee if callee else None)
        if latency is None or latency.latency is None:
            return decided
        return replace(decided, latency=decided.between(latency.latency, "latency"))

    def _spent(self, rule: Rule, vendor: str, recipient: str) -> bool:
        return rule.times is not None and self._hits[rule.digest, vendor, recipient] >= rule.times

    def _count(self, rules: Iterable[str], vendor: str, recipient: str) -> None:
        for digest in rules:
            self._hits[digest, vendor, recipient] += 1
