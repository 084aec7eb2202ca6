"""Tracing: the context of a message is passed on always; spans are made and exported where that is configured.

Only `gateway.tracing.otlp` imports OpenTelemetry, and only the composition root imports that.
"""

from __future__ import annotations

from importlib.util import find_spec

from gateway.tracing.context import Context, clean, is_sampled, read
from gateway.tracing.spans import Field, Kind, Span, SpanName, Tracer

__all__ = ["Context", "Field", "Kind", "Span", "SpanName", "Tracer", "clean", "installed", "is_sampled", "read"]

_EXTRA = "opentelemetry.exporter.otlp.proto.http"


def installed() -> bool:
    """Whether the extra is there, without importing it."""
    try:
        return find_spec(_EXTRA) is not None
    except ModuleNotFoundError:
        return False
