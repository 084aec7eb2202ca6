"""Scripts: who a rule concerns, how often, and that a run repeats."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from simulator_bench import Start

from gateway.dev.simulator import Action, Callee, Outcome, Pickup, ReceiptPlan, Rule, Script, Vendor, load_config
from gateway.dev.simulator.script import Director

SMS = Vendor.TWILIO


def actions(director: Director, recipient: str, n: int) -> list[Action]:
    return [director.decide(SMS, recipient).action for _ in range(n)]


def test_without_rules_everything_is_answered() -> None:
    assert actions(Director(Script()), "+1", 3) == [Action.ANSWER] * 3


def test_a_rule_concerns_its_vendor_and_its_recipients() -> None:
    director = Director(Script(rules=(Rule(vendor=SMS, recipient="+1555*", action=Action.HANG),)))
    assert director.decide(SMS, "+15551").action is Action.HANG
    assert director.decide(SMS, "+15561").action is Action.ANSWER
    assert director.decide(Vendor.ALIYUN, "+15551").action is Action.ANSWER


def test_times_are_counted_for_each_recipient() -> None:
    director = Director(Script(rules=(Rule(action=Action.RESET, times=2), Rule(action=Action.HANG, times=1))))
    for recipient in ("+1", "+2"):
        assert actions(director, recipient, 4) == [Action.RESET, Action.RESET, Action.HANG, Action.ANSWER]


def test_aspects_come_from_the_first_rule_that_speaks_about_them() -> None:
    director = Director(
        Script(
            rules=(
                Rule(latency=(1, 2)),
                Rule(action=Action.TRUNCATE),
                Rule(action=Action.HANG, receipts=ReceiptPlan(outcome=Outcome.BUSY)),
                Rule(latency=(5, 6), receipts=ReceiptPlan(outcome=Outcome.FAILED)),
            )
        )
    )
    plan = director.decide(SMS, "+1")
    assert plan.action is Action.TRUNCATE
    assert 1 <= plan.latency < 2
    assert plan.receipts.outcome is Outcome.BUSY
    assert len(plan.rules) == 3


def test_the_callee_is_an_aspect_of_its_own() -> None:
    rules = [
        {"vendor": "twilio_voice", "callee": {"keys": ["1", "", "2#"]}, "times": 1},
        {"latency": [1, 1]},
        {"callee": {"pickup": "machine"}},
    ]
    director = Director(Script.model_validate({"rules": rules}))
    assert director.decide(SMS, "+1").callee == Callee(pickup=Pickup.MACHINE)
    first, second = (director.decide(Vendor.TWILIO_VOICE, "+1") for _ in range(2))
    assert (first.callee, first.latency, len(first.rules)) == (Callee(keys=("1", "", "2#")), 1, 2)
    assert second.callee == Callee(pickup=Pickup.MACHINE)
    assert Director(Script()).decide(Vendor.TWILIO_VOICE, "+1").callee is None


def test_a_rule_without_a_callee_keeps_the_chances_it_always_had() -> None:
    assert Rule(chance=0.5, action=Action.HANG).digest == "b2a08343c72e"
    assert Rule(chance=0.5, action=Action.HANG, callee=Callee()).digest != "b2a08343c72e"


def test_a_run_repeats_whatever_the_order_of_recipients() -> None:
    script = Script(seed=3, rules=(Rule(chance=0.5, action=Action.HANG), Rule(latency=(0, 1))))
    turns = [f"+{recipient}" for recipient in range(20) for _ in range(10)]

    def run(order: list[str], script: Script = script) -> dict[str, list[tuple[Action, float]]]:
        director = Director(script)
        seen: dict[str, list[tuple[Action, float]]] = {}
        for recipient in order:
            plan = director.decide(SMS, recipient)
            seen.setdefault(recipient, []).append((plan.action, plan.latency))
        return seen

    shuffled = turns[:]
    random.Random(1).shuffle(shuffled)
    assert run(turns) == run(shuffled)
    assert run(turns) != run(turns, script.model_copy(update={"seed": 4}))


def test_a_chance_is_met_about_as_often_as_it_says() -> None:
    director = Director(Script(rules=(Rule(chance=0.2, action=Action.HANG),)))
    hits = sum(director.decide(SMS, f"+{n}").action is Action.HANG for n in range(5000))
    assert 850 < hits < 1150


@pytest.mark.parametrize(
    "rule",
    [
        {"action": "error"},
        {"action": "error", "code": "21610"},
        {"action": "error", "vendor": "twilio", "code": "99999"},
        {"action": "hang", "code": "21610"},
        {"after_accept": True},
        {"chance": 1.5},
        {"recipients": "*"},
        {"receipts": {"outcome": "vanished"}},
        {"vendor": "twilio", "callee": {}},
        {"callee": {"keys": ["x"]}},
        {"callee": {"pickup": "butler"}},
        {"callee": {"hangs_up": -1}},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(rule)


def test_an_unlisted_code_may_be_scripted_with_its_status() -> None:
    assert Rule(vendor=SMS, action=Action.ERROR, code="99999", status=400).code == "99999"


def test_a_file_and_overrides_make_one_configuration(tmp_path: Path) -> None:
    file = tmp_path / "simulator.yaml"
    file.write_text(
        "port: 9000\nreceipts: {delay: [1, 2]}\nscript:\n  seed: 7\n  rules:\n"
        '    - {vendor: twilio, recipient: "+1555*", action: error, code: "20429", times: 2}\n'
    )
    config = load_config(file, port=0, receipts={"retry_scale": 0.5})
    assert (config.port, config.receipts.delay, config.receipts.retry_scale) == (0, (1, 2), 0.5)
    assert config.script.rules[0].code == "20429"
    with pytest.raises(ValidationError, match="loopback"):
        load_config(file, host="0.0.0.0")
    with pytest.raises(ValidationError, match="regular expression"):
        load_config(file, marker="(")


async def test_a_script_can_be_replaced_while_running(start: Start) -> None:
    bench = await start()
    status, answer = await bench.control(
        "script", {"rules": [{"vendor": "twilio", "action": "error", "code": "21610", "times": 1}]}
    )
    assert (status, answer) == (200, {"rules": 1})
    assert [(await bench.sms())[0] for _ in range(2)] == [400, 201]
    status, answer = await bench.control("script", {"rules": [{"action": "explode"}]})
    assert status == 400
    assert answer["errors"]
    assert (await bench.sms())[0] == 201
