"""Lines through measurements, with how sure they are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Student's t, two-sided 95 %, by degrees of freedom.
_T: Final = (
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10
)  # fmt: skip
_BLOCKS: Final = 20


@dataclass(frozen=True)
class Slope:
    """Units per unit of x, and half the width of its 95 % interval; infinite where there are too few points."""

    value: float
    plus_minus: float

    @property
    def at_least(self) -> float:
        return self.value - self.plus_minus

    def times(self, factor: float) -> Slope:
        return Slope(self.value * factor, self.plus_minus * factor)

    def told(self, digits: int = 2) -> dict[str, float | None]:
        sure = round(self.plus_minus, digits) if math.isfinite(self.plus_minus) else None
        return {"slope": round(self.value, digits), "plus_minus_95": sure}


def second_half(points: Sequence[tuple[float, float]]) -> Slope:
    """Least squares over the second half of the run, through the medians of twenty blocks.

    Neighbouring samples are no independent witnesses: blocks nearly are, so the interval means something.
    """
    if len(points) < 2:
        return Slope(0.0, math.inf)
    middle = (points[0][0] + points[-1][0]) / 2
    half = [each for each in points if each[0] >= middle]
    size = max(1, len(half) // _BLOCKS)
    blocks = [half[at : at + size] for at in range(0, len(half) - size + 1, size)]
    return line([(_median(block, 0), _median(block, 1)) for block in blocks])


def line(points: Sequence[tuple[float, float]]) -> Slope:
    n = len(points)
    if n < 2:
        return Slope(0.0, math.inf)
    x, y = statistics.fmean(each[0] for each in points), statistics.fmean(each[1] for each in points)
    spread = sum((each[0] - x) ** 2 for each in points)
    if spread == 0:
        return Slope(0.0, math.inf)
    value = sum((a - x) * (b - y) for a, b in points) / spread
    if n < 3:
        return Slope(value, math.inf)
    left = sum((b - y - value * (a - x)) ** 2 for a, b in points)
    return Slope(value, _T[min(n - 2, len(_T)) - 1] * math.sqrt(left / (n - 2) / spread))


def _median(block: Sequence[tuple[float, float]], at: int) -> float:
    return statistics.median(each[at] for each in block)
