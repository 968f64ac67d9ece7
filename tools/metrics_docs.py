"""Print docs/metrics.md from the catalogue: `python -m tools.metrics_docs`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from taxiway.telemetry.catalogue import CATALOGUE, FailureReason
from taxiway.telemetry.dialects import LE_KSERVE, LE_US
from taxiway.telemetry.family import Family
from taxiway.telemetry.histogram import FIRST_RESPONSE, LATENCY, ROWS
from taxiway.telemetry.log_fields import describe_fields

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"

HEAD = """\
# Metrics and log fields

This page is printed from `src/taxiway/telemetry/catalogue.py` and `log_fields.py` by
`python -m tools.metrics_docs`; a test fails when it is stale.

`GET /metrics` answers in Prometheus' text format 0.0.4, or in OpenMetrics 1.0 to those who ask for it, as
Prometheus does. Everything is worked out at the scrape; nothing is polled. In OpenMetrics a counter has to be
called `..._total`, so Triton's, which are not, are declared there as `unknown`: their values and names are the same.

Those who ask for Prometheus' protobuf form (a Prometheus with `--enable-feature=native-histograms`, or version 3 with
`scrape_native_histograms: true`) get native histograms of request, queue and infer seconds beside the classic
buckets: 8 between a time and its double, so a quantile is within 9% whatever it is, from 1 microsecond to 1024
seconds: `histogram_quantile(0.99, rate(taxiway_inference_request_seconds[5m]))`. Such a Prometheus then stores no
`_bucket` series of them, which dashboards and rules ask for, unless its job says `scrape_classic_histograms: true`
(version 2.45 and later; `always_scrape_classic_histograms` in version 3).

Two windows onto the same counts: names that begin with `nv_` are Triton's, with Triton's units and without
`_total`, so that its dashboards and autoscaling recipes work as they are; names that begin with `taxiway_`
are in seconds and bytes. They count the same requests with three differences from Triton:

- a request that a full queue turned away is a failure, with reason `REJECTED` (Triton does not count it);
- queue, compute input, infer and output are histograms too, so that percentiles can be had over a fleet;
- `nv_inference_first_response_histogram_ms` is there for every model (Triton has it for decoupled ones only).

`nv_inference_request_duration_us` ends with the run, as Triton's does; `taxiway_inference_request_seconds`
and the first-response histogram go on until the answer is handed to the socket.
"""

KSERVE = """\
KServe scrapes a runtime by the annotations `prometheus.kserve.io/port: "8002"` and
`prometheus.kserve.io/path: /metrics` of its ServingRuntime, where the service has
`serving.kserve.io/enable-prometheus-scraping: "true"`. All versions of a model are one series; waiting is in none of
these. `request_explain_seconds` is not there, as nothing explains. `metrics.dialects` says whose names are told.
"""

LOGS = """\
One event, one line on stderr: `ts` (UTC), `level`, `event`, `logger`, then these, then
`suppressed`: how many lines alike were held back before this one (at most 10 in 10 seconds are written).
"""


def format_page() -> str:
    """The whole page."""
    triton = [family for family in CATALOGUE if family.name.startswith("nv_")]
    kserve = [family for family in CATALOGUE if family.name.startswith("request_")]
    own = [family for family in CATALOGUE if not family.name.startswith(("nv_", "request_"))]
    reasons = _format_table(
        ("`taxiway_inference_failures_total`", "`nv_inference_request_failure`"),
        ((f"`{reason.label}`", f"`{reason.triton}`") for reason in FailureReason),
    )
    fields = _format_table(
        ("field", "type", "meaning"),
        ((f"`{name}`", f"`{kind}`", meaning) for name, (kind, meaning) in describe_fields().items()),
    )
    return "\n".join(
        [
            HEAD,
            "## Triton's names\n",
            _format_families(triton),
            "## KServe's names\n",
            KSERVE,
            _format_families(kserve),
            "## Our names\n",
            _format_families(own),
            "## Buckets\n",
            f"- every `taxiway_*_seconds` histogram: {', '.join(LATENCY.le)}",
            f"- `nv_inference_first_response_histogram_ms`: {', '.join(FIRST_RESPONSE.le)}",
            f"- `nv_inference_*_duration_histogram_us`: {', '.join(LE_US)}",
            f"- KServe's: {', '.join(LE_KSERVE)}",
            f"- `taxiway_inference_batch_rows`: {', '.join(ROWS.le)}\n",
            "## Reasons of failures\n",
            reasons,
            "## Log fields\n",
            LOGS,
            fields.rstrip("\n"),
            "",
        ]
    )


def _format_families(families: Iterable[Family]) -> str:
    return _format_table(
        ("name", "type", "labels", "unit", "what it tells"),
        (
            (f"`{family.name}`", family.kind.value, ", ".join(family.labels), family.unit, family.help)
            for family in families
        ),
    )


def _format_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(format_page(), encoding="utf-8")
