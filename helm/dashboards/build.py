"""Grafana's dashboards from short sources: `python helm/dashboards/build.py`; with `--check` it only says what differs.

A panel is a title, what it says, a unit and its queries; places, ids and all that Grafana wants besides are made here,
the same for all.  What is made goes into the chart as it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
TARGET: Final = HERE.parent / "reminder-gateway" / "files" / "dashboards"
WIDTH: Final = 24
SCHEMA_VERSION: Final = 41
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
LABELS: Final = {
    "environment": "label_values(reminder_gateway_mode, environment)",
    "provider": 'label_values(reminder_gateway_circuit_state{environment="$environment"}, provider)',
}
Json = dict[str, Any]


def dashboard(source: Json) -> Json:
    """The whole of one dashboard."""
    return {
        "uid": source["uid"],
        "title": source["title"],
        "description": source["description"],
        "tags": ["reminder-gateway"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "timezone": "browser",
        "templating": {"list": [_datasource(), *(_variable(name) for name in source["variables"])]},
        "annotations": {"list": [_alerts()]},
        "links": [_link()],
        "panels": _panels(source["rows"]),
    }


def _panels(rows: list[Json]) -> list[Json]:
    panels: list[Json] = []
    y = 0
    for row in rows:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": row["title"], "collapsed": False, "gridPos": place}
        )
        panels[-1]["panels"] = []
        y, x, height = y + 1, 0, 0
        for each in row["panels"]:
            width, tall = each.get("width", 8), each.get("height", 8)
            if x + width > WIDTH:
                x, y, height = 0, y + height, 0
            panels.append(_panel(len(panels) + 1, each, {"x": x, "y": y, "w": width, "h": tall}))
            x, height = x + width, max(height, tall)
        y += height
    return panels


def _panel(number: int, source: Json, place: Json) -> Json:
    kind = source.get("kind", "timeseries")
    defaults: Json = {"unit": source["unit"], "color": {"mode": "palette-classic"}}
    if not source.get("negative"):
        defaults["min"] = 0
    if steps := source.get("thresholds"):
        ordered = [{"value": None, "color": "green"}, *({"value": at, "color": color} for at, color in steps.items())]
        defaults["thresholds"] = {"mode": "absolute", "steps": ordered}
        defaults["color"] = {"mode": "thresholds"}
    if names := source.get("values"):
        options = {str(value): {"text": text, "color": color, "index": value} for value, (text, color) in names.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    if "max" in source:
        defaults["max"] = source["max"]
    if kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 20 if source.get("stack") else 5,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if source.get("stack") else "none", "group": "A"},
        }
        if steps:
            defaults["color"] = {"mode": "palette-classic"}
            defaults["custom"]["thresholdsStyle"] = {"mode": "line"}
    return {
        "id": number,
        "type": kind,
        "title": source["title"],
        "description": source["text"],
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(kind, source),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": " ".join(query["expr"].split()),
                "legendFormat": query["legend"],
                "range": kind != "stat",
                "instant": kind == "stat",
            }
            for index, query in enumerate(source["queries"])
        ],
    }


def _options(kind: str, source: Json) -> Json:
    if kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": source.get("shows", "auto"),
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
        }
    if kind == "state-timeline":
        return {
            "showValue": "never",
            "rowHeight": 0.8,
            "mergeValues": True,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "single"},
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _datasource() -> Json:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(name: str) -> Json:
    several = name != "environment"
    variable: Json = {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "definition": LABELS[name],
        "query": {"query": LABELS[name], "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "hide": 0,
    }
    if several:
        variable["current"] = {"text": "All", "value": "$__all"}
    return variable


def _alerts() -> Json:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", service="reminder-gateway", environment="$environment"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}} {{provider}}",
        "step": "60s",
    }


def _link() -> Json:
    return {
        "type": "dashboards",
        "title": "Reminder gateway",
        "tags": ["reminder-gateway"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
    }


def built() -> dict[Path, str]:
    """What each file must contain."""
    sources = ((each.stem, yaml.safe_load(each.read_text(encoding="utf-8"))) for each in sorted(HERE.glob("*.yaml")))
    return {
        TARGET / f"{name}.json": json.dumps(dashboard(source), indent=1, ensure_ascii=False) + "\n"
        for name, source in sources
    }


def main() -> int:
    files = built()
    differ = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    differ += [path for path in TARGET.glob("*.json") if path not in files]
    for path in differ:
        sys.stdout.write(f"{path.name} is not what its source says\n")
        if "--check" not in sys.argv:
            path.write_text(files[path], encoding="utf-8")
    return 1 if differ and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
