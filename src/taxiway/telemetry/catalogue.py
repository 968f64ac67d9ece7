"""The one list of metric families: what is not here does not exist. docs/metrics.md is printed from it.

Names that begin with `nv_` are Triton's, letter for letter (its counters carry no `_total`), so that its
dashboards and autoscaling recipes work. Ours begin with `taxiway_` and are in base units: seconds and bytes.
"""

from __future__ import annotations

import enum

from taxiway.telemetry.family import Family, Merge, MetricKind
from taxiway.telemetry.gpu.families import GPU_FAMILIES

MODEL = ("model", "version")
"""The labels of everything that belongs to one model version."""


class FailureReason(enum.Enum):
    """Why a request that was accepted as valid got no answer: our word, and Triton's coarser one.

    Closed, because each is a label value: a free text there would grow the number of series without bound.
    """

    QUEUE_FULL = ("queue_full", "REJECTED")
    QUEUE_ROWS_FULL = ("queue_rows_full", "REJECTED")
    QUEUE_BYTES_FULL = ("queue_bytes_full", "REJECTED")
    PREDICTED_LATE = ("predicted_late", "REJECTED")
    TIMEOUT = ("timeout", "REJECTED")
    UNAVAILABLE = ("unavailable", "REJECTED")
    REJECTED = ("rejected", "REJECTED")
    CANCELLED = ("cancelled", "CANCELED")
    MODEL_FAILED = ("model_failed", "BACKEND")
    INTERNAL = ("internal", "OTHER")
    OTHER = ("other", "OTHER")

    def __init__(self, label: str, triton: str) -> None:
        self.label = label
        self.triton = triton

    @classmethod
    def by_label(cls, label: str, otherwise: FailureReason) -> FailureReason:
        """The reason of this name; `otherwise` for a name that is none of them."""
        return _REASONS.get(label, otherwise)


class LoadOutcome(enum.Enum):
    """How the load of a version ended."""

    LOADED = "loaded"
    FAILED = "failed"


class UnloadReason(enum.Enum):
    """Why a version left the routes."""

    REPLACED = "replaced"
    ASKED = "asked"
    REMOVED = "removed"
    ROOM = "room"
    SHUTDOWN = "shutdown"


_REASONS = {reason.label: reason for reason in FailureReason}
TRITON_REASONS = ("BACKEND", "CANCELED", "OTHER", "REJECTED")
"""Triton prints all four from the start, so that a rate over them is never absent."""


def _counter(name: str, text: str, labels: tuple[str, ...] = MODEL, unit: str = "", merge: Merge = Merge.SUM) -> Family:
    return Family(name, MetricKind.COUNTER, text, labels, unit, merge)


def _gauge(name: str, text: str, labels: tuple[str, ...] = (), unit: str = "", merge: Merge = Merge.SUM) -> Family:
    return Family(name, MetricKind.GAUGE, text, labels, unit, merge)


def _histogram(name: str, text: str, unit: str = "seconds") -> Family:
    return Family(name, MetricKind.HISTOGRAM, text, MODEL, unit)


def _kserve(name: str, text: str) -> Family:
    return Family(name, MetricKind.HISTOGRAM, f"{text}; all versions together", ("model_name",), "seconds")


# --- Triton's names ------------------------------------------------------------------------------------

NV_SUCCESS = _counter("nv_inference_request_success", "Number of successful inference requests, all batch sizes")
NV_FAILURE = _counter(
    "nv_inference_request_failure", "Number of failed inference requests, all batch sizes", (*MODEL, "reason")
)
NV_COUNT = _counter(
    "nv_inference_count",
    "Number of inferences performed: rows, not requests (does not include cached requests)",
)
NV_EXEC_COUNT = _counter(
    "nv_inference_exec_count", "Number of model executions performed (does not include cached requests)"
)
NV_REQUEST_US = _counter(
    "nv_inference_request_duration_us",
    "Cumulative inference request duration in microseconds, arrival to the end of its run",
    unit="microseconds",
)
NV_QUEUE_US = _counter(
    "nv_inference_queue_duration_us",
    "Cumulative inference queuing duration in microseconds",
    unit="microseconds",
)
NV_INPUT_US = _counter(
    "nv_inference_compute_input_duration_us",
    "Cumulative compute input duration in microseconds",
    unit="microseconds",
)
NV_INFER_US = _counter(
    "nv_inference_compute_infer_duration_us",
    "Cumulative compute inference duration in microseconds",
    unit="microseconds",
)
NV_OUTPUT_US = _counter(
    "nv_inference_compute_output_duration_us",
    "Cumulative inference compute output duration in microseconds",
    unit="microseconds",
)
PROCESSES = _gauge(
    "taxiway_model_processes",
    "Model processes of a version, by how they stand",
    (*MODEL, "state"),
)
PROCESS_DEATHS = _counter("taxiway_model_process_deaths_total", "Model processes that ended without being told to")
SEQUENCES = _gauge(
    "taxiway_sequences",
    "Sequences of a stateful model, by whether they have a place or wait for one",
    (*MODEL, "state"),
)
SEQUENCES_IDLED_OUT = _counter("taxiway_sequences_idled_out_total", "Sequences that were ended for being idle")
NV_PENDING = _gauge(
    "nv_inference_pending_request_count", "Instantaneous number of pending requests awaiting execution", MODEL
)
NV_FIRST_RESPONSE_MS = _histogram(
    "nv_inference_first_response_histogram_ms",
    "Duration from request to first response in milliseconds; of models that answer once, the whole of it",
    unit="milliseconds",
)
NV_REQUEST_HISTOGRAM_US = _histogram(
    "nv_inference_request_duration_histogram_us",
    "Answered requests: from the last byte read to the answer handed to the socket, in microseconds",
    unit="microseconds",
)
NV_QUEUE_HISTOGRAM_US = _histogram(
    "nv_inference_queue_duration_histogram_us",
    "Successful requests: from arrival to the start of their run, in microseconds",
    unit="microseconds",
)
NV_INPUT_HISTOGRAM_US = _histogram(
    "nv_inference_compute_input_duration_histogram_us",
    "Successful requests: merging the inputs of their run, in microseconds",
    unit="microseconds",
)
NV_INFER_HISTOGRAM_US = _histogram(
    "nv_inference_compute_infer_duration_histogram_us",
    "Successful requests: inside the framework, in microseconds",
    unit="microseconds",
)
NV_OUTPUT_HISTOGRAM_US = _histogram(
    "nv_inference_compute_output_duration_histogram_us",
    "Successful requests: checking and splitting the outputs of their run, in microseconds",
    unit="microseconds",
)
NV_LOAD_S = _gauge("nv_model_load_duration_secs", "Model load time in seconds", MODEL, unit="seconds", merge=Merge.MAX)
NV_CACHE_HITS = _counter("nv_cache_num_hits_per_model", "Number of response cache hits per model")
NV_CACHE_MISSES = _counter("nv_cache_num_misses_per_model", "Number of response cache misses per model")
NV_CACHE_HIT_US = _counter(
    "nv_cache_hit_duration_per_model",
    "Total cache hit duration per model, in microseconds: looking up what was there",
    unit="microseconds",
)
NV_CACHE_MISS_US = _counter(
    "nv_cache_miss_duration_per_model",
    "Total cache miss duration per model, in microseconds: looking up, and keeping the answer",
    unit="microseconds",
)
NV_CPU_UTILIZATION = _gauge("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0] since the scrape before")
NV_CPU_MEMORY_TOTAL = _gauge("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", unit="bytes")
NV_CPU_MEMORY_USED = _gauge("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", unit="bytes")

# --- KServe's names -------------------------------------------------------------------------------------

PREPROCESS_S = _kserve("request_preprocess_seconds", "Successful requests: merging the inputs of their run")
PREDICT_S = _kserve("request_predict_seconds", "Successful requests: inside the framework")
POSTPROCESS_S = _kserve(
    "request_postprocess_seconds", "Successful requests: checking and splitting the outputs of their run"
)

# --- one model version ---------------------------------------------------------------------------------

REQUEST_S = _histogram(
    "taxiway_inference_request_seconds",
    "Answered requests: from the last byte read to the answer handed to the socket",
)
QUEUE_S = _histogram("taxiway_inference_queue_seconds", "Successful requests: from arrival to the start of their run")
INPUT_S = _histogram("taxiway_inference_compute_input_seconds", "Successful requests: merging the inputs of their run")
INFER_S = _histogram("taxiway_inference_compute_infer_seconds", "Successful requests: inside the framework")
OUTPUT_S = _histogram(
    "taxiway_inference_compute_output_seconds",
    "Successful requests: checking and splitting the outputs of their run",
)
BATCH_ROWS = _histogram("taxiway_inference_batch_rows", "Rows of each successful run of the model", unit="")
ANSWERS = _counter(
    "taxiway_inference_answers_total",
    "Answers of decoupled models, which give any number to a request, by how they ended",
    (*MODEL, "outcome"),
)
FAILURES = _counter(
    "taxiway_inference_failures_total",
    "Valid requests that got no answer, by reason",
    (*MODEL, "reason"),
)
INVALID = _counter(
    "taxiway_inference_invalid_total",
    "Requests refused before the queue because of what they said, by error code; no failure of the model's",
    (*MODEL, "code"),
)
QUEUE_REQUESTS = _gauge("taxiway_queue_requests", "Requests waiting to run", MODEL)
QUEUE_ROWS = _gauge("taxiway_queue_rows", "Rows waiting to run", MODEL)
QUEUE_BYTES = _gauge("taxiway_queue_bytes", "Bytes of input waiting to run", MODEL, unit="bytes")

CACHE_JOINED = _counter(
    "taxiway_cache_joined_total", "Cache hits that waited for the run of an equal request, and were not run"
)
CACHE_BYPASSED = _counter(
    "taxiway_cache_bypassed_total", "Requests of cached models not looked up: over cache.max_input_bytes"
)
CACHE_WAITING = _gauge("taxiway_cache_waiting_requests", "Requests waiting for the run of an equal request", MODEL)
VERSION_READY = _gauge(
    "taxiway_model_ready", "1 if the version answers and makes progress, 0 if it stalled", MODEL, merge=Merge.MIN
)

# --- the life of models ---------------------------------------------------------------------------------

LOADS = _counter("taxiway_model_loads_total", "Loads of versions, by how they ended", ("outcome",))
UNLOADS = _counter(
    "taxiway_model_unloads_total",
    "Versions that left the routes: replaced by another, asked for over the API, removed from disk, unloaded to make "
    "room, or shut down",
    ("reason",),
)
MODELS_BYTES = _gauge("taxiway_models_bytes", "Size of the files of the models that are loaded", unit="bytes")
MODELS_LIMIT_BYTES = _gauge("taxiway_models_limit_bytes", "What they may take; 0 for no bound", unit="bytes")
COLD_HELD = _counter("taxiway_cold_requests_total", "Requests that waited for their model to be loaded again", ())
COLD_REFUSED = _counter(
    "taxiway_cold_requests_refused_total", "Requests for a model that is to be loaded again, refused at once", ()
)
COLD_WAITING = _gauge("taxiway_cold_requests_waiting", "Requests that wait for their model to be loaded again")

# --- the server ----------------------------------------------------------------------------------------

RESPONSES = _counter("taxiway_http_responses_total", "HTTP responses by status class", ("status_class",))
OPEN_CONNECTIONS = _gauge("taxiway_http_open_connections", "Connections open now")
ACCEPTED_CONNECTIONS = _counter("taxiway_http_accepted_connections_total", "Connections accepted", ())
REFUSED_CONNECTIONS = _counter(
    "taxiway_http_refused_connections_total", "Connections closed at once because too many were open", ()
)
REFUSED_REQUESTS = _counter(
    "taxiway_http_refused_requests_total",
    "Requests refused because the whole server was full or draining",
    (),
)
IN_FLIGHT = _gauge("taxiway_http_requests_in_flight", "Requests admitted and not yet answered")
BUFFERED_BYTES = _gauge(
    "taxiway_http_buffered_bytes", "Bytes of request bodies, and of answers not read yet, held in memory", unit="bytes"
)
OPEN_STREAMS = _gauge(
    "taxiway_open_streams",
    "Streams open now: answers over HTTP that have begun and not ended, and calls of ModelStreamInfer",
    ("protocol",),
)
CACHE_BYTES = _gauge("taxiway_cache_bytes", "Bytes of answers and keys kept, over all models", unit="bytes")
CACHE_MAX_BYTES = _gauge("taxiway_cache_max_bytes", "What cache.max_bytes allows", unit="bytes")
CACHE_ENTRIES = _gauge("taxiway_cache_entries", "Answers kept, over all models")
CACHE_EVICTIONS = _counter("taxiway_cache_evictions_total", "Answers that made room for others", ())
CACHE_OVERSIZED = _counter("taxiway_cache_oversized_total", "Answers not kept: larger than the whole cache", ())
AUTH_REFUSED = _counter(
    "taxiway_auth_refused_total",
    "Calls refused for who made them: no key, an unknown or expired one, or one without the scope or the model",
    ("reason",),
)
RELOADS = _counter(
    "taxiway_reloads_total",
    "Changed files read again while running: taken, or refused because they were broken",
    ("what", "outcome"),
    merge=Merge.MAX,  # every process, the supervisor too, reads the same files
)
TRACES = _counter(
    "taxiway_traces_total",
    "Traced requests, by what became of their trace: written, dropped (too many waited), failed (could not be written)",
    ("mode", "outcome"),
)
HANDSHAKES = _counter(
    "taxiway_tls_handshakes_total",
    "TLS handshakes over HTTP: done, failed, late, or the client was gone before it was over",
    ("outcome",),
)
SHARED_MEMORY_REGIONS = _gauge("taxiway_shared_memory_regions", "Regions of shared memory registered now")
GRPC_CALLS = _counter(
    "taxiway_grpc_calls_total", "gRPC calls that have ended, by method and status; a stream is one", ("method", "code")
)
BUILD_INFO = _gauge("taxiway_build_info", "Always 1; what runs is in the labels", ("version", "python"))
LOG_SUPPRESSED = _counter(
    "taxiway_log_suppressed_lines_total", "Log lines not written because they repeated too fast", ()
)
WORKERS = _gauge("taxiway_workers", "Data-plane processes, by what they do now", ("state",))
WORKER_RESTARTS = _counter("taxiway_worker_restarts_total", "Data-plane processes started anew after one died", ())
WORKER_MEMORY = _gauge(
    "taxiway_worker_resident_bytes", "Memory that a data-plane process occupies", ("worker",), unit="bytes"
)
CONTROL_UP = _gauge(
    "taxiway_control_up", "Whether the control process takes requests; the data plane serves without it"
)
CONTROL_RESTARTS = _counter("taxiway_control_restarts_total", "Control processes started anew after one ended", ())
ANSWERS_NOT_JUDGED = _counter(
    "taxiway_rollout_answers_not_judged_total", "Answers that a judge had no time for, of those sampled for it", ()
)
CONSOLE_STREAMS = _gauge("taxiway_console_streams", "Pages of the console that read the event stream now")
CONSOLE_STREAMS_CUT = _counter(
    "taxiway_console_streams_cut_total", "Event streams that were cut because their reader was too slow", ()
)
HISTORY_DROPPED = _counter(
    "taxiway_history_dropped_rows_total", "Seconds of series that were not kept: over monitoring.history.max_series", ()
)
CAPTURE_ROWS = _counter("taxiway_capture_rows_total", "Rows of requests that were written as Parquet")
CAPTURE_DROPPED = _counter(
    "taxiway_capture_dropped_rows_total", "Rows that were to be captured, and that there was no room for"
)
CAPTURE_BYTES = _gauge("taxiway_capture_bytes", "What captured requests take on the disk", (), unit="bytes")
MLFLOW_SENT = _counter("taxiway_mlflow_reports_total", "Reports of versions in service that MLflow was told", ())
MLFLOW_DROPPED = _counter(
    "taxiway_mlflow_dropped_reports_total",
    "Reports that MLflow was not told: it did not answer for long, or refused",
    (),
)
MLFLOW_WAITING = _gauge("taxiway_mlflow_waiting_reports", "Reports that wait for MLflow", ())
DRIFT_ROWS = _counter("taxiway_drift_rows_total", "Sampled rows that were held against the reference")
DRIFT_DROPPED = _counter(
    "taxiway_drift_dropped_requests_total", "Requests that were to be sampled, and that there was no room for"
)
DRIFT_EVIDENCE = _gauge(
    "taxiway_drift_log10_evalue",
    "Evidence of drift: the logarithm to base 10 of an e-value, an alarm once it reaches the threshold, whenever that "
    "is looked at. Kind is all (all features together), block (this block against others), input or prediction (one "
    "feature), max (the most of the features that are not told one by one)",
    (*MODEL, "feature", "kind"),
)
DRIFT_THRESHOLD = _gauge("taxiway_drift_log10_threshold", "Evidence of drift that is an alarm, by the promise", MODEL)
DRIFT_ALARM = _gauge(
    "taxiway_drift_alarm",
    "1 once drift was found, of rows or of blocks, until the version is held against another reference",
    (*MODEL, "kind"),
)
ACCURACY = _gauge(
    "taxiway_model_accuracy_ratio",
    "Share of right answers, by labels that came back or estimated from the model's confidence, with the bounds of its "
    "interval of 95 %",
    (*MODEL, "source", "bound"),
)
ACCURACY_UNRELIABLE = _gauge(
    "taxiway_model_accuracy_unreliable",
    "1 while rows are unlike those that labels are known of: then the estimate from confidence cannot be relied on",
    MODEL,
)
DRIFT_PSI = _gauge(
    "taxiway_drift_psi",
    "Population stability index of the last rows: how large a change is, not whether it is one",
    (*MODEL, "feature", "kind"),
)
DRIFT_JS = _gauge(
    "taxiway_drift_js",
    "Jensen-Shannon distance of the last rows, 0 to 1: how large a change is, not whether it is one",
    (*MODEL, "feature", "kind"),
)
DROPPED_SERIES = _gauge(
    "taxiway_metrics_dropped_series",
    "Series left out of this scrape: over the limit of their family, or told twice",
)

CATALOGUE: tuple[Family, ...] = (
    NV_SUCCESS,
    NV_FAILURE,
    NV_COUNT,
    NV_EXEC_COUNT,
    NV_REQUEST_US,
    NV_QUEUE_US,
    NV_INPUT_US,
    NV_INFER_US,
    NV_OUTPUT_US,
    NV_PENDING,
    NV_FIRST_RESPONSE_MS,
    NV_REQUEST_HISTOGRAM_US,
    NV_QUEUE_HISTOGRAM_US,
    NV_INPUT_HISTOGRAM_US,
    NV_INFER_HISTOGRAM_US,
    NV_OUTPUT_HISTOGRAM_US,
    NV_CACHE_HITS,
    NV_CACHE_MISSES,
    NV_CACHE_HIT_US,
    NV_CACHE_MISS_US,
    NV_LOAD_S,
    NV_CPU_UTILIZATION,
    NV_CPU_MEMORY_TOTAL,
    NV_CPU_MEMORY_USED,
    PREPROCESS_S,
    PREDICT_S,
    POSTPROCESS_S,
    REQUEST_S,
    QUEUE_S,
    INPUT_S,
    INFER_S,
    OUTPUT_S,
    BATCH_ROWS,
    PROCESSES,
    PROCESS_DEATHS,
    SEQUENCES,
    SEQUENCES_IDLED_OUT,
    ANSWERS,
    FAILURES,
    INVALID,
    QUEUE_REQUESTS,
    QUEUE_ROWS,
    QUEUE_BYTES,
    CACHE_JOINED,
    CACHE_BYPASSED,
    CACHE_WAITING,
    VERSION_READY,
    LOADS,
    UNLOADS,
    MODELS_BYTES,
    MODELS_LIMIT_BYTES,
    COLD_HELD,
    COLD_REFUSED,
    COLD_WAITING,
    RESPONSES,
    OPEN_CONNECTIONS,
    ACCEPTED_CONNECTIONS,
    REFUSED_CONNECTIONS,
    REFUSED_REQUESTS,
    IN_FLIGHT,
    BUFFERED_BYTES,
    OPEN_STREAMS,
    CACHE_BYTES,
    CACHE_MAX_BYTES,
    CACHE_ENTRIES,
    CACHE_EVICTIONS,
    CACHE_OVERSIZED,
    AUTH_REFUSED,
    RELOADS,
    TRACES,
    HANDSHAKES,
    SHARED_MEMORY_REGIONS,
    GRPC_CALLS,
    BUILD_INFO,
    LOG_SUPPRESSED,
    WORKERS,
    WORKER_RESTARTS,
    WORKER_MEMORY,
    CONTROL_UP,
    CONTROL_RESTARTS,
    ANSWERS_NOT_JUDGED,
    CONSOLE_STREAMS,
    CONSOLE_STREAMS_CUT,
    HISTORY_DROPPED,
    CAPTURE_ROWS,
    CAPTURE_DROPPED,
    CAPTURE_BYTES,
    MLFLOW_SENT,
    MLFLOW_DROPPED,
    MLFLOW_WAITING,
    DRIFT_ROWS,
    DRIFT_DROPPED,
    DRIFT_EVIDENCE,
    DRIFT_THRESHOLD,
    DRIFT_ALARM,
    DRIFT_PSI,
    DRIFT_JS,
    ACCURACY,
    ACCURACY_UNRELIABLE,
    *GPU_FAMILIES,
    DROPPED_SERIES,
)
"""In the order they are printed."""
