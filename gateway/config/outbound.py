"""The way to the providers: whose certificates count, and through which proxy."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.config.base import Section
from gateway.config.problems import ProblemReason, misfit
from gateway.config.tls import Authorities, Tls, client_tls
from providers.contract import Secret

DIRECT: Final = "direct"
_PORT: Final = 3128
_CREDENTIALS: Final = re.compile(r"[^:\x00-\x1f\x7f]+:[^\x00-\x1f\x7f]*")


def _proxy(url: str) -> str:
    """http only: TLS to the provider goes through it from end to end."""
    if url == DIRECT:
        return url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port == 0 or parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise misfit(ProblemReason.WRONG_VALUE, f"must be http://host:port, or {DIRECT}")
    if "@" in parts.netloc:
        raise misfit(ProblemReason.LITERAL_SECRET, "must not hold a login; that goes to proxy_credentials")
    return url


class Outbound(Section):
    """Without `ca_file` the system's certificate authorities count, with it only its own.

    `proxy_credentials` are user:password.  Two are equal when the file holds the same, too.
    """

    ca_file: Authorities | None = None
    proxy_url: Annotated[str, Field(max_length=1000), AfterValidator(_proxy)] | None = None
    proxy_credentials: Secret | None = None

    _tls: Tls | None = PrivateAttr(default=None)

    @field_validator("proxy_credentials")
    @classmethod
    def _for_the_proxy(cls, credentials: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if credentials is None:
            return None
        if info.data.get("proxy_url", "") in (None, DIRECT):
            raise misfit(ProblemReason.WRONG_VALUE, "is of no use without proxy_url beside it")
        if _CREDENTIALS.fullmatch(credentials.get_secret_value()) is None:
            raise misfit(ProblemReason.WRONG_VALUE, "must be user:password")
        return credentials

    @model_validator(mode="after")
    def _read_once(self) -> Self:
        if self.ca_file is not None and self._tls is None:
            self._tls = client_tls(self.ca_file)
        return self

    @property
    def tls(self) -> Tls | None:
        """What `ca_file` held when this was read."""
        return self._tls

    @property
    def proxy(self) -> tuple[str, int, str | None] | None:
        """Host, port and login; None without a proxy."""
        if self.proxy_url is None or self.proxy_url == DIRECT:
            return None
        parts = urlsplit(self.proxy_url)
        assert parts.hostname is not None
        login = None if self.proxy_credentials is None else self.proxy_credentials.get_secret_value()
        return parts.hostname, parts.port or _PORT, login
