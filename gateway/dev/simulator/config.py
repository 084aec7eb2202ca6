"""Settings of the simulator, from a YAML or JSON file and overrides."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gateway.dev.simulator.script import Script, Seconds, Span


class ReceiptSettings(BaseModel):
    """How receipts travel.  The URLs are what one types into a vendor's console; they may carry a path token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    aliyun_url: str | None = Field(default=None, repr=False)  # Voice
    aliyun_sms_url: str | None = Field(default=None, repr=False)  # reports, and what borrowers write back
    twilio_sms_url: str | None = Field(default=None, repr=False)  # what borrowers write to our numbers
    app_events_url: str | None = Field(default=None, repr=False)
    delay: Span = (0.05, 0.3)  # seconds before each receipt
    # Real seconds for one second of a vendor's retry schedule (Aliyun re-pushes after 60, 300 and 600 of them).
    retry_scale: Annotated[float, Field(ge=0, le=1)] = 1.0
    aliyun_batch: Annotated[int, Field(ge=1, le=100)] = 20  # reports in one push
    aliyun_window: Seconds = 0.02  # how long a push waits for more reports
    connections: Annotated[int, Field(ge=1, le=4096)] = 200


class CallSettings(BaseModel):
    """How calls with a dialogue pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Real seconds for one second of ringing, speaking and waiting for keys; what a call reports are its own seconds.
    scale: Annotated[float, Field(ge=0, le=1)] = 0.001
    steps: Annotated[int, Field(ge=1, le=10_000)] = 200  # verbs done before a call that goes in circles is ended


class SimulatorConfig(BaseModel):
    """One simulator.  It binds to loopback only: its control endpoints have no other guard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0  # 0 lets the system choose
    log: Path = Path("simulator.jsonl")
    fsync: bool = False
    marker: str = r"M-[0-9A-Za-z]+"
    credentials: Path | None = None  # made when missing; without it `serve` keeps them beside the log
    receipts: ReceiptSettings = ReceiptSettings()
    calls: CallSettings = CallSettings()
    script: Script = Script()

    @field_validator("host")
    @classmethod
    def _loopback(cls, host: str) -> str:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError("the simulator listens on loopback only")
        return host

    @field_validator("marker")
    @classmethod
    def _compiles(cls, marker: str) -> str:
        try:
            re.compile(marker)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return marker


def load_config(path: Path | None, **overrides: Any) -> SimulatorConfig:
    """The file's settings under the overrides; a nested mapping replaces only the keys it names.

    Raises OSError, yaml.YAMLError, or pydantic.ValidationError with every problem at once.
    """
    loaded = yaml.safe_load(path.read_text(encoding="utf-8")) if path is not None else {}
    return SimulatorConfig.model_validate(_merge(loaded or {}, overrides))


def _merge(base: Any, over: dict[str, Any]) -> Any:
    if not isinstance(base, dict):
        return base  # the model says what is wrong with it
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _merge(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged
