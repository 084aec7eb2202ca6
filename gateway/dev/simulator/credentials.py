"""A throwaway set of credentials: what the gateway signs with and the simulated vendors check against."""

from __future__ import annotations

import os
import secrets
import string
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import BaseModel, ConfigDict, Field

_ALNUM = string.ascii_letters + string.digits


class Credentials(BaseModel):
    """Every secret is hidden from the repr.  Only `save` and `service_account` give them out."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    twilio_account_sid: str
    twilio_auth_token: str = Field(repr=False)
    aliyun_access_key_id: str
    aliyun_access_key_secret: str = Field(repr=False)
    google_project_id: str
    google_client_email: str
    google_private_key_id: str
    google_private_key: str = Field(repr=False)  # PKCS#8 PEM, RSA
    google_token_key: str = Field(repr=False)  # the token endpoint's own; no client knows it
    app_events_token: str = Field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """A fresh set with a new 2048-bit RSA key."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        project = f"reminders-{secrets.token_hex(3)}"
        return cls(
            twilio_account_sid="AC" + secrets.token_hex(16),
            twilio_auth_token=secrets.token_hex(16),
            aliyun_access_key_id="LTAI" + _letters(20),
            aliyun_access_key_secret=_letters(30),
            google_project_id=project,
            google_client_email=f"gateway@{project}.iam.gserviceaccount.com",
            google_private_key_id=secrets.token_hex(20),
            google_private_key=pem.decode(),
            google_token_key=secrets.token_hex(32),
            app_events_token=secrets.token_urlsafe(32),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote.  Raises OSError or pydantic.ValidationError, which never shows a value."""
        return cls.model_validate_json(path.read_bytes())

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """The set in the file; a fresh one is saved there first when the file is missing."""
        if not path.exists():
            cls.generate().save(path)
        return cls.load(path)

    def save(self, path: Path) -> None:
        """Writes a new file that only its owner can read.  Raises FileExistsError: a key is never overwritten."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=2))

    def service_account(self, token_uri: str) -> dict[str, Any]:
        """Google's service account key file as a dict, with the token endpoint to use."""
        return {
            "type": "service_account",
            "project_id": self.google_project_id,
            "private_key_id": self.google_private_key_id,
            "private_key": self.google_private_key,
            "client_email": self.google_client_email,
            "client_id": "100000000000000000000",
            "token_uri": token_uri,
        }

    def google_public_key(self) -> rsa.RSAPublicKey:
        """The half that Google would hold."""
        return _public_half(self.google_private_key)


@lru_cache(maxsize=8)
def _public_half(pem: str) -> rsa.RSAPublicKey:
    """Kept: OpenSSL proves a key each time that it reads one, longer than a simulator takes to start."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("the service account key is not RSA")
    return key.public_key()


def _letters(n: int) -> str:
    return "".join(secrets.choice(_ALNUM) for _ in range(n))
