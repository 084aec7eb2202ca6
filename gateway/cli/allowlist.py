"""`allowlist`: from addresses to the blind indexes that the configuration holds in their place."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer

from gateway.cli.common import DEFAULT_CONFIG, WRONG, ConfigPath, fail, read

_COMMENT: Final = re.compile(r"(?:^|\s)#(.*)", re.DOTALL)  # a device token may have a # in it
_LIKE_A_NUMBER: Final = re.compile(r"(?:tel:|sms:)?[0-9+ ()./-]+", re.ASCII | re.IGNORECASE)
_MANY_DIGITS: Final = re.compile(r"(?:[0-9]\D{0,2}){7}")


class Unlisted(ValueError):
    """Why a line cannot be listed; nothing of it is in the message."""


def allowlist(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Addresses, one a line; # begins a comment. Without it: standard input.", show_default=False
        ),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Print the index of each address, one a line, for mode allowlist: the list on disk needs no address.

    Phone numbers begin with + and may have spaces; anything else is a device token. Unless every line is well formed
    nothing is printed, and it exits with 2.
    """
    from gateway.allowlist import index_of

    sealer = read(config).sealing.sealer()
    name = "standard input" if file is None else str(file)
    try:
        found, problems = _read(sys.stdin) if file is None else _read_file(file)
    except OSError as error:
        raise fail(f"{name}: cannot be read: {error.strerror}", WRONG) from None
    except UnicodeDecodeError:
        raise fail(f"{name}: is not UTF-8", WRONG) from None
    for number, why in problems:
        typer.echo(f"{name}:{number}: {why}", err=True)
    if problems:
        raise fail("nothing was listed", WRONG)
    for address, comment in found:
        typer.echo(f"{index_of(address, sealer)}{f'  # {comment}' if comment else ''}")


def _read_file(path: Path) -> tuple[list[tuple[str, str]], list[tuple[int, str]]]:
    with path.open(encoding="utf-8-sig") as lines:
        return _read(lines)


def _read(lines: TextIO) -> tuple[list[tuple[str, str]], list[tuple[int, str]]]:
    """Every address with its comment, and what is wrong with which line."""
    found, problems = [], []
    for number, line in enumerate(lines, 1):
        try:
            listed = address_in(line)
        except Unlisted as why:
            problems.append((number, str(why)))
            continue
        if listed is not None:
            found.append(listed)
    return found, problems


def address_in(line: str) -> tuple[str, str] | None:
    """The address of a line, as a request would have it, and its comment; None where a line has no address.

    A comment alone is dropped, since what is commented out may be an address.  Raises Unlisted.
    """
    match = _COMMENT.search(line)
    text = (line if match is None else line[: match.start()]).strip()
    if not text:
        return None
    comment = "" if match is None else match[1].strip()
    if _MANY_DIGITS.search(comment):
        raise Unlisted("the comment looks like a number, and would be kept as it is")
    return _address(text), comment


def _address(text: str) -> str:
    from gateway.allowlist import is_index
    from gateway.intake import checks, phones

    if text.startswith("+"):
        number = phones.from_written(text)
        if number is None:
            raise Unlisted("is no phone number that exists")
        return number
    if _LIKE_A_NUMBER.fullmatch(text):
        raise Unlisted("looks like a phone number: those begin with + and the country's code")
    if is_index(text):
        raise Unlisted("is an index already")
    if not checks.is_token(text):
        raise Unlisted("is neither a phone number nor a device token")
    return text
