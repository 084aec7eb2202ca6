"""Writes the contract documents from the message types, or says where they have drifted.

    python -m schemas.generate            write them
    python -m schemas.generate --check    exit 1 and name every file that differs; writes nothing

Guarantees: `documents` is a pure function of the types and of the worked examples in `examples/`, so two runs give
the same bytes.  Everything under `json/`, `asyncapi.yaml` and `openapi.yaml` is generated; the examples are not.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from schemas import asyncapi, openapi
from schemas.messages import PushEvent
from schemas.shapes import DIALECT, MESSAGES, PUSH_EVENT, components, envelope, name_of

HERE: Final = Path(__file__).parent


def documents(examples: dict[str, list[Any]]) -> dict[str, str]:
    """Every generated file: path below schemas/ to its text.  `examples` as `read_examples` gives them."""
    files: dict[str, str] = {}
    for type_name, data_type in MESSAGES.items():
        events = examples.get(type_name, [])
        shapes = components([data_type], "#/$defs/{name}")
        own = shapes.pop(name_of(data_type))
        data = [event["data"] for event in events]
        files[f"json/{type_name}.json"] = _schema(type_name, own, shapes, data)
        shapes[name_of(data_type)] = own
        event_schema = envelope(type_name, f"#/$defs/{name_of(data_type)}")
        files[f"json/{type_name}.cloudevent.json"] = _schema(f"{type_name}.cloudevent", event_schema, shapes, events)
    shapes = components([PushEvent], "#/$defs/{name}")
    push_event = shapes.pop(name_of(PushEvent))
    files[f"json/{PUSH_EVENT}.json"] = _schema(PUSH_EVENT, push_event, shapes, examples.get(PUSH_EVENT, []))
    files["asyncapi.yaml"] = _yaml(asyncapi.document(examples))
    files["openapi.yaml"] = _yaml(openapi.document(examples))
    return files


def read_examples(root: Path = HERE) -> dict[str, list[Any]]:
    """The worked examples by message.  Files are `<message>.json` and `<message>.<variant>.json`.

    Raises ValueError when a file is named after no message.
    """
    found: dict[str, list[Any]] = {}
    names = (*MESSAGES, PUSH_EVENT)
    for path in sorted((root / "examples").glob("*.json"), key=lambda path: (len(path.name), path.name)):
        name = next((name for name in names if path.name.startswith(f"{name}.")), None)
        if name is None:
            raise ValueError(f"{path}: the file name starts with no known message")
        found.setdefault(name, []).append(msgspec.json.decode(path.read_bytes()))
    return found


def drift(root: Path = HERE) -> list[str]:
    """One line per generated file that is missing, different or no longer generated; empty when all is in step."""
    wanted = documents(read_examples(root))
    lines = []
    for name, text in wanted.items():
        path = root / name
        if not path.exists():
            lines.append(f"{name}: missing")
        elif path.read_text(encoding="utf-8") != text:
            lines.append(f"{name}: differs from the types and examples")
    lines += [f"{name}: no longer generated" for name in sorted(_present(root) - wanted.keys())]
    return lines


def write(root: Path = HERE) -> list[str]:
    """Brings the files in step and returns the names of those it touched."""
    wanted = documents(read_examples(root))
    touched = []
    for name, text in wanted.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            touched.append(name)
    for name in sorted(_present(root) - wanted.keys()):
        (root / name).unlink()
        touched.append(name)
    return touched


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a document has drifted")
    if not parser.parse_args(arguments).check:
        sys.stdout.writelines(f"wrote schemas/{name}\n" for name in write())
        return 0
    lines = drift()
    if lines:
        sys.stderr.writelines(f"schemas/{line}\n" for line in lines)
        sys.stderr.write("The contracts are out of step with the code: run `python -m schemas.generate`.\n")
    return 1 if lines else 0


def _present(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in (root / "json").glob("*.json")}


def _schema(name: str, own: dict[str, Any], shapes: dict[str, Any], examples: list[Any]) -> str:
    document = {"$schema": DIALECT, "$id": f"urn:reminder-gateway:schema:{name}", **own, "examples": examples}
    if shapes:
        document["$defs"] = shapes
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # a document for readers: no anchors


def _yaml(document: dict[str, Any]) -> str:
    header = "# Generated by `python -m schemas.generate` from schemas/messages.py.  Do not edit.\n"
    return header + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    sys.exit(main())
