"""What `freeze` refuses before it asks the ledger: a slip must not pass for a brake."""

from __future__ import annotations

import copy
import datetime as dt
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli import app, brakes
from gateway.config import load
from gateway.ledger.quotas import Volume
from tests.unit.config.case import SECRETS

WHY: Final = ("--reason", "a test", "--author", "me")
CONFIG: Final[dict[str, Any]] = {
    "mode": "live",
    "database": {"dsn": "env:DSN"},
    "kafka": {"bootstrap": "127.0.0.1:9"},
    "http": {"public_url": "https://reminders.example.com"},
    "sealing": {"keys": {"1": "env:SEALING_1"}, "current": 1, "index_key": "env:INDEX"},
    "lenders": {"acme": {"name": "Acme", "routes": {"sms": "texts"}}},
    "providers": {
        "texts": {
            "adapter": "twilio_sms",
            "settings": {"account_sid": "AC1", "auth_tokens": ["env:TEXT_KEY"], "sender": "+15005550006"},
            "callback_tokens": ["env:TEXT_TOKEN"],
        }
    },
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {**SECRETS, "DSN": "postgresql://nobody@127.0.0.1:9/none"}.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("lender", "acne"), "no lender is called 'acne': there is acme; --force takes it all the same"),
        (
            ("stage", "d5"),
            "no stage is called 'd5': there is d3, d7, due, education, overdue_early, overdue_late, overdue_mid",
        ),
        (("channel", "email"), "no channel is called 'email': there is push, sms, voice"),
        (("provider", "twilio"), "no provider is called 'twilio': there is texts"),
        (
            ("template", "dunning"),
            "no template is called 'dunning': there is ask_for_help, complain, pay_early, repayment, spot_fraud",
        ),
        (("borrower", "b1"), "'borrower' cannot be frozen"),
        (("source",), "which source?"),
        (("product", "a\nb"), "which product?"),
        (("all", "acme"), "`all` takes no value"),
        (("all", "--for", "soon"), "--for: a number"),
        (("all", "--for", "0m"), "--for: a number"),
        (("all", "--for", "1h", "--until", "2099-11-02T10:00Z"), "give --until or --for, not both"),
        (("all", "--until", "tomorrow"), "--until: a time"),
        (("all", "--until", "2099-11-02"), "--until: its zone is missing"),
        (("all", "--reason", " "), "--reason: why?"),
        (("all", "--reason", "one\ntwo"), "--reason: one line"),
        (("all", "--author", "volume brake"), "--author: 'volume brake' is the gateway itself"),
    ],
)
def test_what_is_refused_and_how(arguments: tuple[str, ...], problem: str, config: Path) -> None:
    ran = CliRunner().invoke(app, ["freeze", "--config", str(config), *WHY, *arguments])
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(problem)


@pytest.mark.parametrize(
    "arguments",
    [
        ("lender", "acme"), ("lender", "acne", "--force"), ("stage", "d3"), ("channel", "sms"), ("provider", "texts"),
        ("template", "repayment"), ("source", "//core"), ("product", "loan"), ("all",), ("all", "*"),
        ("all", "--for", "90m"), ("all", "--until", "2099-11-02T10:00+08:00"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["freeze", "unfreeze"])
def test_what_is_known_goes_on_to_the_ledger(command: str, arguments: tuple[str, ...], config: Path) -> None:
    if command == "unfreeze" and any(each.startswith("--") for each in arguments):
        return
    ran = CliRunner().invoke(app, [command, "--config", str(config), *WHY, *arguments])
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr.startswith("the database cannot be reached")


def test_the_author_is_the_user_of_the_machine_or_has_to_be_given(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ["freeze", "--config", str(config), "--reason", "a test", "all"]
    monkeypatch.setenv("LOGNAME", "ann")
    assert CliRunner().invoke(app, ask).exit_code == 1
    monkeypatch.setenv("LOGNAME", "gateway")
    ran = CliRunner().invoke(app, ask)
    assert (ran.exit_code, ran.stderr) == (2, "--author: who? In the image everybody is 'gateway'\n")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    ran = CliRunner().invoke(app, ask)
    assert (ran.exit_code, ran.stderr) == (2, "--author: who? This machine does not say\n")


def test_how_much_of_each_quota_is_used_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = copy.deepcopy(CONFIG)
    tree["providers"]["texts"]["price"] = "0.05"
    tree["brakes"] = {
        "currency": "CNY",
        "sources": {"default": {"per_hour": 100}},
        "lenders": {"acme": {"per_day": 7, "spend_per_day": "12.50"}},
    }
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(tree))
    config = load(path, {**SECRETS, "DSN": "postgresql://nobody@127.0.0.1:9/none"})
    now = dt.datetime(2026, 11, 2, 12, 30, tzinfo=dt.UTC)
    hour, day = now.replace(minute=0), now.replace(hour=0, minute=0)
    volumes = {
        ("lender", "acme"): Volume(hour, day, 3, 5, 250_000),
        ("lender", "gone"): Volume(hour, day, 3, 5, 250_000),  # it has no quota any more
        ("source", "//core"): Volume(hour, day, 3, 5, 0),
        ("source", "//old"): Volume(hour - dt.timedelta(hours=1), day, 9, 9, 0),
    }
    brakes._print_volumes(config, volumes, now)
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [line for line in shown if line] == [
        ["lender acme", "", "5 of 7", "0.25 of 12.5"],
        ["source //core", "3 of 100", "", ""],
        ["source //old", "0 of 100", "", ""],
    ]
