"""The keys that seal personal data."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from gateway.config.base import Section, differs
from gateway.config.problems import Problem, ProblemReason, misfit, problem
from gateway.sealing import Sealer
from providers.contract import PUBLIC_HALF

_KEY_BYTES: Final = 32


def _sealing_key(key: SecretStr) -> SecretStr:
    if len(_decoded(key)) != _KEY_BYTES:
        raise misfit(ProblemReason.BAD_KEY, f"must be {_KEY_BYTES} bytes in base64")
    return key


def _decoded(key: SecretStr) -> bytes:
    try:
        return base64.b64decode(key.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        return b""


SealingKey = Annotated[SecretStr, AfterValidator(_sealing_key)]


class Sealing(Section):
    """Keys by id; values are sealed with `current` and opened with any.  `index_key` never changes."""

    keys: Annotated[dict[Annotated[int, Field(ge=0, lt=2**32)], SealingKey], Field(min_length=1)]
    current: Annotated[int, PUBLIC_HALF]
    index_key: SealingKey

    @field_validator("current")
    @classmethod
    def _is_there(cls, current: int, info: ValidationInfo) -> int:
        if "keys" in info.data and current not in info.data["keys"]:
            raise misfit(ProblemReason.UNKNOWN_KEY_ID, "is the id of none of the keys")
        return current

    @field_validator("index_key")
    @classmethod
    def _own_key(cls, key: SecretStr, info: ValidationInfo) -> SecretStr:
        keys = {f"keys.{key_id}": _decoded(other) for key_id, other in info.data.get("keys", {}).items()}
        differs(_decoded(key), keys, ProblemReason.BAD_KEY)
        return key

    def sealer(self) -> Sealer:
        return Sealer(self.key_bytes(), self.current, _decoded(self.index_key))

    def key_bytes(self) -> dict[int, bytes]:
        return {key_id: _decoded(key) for key_id, key in self.keys.items()}

    def unlike(self, former: Sealing) -> Iterator[Problem]:
        """What must never change and has: values sealed or found before would be lost."""
        if _decoded(self.index_key) != _decoded(former.index_key):
            yield problem(("sealing", "index_key"), ProblemReason.BAD_KEY, "never changes")
        was = former.key_bytes()
        for key_id, key in self.key_bytes().items():
            if was.get(key_id, key) != key:
                message = "is another key than before: a new key needs a new id"
                yield problem(("sealing", "keys", key_id), ProblemReason.BAD_KEY, message)
