"""The dashboards: what is shown of a server, a model, a rollout, drift, GPUs and language models."""

from __future__ import annotations

from typing import Final

from taxiway.monitor.dashboards.panels import Dashboard, Kind, Panel, Query, Row, Unit, Variable

_JOB: Final = 'job=~"$job",instance=~"$instance"'
_MODEL: Final = f'{_JOB},model=~"$model",version=~"$version"'
_SCRAPED: Final = (
    Variable("job", "Job", "taxiway_build_info"),
    Variable("instance", "Instance", 'taxiway_build_info{job=~"$job"}'),
)
_MODELS: Final = (
    *_SCRAPED,
    Variable("model", "Model", f"taxiway_model_ready{{{_JOB}}}"),
    Variable("version", "Version", f'taxiway_model_ready{{{_JOB},model=~"$model"}}'),
)


def _rate(metric: str, by: str, matchers: str = _MODEL) -> str:
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str, matchers: str = _MODEL) -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', f'{by}, le', matchers)})"


def _mean(metric: str, by: str) -> str:
    return f"{_rate(f'{metric}_sum', by)} / {_rate(f'{metric}_count', by)}"


def _chart(title: str, description: str, *queries: tuple[str, str], unit: Unit = "short", **more: object) -> Panel:
    return Panel(title, description, tuple(Query(*one) for one in queries), unit, **more)  # type: ignore[arg-type]


def _llm_rate(metric: str) -> str:
    return f"sum by (model_name) (rate(vllm:{metric}[$__rate_interval]))"


def _llm_quantile(metric: str) -> str:
    return f"histogram_quantile(0.99, sum by (model_name, le) (rate(vllm:{metric}_bucket[$__rate_interval])))"


def _number(title: str, description: str, expr: str, unit: Unit = "short", **more: object) -> Panel:
    kind: Kind = "stat"
    return Panel(title, description, (Query(expr),), unit, kind, 4, 5, **more)  # type: ignore[arg-type]


_ALL_FAILED: Final = f'rate(taxiway_inference_failures_total{{{_JOB},reason!="cancelled"}}[$__rate_interval])'
_ALL_ANSWERED: Final = f"rate(taxiway_inference_request_seconds_count{{{_JOB}}}[$__rate_interval])"

OVERVIEW: Final = Dashboard(
    "taxiway-overview",
    "taxiway / Overview",
    "All models of all servers: how much they are asked, how fast they answer, what goes wrong.",
    (
        Row(
            "Now",
            (
                _number("Requests", "Answered per second, over all models.", f"sum({_ALL_ANSWERED})", "reqps"),
                _number(
                    "Failed",
                    "Of all valid requests; those whose caller went away do not count.",
                    f"sum({_ALL_FAILED}) / (sum({_ALL_ANSWERED}) + sum({_ALL_FAILED}))",
                    "percentunit",
                    limits=(0.001, 0.01),
                ),
                _number(
                    "p99",
                    "Of the time from the last byte of a request to its answer.",
                    _quantile(0.99, "taxiway_inference_request_seconds", "job", _JOB),
                    "s",
                ),
                _number("Versions ready", "That answer and make progress.", f"sum(taxiway_model_ready{{{_JOB}}})"),
                _number(
                    "Waiting", "Requests in all queues.", f"sum(taxiway_queue_requests{{{_JOB}}})", limits=(100, 1000)
                ),
                _number(
                    "Drifting",
                    "Versions of which drift was found, of rows or of days.",
                    f"sum(max by (instance, model, version) (taxiway_drift_alarm{{{_JOB}}})) or vector(0)",
                    limits=(1, 5),
                ),
            ),
        ),
        Row(
            "Models",
            (
                _chart(
                    "Requests by model",
                    "Answered per second.",
                    (_rate("taxiway_inference_request_seconds_count", "model", _JOB), "{{model}}"),
                    unit="reqps",
                ),
                _chart(
                    "p99 by model",
                    "Time from the last byte of a request to its answer.",
                    (_quantile(0.99, "taxiway_inference_request_seconds", "model", _JOB), "{{model}}"),
                    unit="s",
                ),
                _chart(
                    "Failures by reason",
                    "Valid requests without an answer. queue_* and predicted_late: more load than there is room for.",
                    (_rate("taxiway_inference_failures_total", "model, reason", _JOB), "{{model}} {{reason}}"),
                    unit="reqps",
                ),
                _chart(
                    "Waiting by model",
                    "Requests in the queue.",
                    (f"sum by (model) (taxiway_queue_requests{{{_JOB}}})", "{{model}}"),
                ),
            ),
        ),
        Row(
            "Server",
            (
                _chart(
                    "Connections and requests",
                    "Open connections, and requests that were taken and are not answered.",
                    (f"sum by (instance) (taxiway_http_open_connections{{{_JOB}}})", "connections {{instance}}"),
                    (f"sum by (instance) (taxiway_http_requests_in_flight{{{_JOB}}})", "in flight {{instance}}"),
                ),
                _chart(
                    "Processors",
                    "Of the machine, 0 to 1.",
                    (f"nv_cpu_utilization{{{_JOB}}}", "{{instance}}"),
                    unit="percentunit",
                    top=1.0,
                ),
                _chart(
                    "Memory of the workers",
                    "What each data-plane process occupies.",
                    (f"taxiway_worker_resident_bytes{{{_JOB}}}", "{{instance}} {{worker}}"),
                    unit="bytes",
                ),
                _chart(
                    "Restarts",
                    "Processes that were started anew after one ended: data plane and control.",
                    (f"increase(taxiway_worker_restarts_total{{{_JOB}}}[$__rate_interval])", "worker {{instance}}"),
                    (f"increase(taxiway_control_restarts_total{{{_JOB}}}[$__rate_interval])", "control {{instance}}"),
                ),
            ),
        ),
    ),
    _SCRAPED,
)

_STAGES: Final = (
    ("queue", "taxiway_inference_queue_seconds"),
    ("input", "taxiway_inference_compute_input_seconds"),
    ("infer", "taxiway_inference_compute_infer_seconds"),
    ("output", "taxiway_inference_compute_output_seconds"),
)

MODEL: Final = Dashboard(
    "taxiway-model",
    "taxiway / Model",
    "One model, its versions side by side: where the time goes, how requests are merged, what waits.",
    (
        Row(
            "Requests",
            (
                _chart(
                    "Requests by version",
                    "Answered per second.",
                    (_rate("taxiway_inference_request_seconds_count", "model, version"), "{{model}}:{{version}}"),
                    unit="reqps",
                ),
                _chart(
                    "Latency",
                    "From the last byte of a request to its answer.",
                    *(
                        (
                            _quantile(share, "taxiway_inference_request_seconds", "model, version"),
                            f"p{share * 100:g} {{{{model}}}}:{{{{version}}}}",
                        )
                        for share in (0.5, 0.9, 0.99)
                    ),
                    unit="s",
                ),
                Panel(
                    "Latency heat map",
                    "How many requests took how long. Two bands are two kinds of requests, or of machines.",
                    (Query(_rate("taxiway_inference_request_seconds_bucket", "le"), "{{le}}"),),
                    "s",
                    "heatmap",
                ),
                _chart(
                    "Failures",
                    "Valid requests without an answer, and those that broke a rule.",
                    (_rate("taxiway_inference_failures_total", "reason"), "{{reason}}"),
                    (
                        f"sum by (code) (rate(taxiway_inference_invalid_total{{{_MODEL}}}[$__rate_interval]))",
                        "{{code}}",
                    ),
                    unit="reqps",
                ),
            ),
        ),
        Row(
            "Where the time goes",
            (
                _chart(
                    "Mean time by stage",
                    "Of a request: waiting, merging inputs, inside the framework, splitting outputs.",
                    *((_mean(metric, "job"), stage) for stage, metric in _STAGES),
                    unit="s",
                    stacked=True,
                ),
                _chart(
                    "p99 by stage",
                    "A long queue means too much load; a long infer stage, a slow model or machine.",
                    *((_quantile(0.99, metric, "job"), stage) for stage, metric in _STAGES),
                    unit="s",
                ),
                _chart(
                    "Rows of a run",
                    "How many rows were merged: the median and the mean.",
                    (_quantile(0.5, "taxiway_inference_batch_rows", "model, version"), "p50 {{model}}:{{version}}"),
                    (_mean("taxiway_inference_batch_rows", "model, version"), "mean {{model}}:{{version}}"),
                ),
                _chart(
                    "Waiting",
                    "Requests and rows in the queue.",
                    (f"sum by (model, version) (taxiway_queue_requests{{{_MODEL}}})", "requests {{model}}:{{version}}"),
                    (f"sum by (model, version) (taxiway_queue_rows{{{_MODEL}}})", "rows {{model}}:{{version}}"),
                ),
            ),
        ),
    ),
    _MODELS,
)


def _gpu(title: str, description: str, *queries: tuple[str, str], unit: Unit = "percentunit", **more: object) -> Panel:
    told = tuple(
        (f"taxiway_gpu_{metric}{{{_JOB}}}", f"{{{{instance}}}} {{{{gpu}}}} {{{{instance_id}}}} {what}")
        for metric, what in queries
    )
    return _chart(title, description, *told, unit=unit, **more)


GPU: Final = Dashboard(
    "taxiway-gpu",
    "taxiway / GPUs",
    "How busy the GPUs are, and what they draw. Multiprocessors and tensor cores come first: that any kernel ran says "
    "little of how much of the device it used.",
    (
        Row(
            "Activity",
            (
                _gpu(
                    "Multiprocessors and tensor cores",
                    "Share of the time at work. The first high, the second low: the model is not in half precision.",
                    ("sm_activity_ratio", "sm"),
                    ("tensor_activity_ratio", "tensor"),
                    top=1.0,
                ),
                _gpu(
                    "Any kernel, and the memory's bandwidth",
                    "The first is nvidia-smi's utilization. Generating text is bound by the second.",
                    ("kernel_time_ratio", "any kernel"),
                    ("memory_bandwidth_ratio", "bandwidth"),
                    top=1.0,
                ),
                _gpu(
                    "Memory",
                    "In use, and altogether.",
                    ("memory_used_bytes", "used"),
                    ("memory_total_bytes", "total"),
                    unit="bytes",
                ),
                _gpu(
                    "Power",
                    "Drawn, and allowed.",
                    ("power_watts", "drawn"),
                    ("power_limit_watts", "limit"),
                    unit="watt",
                ),
                _gpu(
                    "Temperature",
                    "Of the chip and of its memory.",
                    ("temperature_celsius", "chip"),
                    ("memory_temperature_celsius", "memory"),
                    unit="celsius",
                ),
                _gpu(
                    "Held down",
                    "1 while heat or power holds clocks down.",
                    ("throttled", "throttled"),
                    ("last_xid", "XID"),
                    unit="short",
                ),
            ),
        ),
    ),
    _SCRAPED,
)

_ANSWERED: Final = _rate("taxiway_inference_request_seconds_count", "model, version")
_ANSWERED_BY_ALL: Final = _rate("taxiway_inference_request_seconds_count", "model")
_FAILED: Final = _rate("taxiway_inference_failures_total", "model, version")

ROLLOUT: Final = Dashboard(
    "taxiway-rollout",
    "taxiway / Rollout",
    "Versions of a model beside each other while traffic moves: shares, errors, latency.",
    (
        Row(
            "Shares",
            (
                _chart(
                    "Share of the requests",
                    "Of each version, of all that were answered.",
                    (f"{_ANSWERED} / on (model) group_left {_ANSWERED_BY_ALL}", "{{model}}:{{version}}"),
                    unit="percentunit",
                    top=1.0,
                    stacked=True,
                ),
                _chart(
                    "Share of failures",
                    "Of each version's own valid requests.",
                    (f"{_FAILED} / ({_FAILED} + {_ANSWERED})", "{{model}}:{{version}}"),
                    unit="percentunit",
                ),
            ),
        ),
        Row(
            "Latency",
            tuple(
                _chart(
                    f"p{share * 100:g} by version",
                    "Time in the framework and whole time: a version may be slower because it is asked more.",
                    (_quantile(share, "taxiway_inference_request_seconds", "model, version"), "{{model}}:{{version}}"),
                    (
                        _quantile(share, "taxiway_inference_compute_infer_seconds", "model, version"),
                        "infer {{model}}:{{version}}",
                    ),
                    unit="s",
                )
                for share in (0.5, 0.99)
            ),
        ),
    ),
    _MODELS,
)

DRIFT: Final = Dashboard(
    "taxiway-drift",
    "taxiway / Drift",
    "Whether rows, or days, are unlike the reference: evidence against its threshold, features, sizes.",
    (
        Row(
            "Evidence",
            (
                _chart(
                    "Evidence of rows",
                    "Powers of ten. At the threshold it is an alarm, at whatever time somebody looks.",
                    (f'taxiway_drift_log10_evalue{{{_MODEL},kind="all"}}', "{{model}}:{{version}}"),
                    (f"max by (model) (taxiway_drift_log10_threshold{{{_MODEL}}})", "threshold {{model}}"),
                ),
                _chart(
                    "Evidence of blocks",
                    "Whether today is unlike any day before.",
                    (f'taxiway_drift_log10_evalue{{{_MODEL},kind="block"}}', "{{model}}:{{version}}"),
                    (f"max by (model) (taxiway_drift_log10_threshold{{{_MODEL}}})", "threshold {{model}}"),
                ),
                _chart(
                    "Features with the most evidence",
                    "Which features, of inputs and predictions.",
                    (
                        f'topk(10, taxiway_drift_log10_evalue{{{_MODEL},kind=~"input|prediction"}})',
                        "{{model}}:{{version}} {{feature}}",
                    ),
                ),
                _chart(
                    "Size of the change (PSI)",
                    "Of the last rows. It says how large a change is, and not whether it is one.",
                    (f"topk(10, taxiway_drift_psi{{{_MODEL}}})", "{{model}}:{{version}} {{feature}}"),
                ),
            ),
        ),
        Row(
            "Rows",
            (
                _chart(
                    "Rows watched",
                    "Held against the reference, a second.",
                    (_rate("taxiway_drift_rows_total", "model, version"), "{{model}}:{{version}}"),
                    unit="ops",
                ),
                _chart(
                    "Requests not copied",
                    "That were to be sampled, and that there was no room for.",
                    (_rate("taxiway_drift_dropped_requests_total", "model, version"), "{{model}}:{{version}}"),
                    unit="reqps",
                ),
            ),
        ),
    ),
    _MODELS,
)

LLM: Final = Dashboard(
    "taxiway-llm",
    "taxiway / Language models",
    "What engines of language models tell under vLLM's names: tokens, times of tokens, the cache of keys and values. "
    "Empty until such an engine is served.",
    (
        Row(
            "Tokens",
            (
                _chart(
                    "Tokens",
                    "Read and written, a second.",
                    *(
                        (
                            f"sum by (model_name) (rate(vllm:{one}_tokens_total[$__rate_interval]))",
                            f"{{{{model_name}}}} {one}",
                        )
                        for one in ("prompt", "generation")
                    ),
                    unit="ops",
                ),
                _chart(
                    "Requests",
                    "That run, and that wait.",
                    *(
                        (f"sum by (model_name) (vllm:num_requests_{one})", f"{{{{model_name}}}} {one}")
                        for one in ("running", "waiting")
                    ),
                ),
                _chart(
                    "Time to the first token",
                    "p99, from the request to the first token.",
                    (_llm_quantile("time_to_first_token_seconds"), "{{model_name}}"),
                    unit="s",
                ),
                _chart(
                    "Time between tokens",
                    "p99, from one token to the next.",
                    (_llm_quantile("inter_token_latency_seconds"), "{{model_name}}"),
                    unit="s",
                ),
                _chart(
                    "Cache of keys and values",
                    "How full it is; full, requests wait or are computed anew.",
                    ("max by (model_name) (vllm:kv_cache_usage_perc)", "{{model_name}}"),
                    unit="percentunit",
                    top=1.0,
                ),
                _chart(
                    "Preemptions",
                    "Requests that had to make room for others, a second.",
                    (_llm_rate("num_preemptions_total"), "{{model_name}}"),
                ),
            ),
        ),
    ),
)

BOARDS: Final = (OVERVIEW, MODEL, ROLLOUT, DRIFT, GPU, LLM)
"""All of them, in the order in which a reader needs them."""
