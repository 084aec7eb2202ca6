"""Small XML documents as trees.  Nothing is declared, included or expanded: a DOCTYPE is refused when it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NoReturn
from xml.parsers import expat

_DEEPEST: Final = 8


class BadXml(Exception):
    """The bytes are no such document; the text says where, and nothing of what stands there."""


@dataclass(slots=True)
class Element:
    """One element: its texts are joined, whatever stands between them."""

    name: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""


def read_xml(document: bytes) -> Element:
    """The root element.  Comments are skipped.  Raises BadXml."""
    parser = expat.ParserCreate()
    top = Element("", {})
    path = [top]

    def refuse(what: str) -> NoReturn:
        raise BadXml(f"{what} in line {parser.CurrentLineNumber}")

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(path) > _DEEPEST:
            refuse("too many elements inside one another")
        element = Element(name, attributes)
        path[-1].children.append(element)
        path.append(element)

    def end(_name: str) -> None:
        path.pop()

    def text(data: str) -> None:
        path[-1].text += data

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = lambda *_: refuse("a DOCTYPE")
    parser.ProcessingInstructionHandler = lambda *_: refuse("a processing instruction")
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise BadXml(f"{expat.ErrorString(error.code)} in line {error.lineno}") from None
    except (ValueError, LookupError):  # an encoding that Python does not know, or cannot decode with
        raise BadXml("an encoding that cannot be read") from None
    return top.children[0]
