"""Where the configuration in force came from, to be looked at again."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.config.loading import Rotated, rotate
from gateway.config.model import Config
from gateway.config.references import file_of, references_in
from gateway.config.sources import merge, read_variables, read_yaml
from providers.contract import Adapter

_MOST: Final = 1024 * 1024
_CERTIFICATES: Final = ("ca_file", "cert_file", "key_file")


class Source:
    """The file, the environment, and every secret's and certificate's file that they name.

    Both methods take a while: call them in a thread.

    Only contents count, no times: Kubernetes swaps a symbolic link, and what was copied back may look old.
    """

    def __init__(
        self, path: pathlib.Path, environ: Mapping[str, str], adapters: Mapping[str, Adapter] | None = None
    ) -> None:
        self._path = path
        self._environ = environ
        self._adapters = adapters
        self._named: tuple[bytes, list[pathlib.Path]] | None = None

    def look(self) -> bytes:
        """Equal when nothing has changed.  A fingerprint: nothing that was read is kept."""
        file = _content(self._path)
        found = hashlib.blake2b(file, digest_size=16)
        for path in self._files(found.digest()):
            content = _content(path)
            found.update(b"%d:%b%d:" % (len(str(path)), str(path).encode(errors="surrogateescape"), len(content)))
            found.update(content)
        return found.digest()

    def rotate(self, running: Config) -> Rotated:
        """`running` with the secrets of now.  Raises ConfigError."""
        return rotate(running, self._path, self._environ, self._adapters)

    def _files(self, written: bytes) -> list[pathlib.Path]:
        """The files that are referred to, worked out anew only when the file itself has changed."""
        if self._named is None or self._named[0] != written:
            tree, _ = read_yaml(self._path)
            variables, _ = read_variables(self._environ)
            for _, over in variables:
                tree = merge(tree or {}, over)
            at = [_reference(tree, path) for path in references_in(tree)]
            found = {path for each in at if (path := file_of(each)) is not None}
            self._named = written, sorted(found.union(_certificates(tree)))
        return self._named[1]


def _certificates(tree: Any) -> Iterator[pathlib.Path]:
    """Every certificate file; they are replaced in place, as secrets are."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            if name in _CERTIFICATES and isinstance(value, str):
                yield pathlib.Path(value)
            elif name != "settings":  # an adapter's own
                yield from _certificates(value)


def _reference(tree: object, path: tuple[str | int, ...]) -> str:
    for part in path:
        tree = tree[part]  # type: ignore[index]  # references_in has walked this way
    return str(tree)


def _content(path: pathlib.Path) -> bytes:
    """What a file holds, or why it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST)
    except OSError as error:
        return b"\0%d" % (error.errno or 0)
