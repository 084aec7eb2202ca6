"""The small part of Jinja a template may use: text, `{{ slot }}`, if/elif/else and comparisons with constants.

No loops, calls, filters, attributes, includes or assignments: a template always ends, reads nothing but its slots, and
all of its own words are known when it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

_ALLOWED: Final = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
)

# Plain text for phones, not HTML: escaping would corrupt it, and values are inert because they are never compiled.
_ENVIRONMENT: Final = ImmutableSandboxedEnvironment(autoescape=False, undefined=StrictUndefined, cache_size=0)
_ENVIRONMENT.globals.clear()


@dataclass(frozen=True, slots=True)
class Text:
    """One compiled text, the slots it reads and the words it holds itself, on whatever branch."""

    template: Template
    slots: frozenset[str]
    literals: tuple[str, ...]

    def render(self, values: dict[str, str | int]) -> str:
        """`values` holds every slot the text reads."""
        # What `Template.render` does, without a copy of the values and of the globals, of which there are none.
        return "".join(self.template.root_render_func(self.template.new_context(values, shared=True)))


def compile_text(source: str) -> Text | str:
    """The compiled text, or what is wrong with it."""
    try:
        tree = _ENVIRONMENT.parse(source)
    except TemplateSyntaxError as error:
        return f"line {error.lineno}: {error.message}"
    names = set()
    literals = []
    for node in (tree, *tree.find_all(nodes.Node)):
        if not isinstance(node, _ALLOWED):
            return f"line {node.lineno}: {type(node).__name__} is not allowed; only text, slots, if and comparisons are"
        if isinstance(node, nodes.Name):
            names.add(node.name)
        if isinstance(node, nodes.TemplateData):
            literals.append(node.data)
        if isinstance(node, nodes.Const) and isinstance(node.value, str):
            literals.append(node.value)
    if "\n" in source or not source.strip():
        return "must be one line of text"
    return Text(_ENVIRONMENT.from_string(source), frozenset(names), tuple(literals))
