"""A counter as a plain dictionary: an increment costs a quarter of the library's, which locks and keeps creation times.

Made for one thread, the event loop's; what is scraped is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

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
