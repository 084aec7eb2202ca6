"""The question to a lender's own service just before a reminder leaves: may it?"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from gateway.config.base import Count, PublicUrl, Section
from gateway.config.problems import ProblemReason, misfit
from providers.contract import Secret

_IN_A_HEADER: Final = re.compile(r"[!-~]{1,4096}", re.ASCII)


def _bearer(token: SecretStr) -> SecretStr:
    if _IN_A_HEADER.fullmatch(token.get_secret_value()) is None:
        raise misfit(ProblemReason.WRONG_VALUE, "must be visible ASCII without spaces, as it stands in a header")
    return token


class Question(Section):
    """`token` goes with it as a bearer.  An answer is good for `cache_seconds`; what has none in `timeout_seconds` is
    put off.  `concurrency` and the rate count for each process.

    It is asked for what is planned; with `requests` for what upstream asks for, too.
    """

    url: PublicUrl
    token: Annotated[Secret, AfterValidator(_bearer)]
    timeout_seconds: Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False)] = 2.0
    cache_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 5.0
    concurrency: Count = 16
    rate_per_second: Annotated[float, Field(gt=0)] | None = None
    requests: bool = False
