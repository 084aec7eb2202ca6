"""The time-lapse: weeks of a few hundred loans in a minute or two, on a clock that jumps when everything is quiet."""

from gateway.dev.lapse.show import Size, run

__all__ = ["Size", "run"]
