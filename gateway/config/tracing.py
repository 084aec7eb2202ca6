"""Where spans go, where they go anywhere."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from gateway import tracing
from gateway.config.base import Section
from gateway.config.problems import ProblemReason, misfit
from gateway.config.tls import Authorities
from gateway.loopback import is_loopback
from providers.contract import Secret, Url

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


def _is_safe(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


class Tracing(Section):
    """`endpoint` is the whole URL of a collector's OTLP/HTTP receiver, its path too.  `headers` are secrets: they are
    what a collector knows us by.  Of the requests that come in no trace a share of `sample_ratio` begins one; of the
    others their sender decides.  Without `ca_file` the certificate authorities that come with the extra count.
    """

    endpoint: Url
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    service_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "reminder-gateway"
    ca_file: Authorities | None = None
    headers: dict[HeaderName, Secret] = Field(default_factory=dict)

    @field_validator("endpoint")
    @classmethod
    def _has_the_extra(cls, endpoint: str) -> str:
        if not tracing.installed():
            raise misfit(ProblemReason.EXTRA_MISSING, "needs the extra: pip install 'reminder-gateway[otel]'")
        return endpoint

    @field_validator("headers")
    @classmethod
    def _not_in_the_open(cls, headers: dict[str, Secret], info: ValidationInfo) -> dict[str, Secret]:
        endpoint = info.data.get("endpoint")
        if headers and endpoint is not None and not _is_safe(endpoint):
            raise misfit(ProblemReason.INSECURE_URL, "go by https only, or to loopback")
        return headers
