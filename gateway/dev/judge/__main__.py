"""`python -m gateway.dev.judge simulator.jsonl facts.jsonl cadence.yaml`"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from gateway.dev.judge.verdicts import check


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main(arguments: list[str]) -> int:
    log, facts, cadence = map(Path, arguments)
    found = check(_lines(log), _lines(facts), yaml.safe_load(cadence.read_text(encoding="utf-8")))
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
