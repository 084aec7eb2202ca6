"""Tracing: the context of a message is passed on always; spans are made and exported where that is configured."""

from gateway.tracing.context import Context, clean, is_sampled, read

__all__ = ["Context", "clean", "is_sampled", "read"]
