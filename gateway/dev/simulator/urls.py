"""Where a simulator that listens can be found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the vendors are: `base` for all of them, the token endpoint, and the operator's."""

    base: str
    token: str
    control: str

    @classmethod
    def at(cls, host: str, port: int) -> Self:
        base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return cls(base=base, token=f"{base}/token", control=f"{base}/control")

    @property
    def host_port(self) -> str:
        return self.base.partition("//")[2]
