"""Where a handler's metrics go: `context.metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .dimension import Dimension
from .metric_type_enum import MetricTypes

Report = Callable[[str, MetricTypes, float, Mapping[str, str]], None]
"""Tells of a metric: its name, its kind, by how much it moves or what it is, its labels."""


class CachingMetric:
    """A metric that the handler has declared itself (`metrics.add_metric_to_cache`)."""

    def __init__(self, store: MetricsStore, name: str, kind: MetricTypes, dimension_names: Sequence[str]) -> None:
        self.metric_name = name
        self.metric_type = kind
        self.dimension_names = list(dimension_names)
        self._store = store

    def add_or_update(self, value: float, dimension_values: Sequence[object] = (), request_id: str = "") -> None:  # noqa: ARG002 - TorchServe's own signature
        """Count up, set or observe, as its kind says."""
        labels = {name: str(one) for name, one in zip(self.dimension_names, dimension_values, strict=False)}
        self._store.tell(self.metric_name, self.metric_type, value, labels)


class MetricsStore:
    """Takes what a handler measures and tells it to whoever looks after metrics here."""

    def __init__(self, report: Report) -> None:
        self.request_ids: dict[int, str] | None = None
        self._report = report
        self._declared: dict[str, CachingMetric] = {}

    def tell(self, name: str, kind: MetricTypes, value: float, labels: dict[str, str]) -> None:
        """Tell of a metric; what is not a number is not one."""
        if isinstance(value, int | float):
            self._report(
                name, MetricTypes(kind.value), float(value), labels
            )  # TorchServe's own kinds have these values

    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str = "",  # noqa: ARG002 - TorchServe's own signature
        dimension_names: Sequence[str] = (),
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> CachingMetric:
        """Declare a metric."""
        self._declared[metric_name] = CachingMetric(self, metric_name, metric_type, dimension_names)
        return self._declared[metric_name]

    def get_metric(self, metric_name: str, metric_type: MetricTypes = MetricTypes.COUNTER) -> CachingMetric:
        """A metric; one that is not declared becomes so."""
        found = self._declared.get(metric_name)
        return found or self.add_metric_to_cache(metric_name, metric_type=metric_type)

    def add_counter(
        self,
        name: str,
        value: float,
        idx: int | None = None,  # noqa: ARG002
        dimensions: Sequence[Dimension] | None = None,
    ) -> None:
        """Count up."""
        self.tell(name, MetricTypes.COUNTER, value, _labels(dimensions))

    def add_time(
        self,
        name: str,
        value: float,
        idx: int | None = None,  # noqa: ARG002
        unit: str = "ms",  # noqa: ARG002
        dimensions: Sequence[Dimension] | None = None,
        metric_type: Any = MetricTypes.GAUGE,  # noqa: ANN401, ARG002
    ) -> None:
        """How long something took."""
        self.tell(name, MetricTypes.GAUGE, value, _labels(dimensions))

    def add_size(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "MB",
        dimensions: Sequence[Dimension] | None = None,
        metric_type: Any = MetricTypes.GAUGE,  # noqa: ANN401
    ) -> None:
        """How large something is."""
        self.add_time(name, value, idx, unit, dimensions, metric_type)

    def add_percent(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        dimensions: Sequence[Dimension] | None = None,
        metric_type: Any = MetricTypes.GAUGE,  # noqa: ANN401
    ) -> None:
        """How much of something."""
        self.add_time(name, value, idx, "percent", dimensions, metric_type)

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str = "",
        idx: int | None = None,
        dimensions: Sequence[Dimension] | None = None,
        metric_type: Any = MetricTypes.GAUGE,  # noqa: ANN401
    ) -> None:
        """Anything."""
        if metric_type is MetricTypes.COUNTER:
            self.add_counter(name, value, idx, dimensions)
        else:
            self.add_time(name, value, idx, unit, dimensions, metric_type)

    def add_error(self, name: str, value: object, dimensions: Sequence[Dimension] | None = None) -> None:
        """That something went wrong; counted, since an error is no number."""
        self.tell(name, MetricTypes.COUNTER, 1, {**_labels(dimensions), "error": str(value)[:100]})


def _labels(dimensions: Sequence[Dimension] | None) -> dict[str, str]:
    return {one.name: str(one.value) for one in dimensions or ()}
