"""How much may be sent before the volume brake freezes a source or a lender by itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.base import Section
from gateway.config.problems import ProblemReason, misfit

# Of whom no quota of its own is written.
DEFAULT: Final = "default"


def _exact(amount: Any) -> Any:
    if isinstance(amount, float):
        raise misfit(ProblemReason.WRONG_VALUE, "must be written in quotes, so that it stays exact")
    return amount


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise misfit(ProblemReason.WRONG_VALUE, "is no time zone, as Asia/Shanghai is one") from None
    return name


Messages = Annotated[int, Field(ge=1, le=1_000_000_000)]
# Counted in millionths.
Amount = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, max_digits=18, decimal_places=6)]


class Quota(Section):
    """So many attempts in an hour and in a day; None is no limit."""

    per_hour: Messages | None = None
    per_day: Messages | None = None


class LenderQuota(Quota):
    """`spend_per_day` is in `brakes.currency`, by the providers' prices."""

    spend_per_day: Amount | None = None


class Brakes(Section):
    """By source and by lender; what stands under `default` is for each that is not named.  A day begins at midnight in
    `timezone`.
    """

    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    sources: dict[Annotated[str, Field(min_length=1, max_length=1024)], Quota] = Field(default_factory=dict)
    lenders: dict[Annotated[str, Field(min_length=1)], LenderQuota] = Field(default_factory=dict)

    def of_lender(self, ref: str) -> LenderQuota | None:
        return self.lenders.get(ref, self.lenders.get(DEFAULT))
