"""The page of Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from cord_worker import metrics
from cord_worker.coordination.coordinator.table_metrics import TABLE_METRICS
from docs.site.reference import markdown


def of_processes() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Name as Prometheus shows it, type, help and labels of each metric that every process keeps."""
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            kind = (
                "counter" if isinstance(metric, Counter) else "histogram" if isinstance(metric, Histogram) else "gauge"
            )
            name = f"{metric._name}_total" if kind == "counter" else metric._name
            yield name, kind, metric._documentation, tuple(metric._labelnames)


def page() -> str:
    """The page."""
    introduction = (
        "Every Prometheus metric of the service. Times are in seconds. A histogram has the series `_bucket`, `_sum` "
        "and `_count`. [Monitoring](../monitoring.md#metrics) says how to scrape them, and what to compute from them."
    )
    columns = ("metric", "type", "labels", "is")
    own = [
        (markdown.code(name), kind, ", ".join(map(markdown.code, labels)), markdown.cell(said))
        for name, kind, said, labels in of_processes()
    ]
    of_runs = [
        (markdown.code(one.name), "gauge", ", ".join(map(markdown.code, one.labels)), markdown.cell(one.help))
        for one in TABLE_METRICS
    ]
    return "\n".join(
        [
            markdown.head("Metrics", introduction),
            "## Of each process\n",
            markdown.table(columns, own),
            "## Of the runs\n",
            "Only the leading coordinator serves these; `cord_leading` is on every coordinator.\n",
            markdown.table(columns, of_runs),
            "## Parts of a task\n",
            markdown.docstring((metrics.__doc__ or "").partition("\n\n")[2]) + "\n",
        ]
    )
