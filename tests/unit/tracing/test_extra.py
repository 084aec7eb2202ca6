"""Without the extra: who configures spans is told at once, and everything else works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

MISSING = "import sys; sys.modules[{part!r}] = None; "  # as where it is not installed
TRACED = {"tracing": {"endpoint": "https://collector.example.com/v1/traces"}}


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)


@pytest.mark.parametrize("part", ["opentelemetry", "opentelemetry.exporter.otlp.proto", None])
def test_who_configures_spans_is_told(tmp_path: Path, part: str | None) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump(TRACED))
    missing = "" if part is None else MISSING.format(part=part)
    ran = python(missing + "from gateway.__main__ import main; main()", "check-config", "--config", str(config))
    assert ran.returncode == 2
    told = [line for line in (ran.stdout + ran.stderr).splitlines() if "tracing" in line]
    expected = "tracing.endpoint: needs the extra: pip install 'reminder-gateway[otel]' (extra_missing)"
    assert told == ([] if part is None else [expected])


def test_nothing_else_needs_it() -> None:
    modules = "gateway.app, gateway.cli, gateway.parameters, gateway.tracing"
    check = "print([name for name in sys.modules if name.startswith('opentelemetry.')])"
    ran = python(f"{MISSING.format(part='opentelemetry')}import {modules}; {check}")
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr
