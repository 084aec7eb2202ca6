"""The listener for the platform: health and metrics.  Never exposed to the outside."""

from gateway.internal.health import Health
from gateway.internal.http import build

__all__ = ["Health", "build"]
