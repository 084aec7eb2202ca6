"""The published OpenAPI document against a running gateway, by a fuzzer nobody here wrote."""

import asyncio
import sysconfig
from pathlib import Path

import pytest

from gateway.ids import to_reference
from tests.stack.gateway import requested
from tests.stack.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENT = Path("schemas/openapi.yaml").resolve()
FUZZER = Path(sysconfig.get_path("scripts")) / "st"
# Of a callback nobody but its adapter can say what a good body is; and a token that is none is rightly not found.
_NOT_ASKED = "positive_data_acceptance,negative_data_rejection,ensure_resource_availability"


async def fuzz(home: Path, url: str, tag: str, examples: int, settings: str = "", *headers: str) -> str:
    """What the fuzzer says; fails unless everything held."""
    config = home / f"{tag}.toml"
    config.write_text(settings)
    command = [
        str(FUZZER), "--config-file", str(config), "run", str(DOCUMENT), "--url", url, "--include-tag", tag,
        "--checks", "all", "--exclude-checks", _NOT_ASKED, "--phases", "examples,coverage,fuzzing",
        "--max-examples", str(examples), "--seed", "20261126", "--no-color", "--warnings", "off",
        *(word for header in headers for word in ("-H", header)),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, cwd=home, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    said = output.decode()
    assert process.returncode == 0, said
    return said


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
    said = await fuzz(tmp_path, url, "public", 40, known, f"Authorization: Bearer {environ['GATEWAY_APP_TOKEN']}")
    assert "3 passed" in said
    # It got as far as the ledger, and moved nothing that stands.
    assert await scene.value("select count(*) from receipt") > before
    assert await scene.ended(2) == ("delivered", None)
    assert [row["state"] for row in await scene.attempts(1)] == [push["state"]]
    log = scene.gateway.log.read_text(encoding="utf-8")
    assert '"level": "error"' not in log.partition('"ready"')[2]


async def test_the_internal_listener_keeps_its_contract(scene: Scene, tmp_path: Path) -> None:
    assert "3 passed" in await fuzz(tmp_path, scene.gateway.url, "internal", 10)


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
