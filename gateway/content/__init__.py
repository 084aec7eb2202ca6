"""Which words a borrower gets: templates from files, typed slots, SMS segments.  Pure once loaded."""

from gateway.content.catalogue import DEFAULT_TEMPLATES, Catalogue, Facts, Payment, Problem, Rendered
from gateway.content.dialogue import Dialogue
from gateway.content.loading import TemplateError
from gateway.content.segments import Encoding
from gateway.content.slots import LENDER_LENGTH
from gateway.content.text import plain

__all__ = [
    "DEFAULT_TEMPLATES",
    "LENDER_LENGTH",
    "Catalogue",
    "Dialogue",
    "Encoding",
    "Facts",
    "Payment",
    "Problem",
    "Rendered",
    "TemplateError",
    "plain",
]
