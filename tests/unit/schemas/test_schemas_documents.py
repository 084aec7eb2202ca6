"""The generated contracts, judged by validators nobody here wrote."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import phonenumbers
import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import validate as validate_openapi

from schemas import generate, messages
from schemas.messages import CloudEvent, PushEvent
from schemas.repayments import REPAYMENTS_TOPIC
from schemas.shapes import MESSAGES, PUSH_EVENT

SCHEMAS = Path(generate.__file__).parent
ASYNCAPI_SCHEMA = Path(__file__).parents[2] / "vectors" / "asyncapi-3.0.0.json"
EXAMPLES = [(name, value) for name, values in generate.read_examples().items() for value in values]
IDS = [f"{name}-{index}" for index, (name, _) in enumerate(EXAMPLES)]


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / "json" / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_the_files_are_in_step_with_the_types() -> None:
    assert generate.drift() == []


def test_every_message_has_an_example() -> None:
    assert set(generate.read_examples()) == {*MESSAGES, PUSH_EVENT}


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=IDS)
def test_an_independent_validator_accepts_the_example(name: str, example: Any) -> None:
    if name == PUSH_EVENT:
        validator(name).validate(example)
    else:
        validator(f"{name}.cloudevent").validate(example)
        validator(name).validate(example["data"])


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=IDS)
def test_msgspec_reads_the_example_and_writes_it_back(name: str, example: Any) -> None:
    if name == PUSH_EVENT:
        assert msgspec.json.decode(json.dumps(example), type=PushEvent).attempt == example["attempt"]
        return
    event = msgspec.json.decode(json.dumps(example), type=CloudEvent)
    data = msgspec.convert(event.data, MESSAGES[name])
    validator(name).validate(json.loads(messages.encode(data)))


@pytest.mark.parametrize("name", MESSAGES)
def test_the_envelope_is_strict_about_what_it_carries(name: str) -> None:
    event = generate.read_examples()[name][0]
    judge = validator(f"{name}.cloudevent")
    for attribute in ("specversion", "id", "source", "type", "data"):
        assert not judge.is_valid({key: value for key, value in event.items() if key != attribute}), attribute
    assert not judge.is_valid({**event, "specversion": "0.3"})
    assert not judge.is_valid({**event, "type": f"{name}x"})
    assert not judge.is_valid({**event, "data": {}})
    assert judge.is_valid({**event, "partitionkey": "any extension"})


def test_a_status_is_a_state_or_an_answer_and_never_both() -> None:
    judge = validator(messages.STATUS)
    state, answer = (event["data"] for event in generate.read_examples()[messages.STATUS])
    assert judge.is_valid(state)
    assert judge.is_valid(answer)
    assert not judge.is_valid({**state, "answer": "too_late"})
    assert not judge.is_valid({**answer, "seq": 1})
    assert not judge.is_valid({key: value for key, value in state.items() if key != "seq"})
    assert not judge.is_valid({key: value for key, value in state.items() if key != "state"})
    assert not judge.is_valid({**state, "reason": None}), "a field without a value is left out"


def test_the_examples_tell_one_story() -> None:
    """Each answer is about a request that stands beside it."""
    examples = generate.read_examples()
    asked = {(each["source"], each["id"]): each for each in examples[messages.REQUESTED]}
    for each in examples[messages.STATUS]:
        request = asked[each["data"]["source"], each["data"]["request_id"]]
        assert each["data"]["lender"] == request["data"]["lender"]
        assert dt.datetime.fromisoformat(each["time"]) > dt.datetime.fromisoformat(request["time"])


def test_the_openapi_document_is_valid() -> None:
    document = yaml.safe_load((SCHEMAS / "openapi.yaml").read_text(encoding="utf-8"))
    validate_openapi(document)
    assert set(document["paths"]["/events/push"]["post"]["responses"]) == {
        "204",
        "400",
        "401",
        "404",
        "408",
        "413",
        "415",
        "503",
    }
    assert document["paths"]["/events/push"]["post"]["security"] == [{"appToken": []}]
    assert set(document["paths"]) == {
        "/callbacks/{provider}/{token}",
        "/callbacks/{provider}/{token}/{attempt}",
        "/events/push",
        "/livez",
        "/readyz",
        "/metrics",
    }


def test_the_asyncapi_document_is_valid() -> None:
    document = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8"))
    judge = Draft7Validator(json.loads(ASYNCAPI_SCHEMA.read_text(encoding="utf-8")))
    assert [error.message for error in judge.iter_errors(document)] == []
    assert {channel["address"] for channel in document["channels"].values()} == {
        messages.REQUESTS_TOPIC,
        REPAYMENTS_TOPIC,
        messages.EVENTS_TOPIC,
        messages.DEADLETTERS_TOPIC,
    }
    broken = {**document, "channels": {"requests": {"adress": "x"}}}
    assert list(judge.iter_errors(broken)), "the judge must be able to say no"


def test_asyncapi_examples_match_the_payloads_they_illustrate() -> None:
    document = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8"))
    seen = 0
    for message in document["components"]["messages"].values():
        judge = Draft202012Validator({**message["payload"], "components": document["components"]})
        headers = Draft202012Validator(message["headers"])
        for example in message["examples"]:
            judge.validate(example["payload"])
            headers.validate(example.get("headers", {}))
            seen += 1
    assert seen >= 6


@pytest.mark.parametrize("name", ["asyncapi.yaml", "openapi.yaml"])
def test_every_reference_in_a_document_leads_somewhere(name: str) -> None:
    document = yaml.safe_load((SCHEMAS / name).read_text(encoding="utf-8"))
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    assert references
    for reference in references:
        target = document
        for step in reference.split("/"):
            target = target[step]


def test_examples_use_numbers_that_belong_to_nobody() -> None:
    numbers = set(re.findall(r"\+\d{8,15}", json.dumps([example for _, example in EXAMPLES])))
    assert numbers == {"+8613900001234", "+15005550006"}
    assert phonenumbers.is_possible_number(phonenumbers.parse("+8613900001234"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(SCHEMAS, tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run_generate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "schemas.generate", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_check_passes_on_an_untouched_copy(copy: Path) -> None:
    done = run_generate(copy, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_check_fails_when_a_type_changes_and_generating_mends_it(copy: Path) -> None:
    types = copy / "schemas" / "messages.py"
    text = types.read_text(encoding="utf-8")
    assert "    validate_only: bool = False\n" in text
    types.write_text(text.replace("validate_only: bool = False", "validate_only: bool = True"), encoding="utf-8")

    done = run_generate(copy, "--check")

    assert done.returncode == 1
    assert "schemas/json/reminder.requested.v1.json: differs" in done.stderr
    assert "schemas/asyncapi.yaml: differs" in done.stderr
    assert "openapi.yaml" not in done.stderr
    assert "python -m schemas.generate" in done.stderr
    assert run_generate(copy).returncode == 0
    assert run_generate(copy, "--check").returncode == 0


def test_check_fails_on_a_missing_an_edited_and_a_left_over_file(copy: Path) -> None:
    root = copy / "schemas"
    (root / "json" / "push-event.json").unlink()
    with (root / "openapi.yaml").open("a", encoding="utf-8") as document:
        document.write("x-mine: true\n")
    (root / "json" / "reminder.old.v0.json").write_text("{}", encoding="utf-8")

    assert generate.drift(root) == [
        "json/push-event.json: missing",
        "openapi.yaml: differs from the types and examples",
        "json/reminder.old.v0.json: no longer generated",
    ]
    assert generate.write(root) == ["json/push-event.json", "openapi.yaml", "json/reminder.old.v0.json"]
    assert generate.drift(root) == []


def test_an_example_named_after_no_message_is_refused(copy: Path) -> None:
    (copy / "schemas" / "examples" / "reminder.unheard.v1.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="starts with no known message"):
        generate.read_examples(copy / "schemas")
