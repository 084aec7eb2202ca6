"""What every section shares: frozen, closed, checked whole, and silent about the values it was given."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from gateway.config.problems import ProblemReason, misfit
from gateway.loopback import is_loopback
from providers.contract import Url

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Port = Annotated[int, Field(ge=0, le=65_535)]  # 0 lets the system choose
Host = Annotated[str, Field(min_length=1, max_length=253)]
Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22,256}")


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True, allow_inf_nan=False
    )


def _strong(token: SecretStr) -> SecretStr:
    if _TOKEN.fullmatch(token.get_secret_value()) is None:
        raise misfit(ProblemReason.WEAK_SECRET, "must be 22 to 256 characters of A-Z a-z 0-9 _ - (128 bits or more)")
    return token


def _seen_from_outside(url: str) -> str:
    if not url.startswith("https://") and not is_loopback(urlsplit(url).hostname or ""):
        raise misfit(ProblemReason.INSECURE_URL, "must be https; http is for loopback only")
    return url


# In a path or as a bearer: nothing that would need escaping, and nothing that can be guessed.
Token = Annotated[SecretStr, AfterValidator(_strong)]
PublicUrl = Annotated[Url, AfterValidator(_seen_from_outside)]


def differs(value: object, others: dict[str, Any], reason: ProblemReason) -> None:
    """Raises when one of the keys checked before has the same value."""
    for name, other in others.items():
        if value == other:
            raise misfit(reason, f"must differ from {name}")
