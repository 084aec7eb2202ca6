"""The published OpenAPI document against a running gateway, by a fuzzer nobody here wrote."""

import asyncio
import json
import re
import sysconfig
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.ids import to_reference
from tests.stack.gateway import requested
from tests.stack.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENT = Path("schemas/openapi.yaml").resolve()
FUZZER = Path(sysconfig.get_path("scripts")) / "st"
# A token that is none is rightly not found; and of a callback nobody but its adapter can say what a good body is.
_NOT_ASKED = "positive_data_acceptance,ensure_resource_availability"
_OF_CALLBACKS = """
[[operations]]
include-path-regex = "^/callbacks/"
checks.negative_data_rejection.enabled = false
"""


async def fuzz(
    home: Path, url: str, tag: str, examples: int, settings: str = "", *headers: str, document: Path = DOCUMENT
) -> dict[str, Counter[int]]:
    """The statuses that it was answered, by operation; fails unless everything held, or one was not asked for."""
    config = home / f"{tag}.toml"
    config.write_text(settings + _OF_CALLBACKS)
    heard = home / f"{tag}.har"
    command = [
        str(FUZZER), "--config-file", str(config), "run", str(document), "--url", url, "--include-tag", tag,
        "--checks", "all", "--exclude-checks", _NOT_ASKED, "--phases", "examples,coverage,fuzzing",
        "--max-examples", str(examples), "--seed", "20261126", "--no-color", "--warnings", "off",
        "--report-har-path", str(heard),
        *(word for header in headers for word in ("-H", header)),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, cwd=home, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    said = output.decode()
    assert process.returncode == 0, said
    statuses: dict[str, Counter[int]] = {name: Counter() for name in operations(tag)}
    for entry in json.loads(heard.read_text(encoding="utf-8"))["log"]["entries"]:
        path = urlsplit(entry["request"]["url"]).path
        for name, (method, pattern) in operations(tag).items():
            if entry["request"]["method"] == method and pattern.fullmatch(path):
                statuses[name][entry["response"]["status"]] += 1
    assert all(statuses.values()), statuses
    return statuses


def of_push(reference: str, home: Path) -> Path:
    """The document as it is, but that an event of the app names this push: nobody would guess one."""
    document = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    document["components"]["schemas"]["PushEvent"]["properties"]["attempt"] = {"type": "string", "enum": [reference]}
    [content] = document["paths"]["/events/push"]["post"]["requestBody"]["content"].values()
    for example in content["examples"].values():
        example["value"]["attempt"] = reference
    path = home / "of-push.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def operations(tag: str) -> dict[str, tuple[str, re.Pattern[str]]]:
    """Every operation of the document under this tag: its method, and what its paths look like."""
    document = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return {
        each["operationId"]: (method.upper(), re.compile(re.sub(r"\\?\{[a-z]+\\?\}", "[^/]+", re.escape(path))))
        for path, item in document["paths"].items()
        for method, each in item.items()
        if method != "parameters" and tag in each["tags"]
    }


async def test_the_public_listener_keeps_its_contract(scene: Scene, tmp_path: Path) -> None:
    """With the keys in hand, so that what lies behind them is reached; nothing there answers with an error of ours."""
    await scene.world.publish([requested(1, ["push"]), requested(2, ["voice"])])
    for number in (1, 2):
        await scene.ended(number)
    (push,), (call,) = await scene.attempts(1), await scene.attempts(2)
    environ = scene.gateway.settings.environ
    known = f"""
[parameters]
provider = "aliyun"
token = "{environ["GATEWAY_CALLBACK_TOKEN"]}"
attempt = "{to_reference(call["id"])}"
"""
    url = scene.gateway.settings.tree["http"]["public_url"]
    before = await scene.value("select count(*) from receipt")
    bearer = f"Authorization: Bearer {environ['GATEWAY_APP_TOKEN']}"
    heard = await fuzz(tmp_path, url, "public", 40, known, bearer, document=of_push(to_reference(push["id"]), tmp_path))
    assert set(heard) == {"takeCallback", "takeAttemptCallback", "tellPushEvent"}
    # Behind every door, and without the keys in front of each.
    assert all(statuses[200] + statuses[204] > 0 for statuses in heard.values()), heard
    refused = await fuzz(tmp_path, url, "public", 5)
    assert set(refused) == set(heard)
    assert {status // 100 for statuses in refused.values() for status in statuses} == {4}, refused
    # It got as far as the ledger, and moved nothing that stands.
    assert await scene.value("select count(*) from receipt") > before
    assert await scene.ended(2) == ("delivered", None)
    assert [row["state"] for row in await scene.attempts(1)] == [push["state"]]
    log = scene.gateway.log.read_text(encoding="utf-8")
    assert '"level": "error"' not in log.partition('"ready"')[2]


async def test_the_internal_listener_keeps_its_contract(scene: Scene, tmp_path: Path) -> None:
    heard = await fuzz(tmp_path, scene.gateway.url, "internal", 10)
    assert set(heard) == {"livez", "readyz", "metrics"}
    assert all(statuses[200] > 0 for statuses in heard.values()), heard


async def test_the_fuzzer_sees_what_is_not_in_the_document(scene: Scene, tmp_path: Path) -> None:
    """It would pass for ever if it could not."""
    broken = tmp_path / "broken.yaml"
    text = DOCUMENT.read_text(encoding="utf-8")
    assert "'401':" in text
    broken.write_text(text.replace("'401':", "'402':"), encoding="utf-8")
    command = [
        str(FUZZER), "run", str(broken), "--url", scene.gateway.settings.tree["http"]["public_url"],
        "--include-tag", "public", "--checks", "status_code_conformance", "--max-examples", "5", "--no-color",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 1, output.decode()
    assert b"401" in output
