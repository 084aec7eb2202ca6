"""Counters and histograms as plain numbers: an increment costs a fifth of the library's, which locks each of them.

Made for one thread, the event loop's; what is scraped is exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.observability.labels import NONE

# Label values in the order of their names; None is shown as `none`.
Key: TypeAlias = tuple[str | None, ...]


class Counts(Counter[Key]):
    """How often each combination of label values came.  The given ones exist at zero; another joins when it comes."""

    def __init__(
        self, registry: CollectorRegistry, name: str, text: str, labels: Sequence[str] = (), keys: Iterable[Key] = ((),)
    ) -> None:
        super().__init__(dict.fromkeys(keys, 0))
        registry.register(_Exported(self, name, text, labels))


class _Exported(Collector):
    def __init__(self, counts: Counts, name: str, text: str, labels: Sequence[str]) -> None:
        self._counts = counts
        self._described = (name, text, labels)

    def describe(self) -> Iterable[CounterMetricFamily]:
        name, text, labels = self._described
        return [CounterMetricFamily(name, text, labels=labels)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        [family] = self.describe()
        for key, n in self._counts.items():
            family.add_metric([NONE if each is None else str(each) for each in key], n)
        return [family]


class Durations:
    """How long something took, by one label, in buckets of seconds."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        text: str,
        label: str,
        values: Iterable[str],
        bounds: Sequence[float],
    ) -> None:
        self._described = (name, text, [label])
        self._bounds = tuple(bounds)
        self._counts = {value: [0] * (len(bounds) + 1) for value in values}
        self._sums = dict.fromkeys(self._counts, 0.0)
        registry.register(_ExportedDurations(self))

    def observe(self, value: str, seconds: float) -> None:
        self._counts[value][bisect_left(self._bounds, seconds)] += 1
        self._sums[value] += seconds

    def family(self, *, empty: bool = False) -> HistogramMetricFamily:
        name, text, labels = self._described
        family = HistogramMetricFamily(name, text, labels=labels)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for value, counts in () if empty else self._counts.items():
            family.add_metric([value], list(zip(names, accumulate(counts), strict=True)), self._sums[value])
        return family


class _ExportedDurations(Collector):
    def __init__(self, durations: Durations) -> None:
        self._durations = durations

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [self._durations.family(empty=True)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        return [self._durations.family()]
