"""Every setting: its name, type, default, rule and meaning. Nothing here reads a file or the environment.

The docstring under a field is its documentation: `taxiway config explain`, the flags' help and
docs/configuration.md all print it. Units stand in names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from taxiway.config.monitoring import MonitoringSettings
from taxiway.config.rollout_plan import ControlSettings, RolloutPlan
from taxiway.config.sections import (
    Bytes,
    Count,
    CountOrNone,
    Digest,
    FileName,
    Host,
    Milliseconds,
    OptionText,
    Port,
    Rows,
    Seconds,
    Section,
    SocketPath,
    Threads,
    broken_rule,
    checked_ref,
)
from taxiway.telemetry.family import Dialect


class HttpSettings(Section):
    """The inference front door."""

    host: Host = "127.0.0.1"
    """Address to listen on. Beyond loopback it needs `auth.keys_file`, `tls.client_ca` or `insecure: true`."""

    port: Port = 8000
    """TCP port; 0 lets the system choose one, which is printed."""

    backlog: Annotated[int, Field(ge=1, le=65535)] = 1024
    """Connections the kernel holds until they are accepted."""

    reuse_port: bool = False
    """Share the port with other servers (SO_REUSEPORT); the kernel spreads connections over them. For several processes
    of one server there is `workers`."""

    unix_socket: SocketPath = ""
    """Path of a Unix socket to listen on as well, for its owner and group (mode 0660), without TLS; empty: none."""


class GrpcSettings(Section):
    """The gRPC front door: `inference.GRPCInferenceService`, health and reflection."""

    enabled: bool = True
    """Whether the port is opened at all."""

    host: Host = "127.0.0.1"
    """Address to listen on. Beyond loopback it needs `auth.keys_file`, `tls.client_ca` or `insecure: true`."""

    port: Port = 8001
    """TCP port; 0 lets the system choose one, which is printed."""

    unix_socket: SocketPath = ""
    """Path of a Unix socket to listen on as well, for its owner and group (mode 0660), without TLS; empty: none. With
    several `workers` it cannot be shared."""

    reflection: bool = True
    """Whether clients may ask which services and messages there are, as grpcurl does."""

    compression: Literal["none", "deflate", "gzip"] = "none"
    """How answers are compressed for clients that accept it."""


class MetricsSettings(Section):
    """Prometheus metrics on a port of their own: a scrape never waits behind inference."""

    host: Host = "127.0.0.1"
    """Address to listen on. Beyond loopback it needs `auth.keys_file`, `tls.client_ca` or `insecure: true`."""

    port: Port = 8002
    """TCP port of `GET /metrics`; 0 lets the system choose one, which is printed."""

    enabled: bool = True
    """Whether the port is opened at all."""

    dialects: tuple[Dialect, ...] = ("native", "triton", "kserve", "vllm")
    """Whose names are told: `native` (`taxiway_*`), `triton` (`nv_*`), `kserve` (`request_*_seconds`), and `vllm`, of
    which there are none yet."""


class TlsSettings(Section):
    """TLS on every port: inference over HTTP and gRPC, and metrics. The files are read again when they change."""

    certificate: FileName = ""
    """PEM file of the server's certificate and its chain; empty: no TLS."""

    key: FileName = ""
    """PEM file of its private key."""

    client_ca: FileName = ""
    """PEM file of the authorities whose client certificates are asked for and required (mutual TLS); empty: none."""

    @model_validator(mode="after")
    def _complete(self) -> TlsSettings:
        if bool(self.certificate) != bool(self.key):
            missing = "key" if self.certificate else "certificate"
            raise broken_rule(missing, "is needed too: TLS wants a certificate and its key")
        if self.client_ca and not self.certificate:
            raise broken_rule("client_ca", "needs tls.certificate and tls.key: client certificates are part of TLS")
        return self


class AuthSettings(Section):
    """Who may call."""

    keys_file: FileName = ""
    """YAML file of API keys, read again when it changes; empty: callers are not asked. `taxiway keys new` makes one."""


class SharedMemorySettings(Section):
    """Tensors in memory that clients share with the server (Triton's extension)."""

    system: bool = False
    """Whether clients may register regions of /dev/shm. They must be on this machine, and trusted with each other."""

    max_regions: Annotated[int, Field(ge=1, le=65536)] = 256
    """Regions registered at once; each keeps a file open."""


class CacheSettings(Section):
    """Answers kept for requests that come again, of models whose config.pbtxt enables `response_cache`."""

    max_bytes: Annotated[int, Field(ge=0, le=1 << 50)] = 0
    """Bytes of answers and keys to keep, over all models; the least recently used go first. 0 keeps none."""

    max_input_bytes: Annotated[int, Field(ge=0, le=1 << 40)] = 2 << 20
    """Requests with more bytes of input are not looked up: making their key would hold others up (1 ms for 2 MiB)."""


class TraceSettings(Section):
    """Traces of single requests; all of it can be changed while the server runs (`/v2/trace/setting`)."""

    level: Annotated[tuple[Literal["OFF", "TIMESTAMPS", "TENSORS"], ...], Field(min_length=1)] = ("OFF",)
    """What is traced: when a request got where, and the beginnings of its tensors."""

    rate: Count = 1000
    """Every how many-th request is traced."""

    count: Annotated[int, Field(ge=-1, le=1 << 40)] = -1
    """How many requests are traced before it stops; -1: no end."""

    mode: Literal["triton", "opentelemetry"] = "triton"
    """`triton` writes JSON to `trace.file`; `opentelemetry` exports spans (needs `pip install taxiway[otel]`)."""

    file: FileName = ""
    """Where mode `triton` writes; it cannot be changed over the network."""

    log_frequency: CountOrNone = 0
    """Traces per file, which then get numbers (`FILE.0`, `FILE.1`); 0 writes them all to one."""

    endpoint: Annotated[str, Field(max_length=2048)] = "http://127.0.0.1:4318/v1/traces"
    """Where mode `opentelemetry` sends spans: an OTLP collector's HTTP address."""

    @model_validator(mode="after")
    def _complete(self) -> TraceSettings:
        if "OFF" in self.level and len(self.level) > 1:
            raise broken_rule("level", "OFF stands alone")
        if self.level != ("OFF",) and self.mode == "triton" and not self.file:
            raise broken_rule("file", "is needed: trace.level says that something is traced, and mode triton writes it")
        return self


class RecordingSettings(Section):
    """Requests that `taxiway record` may read, to make a workload of them."""

    mode: Literal["off", "shapes", "inputs"] = "off"
    """Nothing; datatypes and shapes of inputs; or their content too. Whoever may administer a model may record it."""

    max_requests: Count = 20_000
    """Requests of one recording that a process holds until they are fetched; more are dropped and counted."""

    max_bytes: Bytes = 64 << 20
    """Bytes of their content that it holds."""


class LimitSettings(Section):
    """What one connection and the whole server accept before they say no."""

    max_header_bytes: Annotated[int, Field(ge=256, le=1 << 20)] = 16384
    """Bytes of request line and headers together; more is answered 431."""

    max_headers: Count = 100
    """Header lines in one request; more is answered 431."""

    max_body_bytes: Bytes = 64 << 20
    """Bytes of one request body; more is answered 413, before it is read if its length is announced."""

    max_json_depth: Annotated[int, Field(ge=4, le=1000)] = 100
    """Levels of nesting in the data of a JSON tensor; deeper is answered 413."""

    max_elements: Count = 64 << 20
    """Elements in one tensor of a request; more is answered 413."""

    max_chunks: Count = 65536
    """Chunks in one chunked body; more is answered 413: tiny chunks cost far more than their bytes."""

    max_pipelined: Count = 64
    """Requests of one connection that wait for answers; more are not read until some are answered."""

    header_timeout_s: Seconds = 10.0
    """Seconds from a request's first byte to the end of its headers; later is answered 408."""

    body_timeout_s: Seconds = 60.0
    """Seconds from the end of the headers to the end of the body; later is answered 408."""

    min_body_rate_bytes_s: CountOrNone = 1024
    """Bytes a second a body must keep up; slower is answered 408. A client that reads its answer more slowly than
    that is disconnected, once `limits.write_timeout_s` is over. 0 sets no minimum."""

    idle_timeout_s: Seconds = 75.0
    """Seconds a connection may stay open with nothing asked."""

    write_timeout_s: Seconds = 30.0
    """Seconds a client may leave an answer unread before it is disconnected."""

    max_connections: Count = 10000
    """Open connections; more are answered 503 and closed. gRPC counts its own, and closes what is more."""

    max_requests: Count = 4096
    """Requests in flight in the whole server; more are answered 503 with Retry-After."""

    max_buffered_bytes: Bytes = 1 << 30
    """Bytes of bodies received or queued and of answers not read yet, whole server; more is answered 503."""

    max_stream_buffer_bytes: Bytes = 16 << 20
    """Bytes of answers of one stream that wait for a client which reads more slowly than its model answers; with more
    the model is told to stop and the client is disconnected."""

    drain_delay_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    """Seconds after SIGTERM in which the server says that it is not ready and yet serves, so that whoever routes
    to it can look elsewhere first. Ctrl-C waits for nobody."""

    drain_timeout_s: Seconds = 30.0
    """Seconds that requests in flight get to finish after that."""

    linger_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Seconds for which a server that another one has replaced (`taxiway admin upgrade`) keeps its connections: each
    client learns by an answer that it should connect anew, and none by a connection that is closed while it asks."""

    @model_validator(mode="after")
    def _buffer_holds_one_body(self) -> LimitSettings:
        if self.max_buffered_bytes < self.max_body_bytes:
            raise broken_rule(
                "max_buffered_bytes",
                f"must be at least limits.max_body_bytes ({self.max_body_bytes}): "
                "otherwise a body of allowed size never fits",
            )
        return self


class QueueSettings(Section):
    """How much may wait for one model."""

    max_requests: Count = 2048
    """Requests that may wait; more are answered 503 with Retry-After."""

    max_rows: Count = 65536
    """Rows that may wait, over all requests; more are answered 503 with Retry-After."""

    max_bytes: Bytes = 256 << 20
    """Bytes of input that may wait; more are answered 503 with Retry-After."""

    max_wait_ms: Milliseconds = 0.0
    """Milliseconds: a request whose predicted wait is longer is answered 503 at once. 0 sets no bound."""


class BatchingSettings(Section):
    """Merging requests into one run of a model: the defaults, used where config.pbtxt is silent."""

    enabled: bool = True
    """Whether requests are merged for models that can; false still lets one request carry many rows."""

    max_batch_size: Rows = 0
    """Most rows in one run of a model whose config.pbtxt gives no max_batch_size; 0 chooses automatically."""

    best_batch: Rows = 0
    """Most rows to merge into one run; one request may still bring max_batch_size. 0 measures it at load."""

    max_delay_ms: Milliseconds = 0.0
    """Milliseconds a request may wait for others to join; 0 merges only what queued meanwhile."""

    objective_p99_ms: Milliseconds = 0.0
    """Milliseconds that 99 % of requests should stay under; batches are kept small enough. 0: none."""

    preferred: tuple[Annotated[Rows, Field(ge=1)], ...] = ()
    """Batch sizes to run as soon as one is reached, ascending; empty means any size."""

    measure: bool = True
    """Whether the time of one run by batch size is measured at load, for best_batch and predicted waits."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> BatchingSettings:
        if list(self.preferred) != sorted(set(self.preferred)):
            raise broken_rule("preferred", "must be ascending, each size once")
        if self.max_batch_size and self.preferred and self.preferred[-1] > self.max_batch_size:
            raise broken_rule("preferred", f"no size may exceed max_batch_size ({self.max_batch_size})")
        if self.max_batch_size and self.best_batch > self.max_batch_size:
            raise broken_rule("best_batch", f"must not exceed max_batch_size ({self.max_batch_size})")
        return self


class ExecutionSettings(Section):
    """Where and with what a model runs."""

    mode: Literal["auto", "inline", "thread"] = "auto"
    """`inline` runs on the event loop, `thread` beside it; `auto` measures at load and picks."""

    inline_threshold_us: CountOrNone = 300
    """Microseconds: `auto` runs a model inline if one run takes less; a longer one would hold up the loop."""

    instances: Threads = 0
    """Batches of one model that may run at the same time; 0 chooses from the processors available."""

    intra_op_threads: Threads = 0
    """Threads inside one operator; 0: its own, and the processors of the cgroup that the instances leave free."""

    inter_op_threads: Threads = 0
    """Threads over independent operators of one run; 0 runs them one after the other."""

    providers: Annotated[tuple[str, ...], Field(min_length=1)] = ("CPUExecutionProvider",)
    """ONNX Runtime execution providers, the first that can run an operator takes it."""

    provider_options: dict[str, dict[str, OptionText]] = Field(default_factory=dict)
    """Options by provider, as ONNX Runtime spells them: `{"CUDAExecutionProvider": {"device_id": "0"}}`."""

    warmup: bool = True
    """Whether a model is run before it is called ready, so that no client pays for the first run."""

    warmup_runs: Annotated[int, Field(ge=1, le=1000)] = 2
    """Runs per warm-up shape."""

    python: FileName = ""
    """Interpreter of the processes in which models run that are not ONNX: another environment's, with numpy and
    msgspec in it; empty for the server's own."""

    environments: FileName = ""
    """Directory for the unpacked environments of models that bring their own as an archive (Triton's parameter
    EXECUTION_ENV_PATH); empty: `taxiway/environments` in XDG_CACHE_HOME, which is ~/.cache if it is not set."""

    memory_bytes: CountOrNone = 0
    """Private memory that each model process may have; beyond it the model gets MemoryError. 0: no limit."""

    shared_memory_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 40)] = 4 << 30
    """Shared memory between the server and each model process, at most, in each direction; used as it is needed."""

    pin_cpus: bool = False
    """Whether each model process gets processors of its own."""

    load_timeout_s: Seconds = 300.0
    """How long a model process may take to load its model."""

    @model_validator(mode="after")
    def _options_have_providers(self) -> ExecutionSettings:
        for provider in self.provider_options:
            if provider not in self.providers:
                raise broken_rule("provider_options", f"{provider!r} is not in execution.providers")
        return self


class ModelOverride(Section):
    """Settings of one model, by its name; only the keys given here differ from the server's."""

    batching: BatchingSettings = Field(default_factory=BatchingSettings)
    """Overrides of `batching`; they also win over the model's config.pbtxt."""

    execution: ExecutionSettings = Field(default_factory=ExecutionSettings)
    """Overrides of `execution`; `instances` also wins over the model's config.pbtxt."""

    queue: QueueSettings = Field(default_factory=QueueSettings)
    """Overrides of `queue`."""

    trust: tuple[Digest, ...] = ()
    """Digests beside those of `models.trust` that this model's processes may load. A registered model that is served by
    its reference brings those that its import was told."""


class ModelsSettings(Section):
    """Which models are served."""

    paths: tuple[Path, ...] = ()
    """Model repositories (directories as Triton lays them out) and single model files."""

    control: Literal["none", "explicit", "poll"] = "none"
    """Who changes what is served: nobody; callers of the repository API; or whoever changes the files in `paths`,
    which are then looked at every `poll_s`. `none` and `poll` load everything at start."""

    load: tuple[str, ...] = ("*",)
    """With `explicit`: the models to load at start; `*` means all, an empty list none."""

    poll_s: Annotated[float, Field(ge=0.05, le=86400)] = 5.0
    """Seconds between two looks at `paths`. A change is loaded once it has stood still from one look to the next."""

    memory_bytes: Annotated[int, Field(ge=0, le=1 << 50)] = 0
    """Bytes that loaded models may take together, by the size of their files; the least recently used are unloaded to
    make room, and loaded again when they are asked for. 0: no bound."""

    cold_requests: Count = 256
    """Requests that may wait for one model to be loaded again; more are answered 503 with Retry-After."""

    stall_timeout_s: Seconds = 60.0
    """A version whose run has not come back for so long is not ready: it makes no progress."""

    trust: tuple[Digest, ...] = ()
    """SHA-256 digests of the pickles that model processes may load; a pickle runs whatever code is in it."""

    overrides: dict[str, ModelOverride] = Field(default_factory=dict)
    """Partial `batching`, `execution`, `queue` by model name: `{"resnet": {"queue": {"max_rows": 64}}}`."""


class PipelineStep(Section):
    """One model of a pipeline."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """The model's name, or `name:3` for one version of it."""

    inputs: dict[str, str] = Field(default_factory=dict)
    """The model's inputs and the pipeline's tensors that they read; one left out reads the tensor of its own name."""

    outputs: dict[str, str] = Field(default_factory=dict)
    """The model's outputs and the pipeline's tensors that they write, likewise."""

    @field_validator("model")
    @classmethod
    def _a_reference(cls, value: str) -> str:
        return checked_ref(value, versions=True)


class PipelineSettings(Section):
    """A chain of models, served as an ensemble under the pipeline's name."""

    steps: Annotated[tuple[PipelineStep, ...], Field(min_length=1, max_length=1000)]
    """Its models; each runs as soon as what it reads is there."""


class LogSettings(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe lines that are written."""

    format: Literal["json", "text"] = "text"
    """`json` writes one object per line, for collectors; `text` is for people."""

    access: bool = False
    """Whether requests are logged: who asked what, and how and when it was answered."""

    access_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the requests that went well and fast, how many are logged, by chance; all that failed or were slow are."""

    slow_ms: Milliseconds = 1000.0
    """What is slow, for `access_share`."""


class RegistrySettings(Section):
    """Where registered models are kept. Only commands about the registry read it; a running server does not."""

    url: Annotated[str, Field(max_length=2048)] = ""
    """The database: `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE` (passwords belong into ~/.pgpass); empty:
    `taxiway/registry.db` in XDG_DATA_HOME, which is ~/.local/share if it is not set."""

    blobs: Annotated[str, Field(max_length=2048)] = ""
    """Where models' files are kept: a directory, or a URL that fsspec knows (`s3://`, `gs://`, `az://`); empty: `blobs`
    beside the SQLite file, or in `taxiway` in XDG_DATA_HOME."""

    cache: FileName = ""
    """Directory for registered models that are served; empty: `taxiway/models` in XDG_CACHE_HOME, which is ~/.cache if
    it is not set."""

    actor: Annotated[str, Field(max_length=256)] = ""
    """Whose name changes are recorded under; empty: the user's."""


class MlflowSettings(Section):
    """Which MLflow is a source and a mirror of models. What its client reads itself, as its token, stays its own."""

    tracking_uri: Annotated[str, Field(max_length=2048)] = ""
    """Where runs and models are: `http://HOST:5000`, or `sqlite:///PATH/mlflow.db`; empty: MLFLOW_TRACKING_URI."""

    registry_uri: Annotated[str, Field(max_length=2048)] = ""
    """Where registered models are, if elsewhere; empty: MLFLOW_REGISTRY_URI, or the same."""


class Settings(Section):
    """The whole of it. Frozen: a change is a new one, applied at a restart."""

    http: HttpSettings = Field(default_factory=HttpSettings)
    """The inference front door."""

    grpc: GrpcSettings = Field(default_factory=GrpcSettings)
    """The gRPC front door."""

    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    """Prometheus metrics, on their own port."""

    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Data-plane processes that share the ports; limits of the whole server are divided among them. Each loads every
    model."""

    tls: TlsSettings = Field(default_factory=TlsSettings)
    """Encryption of every port."""

    auth: AuthSettings = Field(default_factory=AuthSettings)
    """Who may call."""

    compat: Literal["strict", "triton"] = "strict"
    """`triton` keeps Triton's own status codes and leniencies where `strict` answers better."""

    insecure: bool = False
    """Allow listening beyond loopback without authentication."""

    cache: CacheSettings = Field(default_factory=CacheSettings)
    """Answers kept for requests that come again."""

    shared_memory: SharedMemorySettings = Field(default_factory=SharedMemorySettings)
    """Tensors in memory that clients share with the server."""

    trace: TraceSettings = Field(default_factory=TraceSettings)
    """Traces of single requests."""

    recording: RecordingSettings = Field(default_factory=RecordingSettings)
    """Requests that may be recorded as a workload."""

    limits: LimitSettings = Field(default_factory=LimitSettings)
    """What is accepted before the answer is no."""

    queue: QueueSettings = Field(default_factory=QueueSettings)
    """How much may wait, per model."""

    batching: BatchingSettings = Field(default_factory=BatchingSettings)
    """Defaults for merging requests, used where config.pbtxt is silent."""

    execution: ExecutionSettings = Field(default_factory=ExecutionSettings)
    """Where and with what models run."""

    models: ModelsSettings = Field(default_factory=ModelsSettings)
    """Which models are served."""

    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    """Where registered models are kept."""

    pipelines: dict[str, PipelineSettings] = Field(default_factory=dict)
    """Chains of models by name, each served as a model: `{"fraud": {"steps": [{"model": "features"}, {"model":
    "score"}]}}`. Tensors are passed by name; `inputs` and `outputs` of a step map those whose names differ."""

    control: ControlSettings = Field(default_factory=ControlSettings)
    """The control process."""

    rollouts: dict[str, RolloutPlan] = Field(default_factory=dict)
    """Rollouts by the model's name: begun when the server starts, if what they lead to is not served yet; and the
    defaults of `taxiway rollout start` for that model."""

    mlflow: MlflowSettings = Field(default_factory=MlflowSettings)
    """Which MLflow is a source and a mirror of models."""

    monitoring: MonitoringSettings = Field(default_factory=MonitoringSettings)
    """What is watched of models in service."""

    log: LogSettings = Field(default_factory=LogSettings)
    """Logging."""

    @model_validator(mode="after")
    def _sections_agree(self) -> Settings:
        self._check_exposure()
        self._check_ports()
        if self.grpc.unix_socket and self.workers > 1:
            raise broken_rule("grpc.unix_socket", f"cannot be shared by several processes; workers is {self.workers}")
        if self.queue.max_bytes < self.limits.max_body_bytes:
            rule = f"must be at least limits.max_body_bytes ({self.limits.max_body_bytes})"
            raise broken_rule("queue.max_bytes", f"{rule}: otherwise a body of allowed size is never queued")
        for name in self.models.overrides:
            self.for_model(name)
        return self

    @field_validator("pipelines", "rollouts")
    @classmethod
    def _names_of_models(cls, value: dict[str, Section]) -> dict[str, Section]:
        for name in value:
            checked_ref(name, versions=False)
        return value

    def _doors(self) -> Iterator[tuple[str, str, int]]:
        """Section, host and port of each port that is opened."""
        yield "http", self.http.host, self.http.port
        if self.grpc.enabled:
            yield "grpc", self.grpc.host, self.grpc.port
        if self.metrics.enabled:
            yield "metrics", self.metrics.host, self.metrics.port
        if self.control.enabled:
            yield "control", self.control.host, self.control.port

    def _check_ports(self) -> None:
        taken: dict[int, str] = {}
        for section, _, port in self._doors():
            other = taken.setdefault(port, section) if port else section
            if other != section:
                raise broken_rule(f"{section}.port", f"must differ from {other}.port; choose another, or 0 for any")

    def _check_exposure(self) -> None:
        """Refuse to listen beyond loopback where nobody is asked who they are."""
        if self.insecure or self.auth.keys_file or self.tls.client_ca:
            return
        for section, host, _ in self._doors():
            if not is_loopback(host):
                raise broken_rule(
                    f"{section}.host",
                    "must be a loopback address (127.0.0.1, ::1, localhost): callers are not authenticated; "
                    "set auth.keys_file or tls.client_ca, or insecure: true (--insecure) to accept that behind a proxy",
                )

    def for_model(self, name: str) -> ModelSettings:
        """The settings of model `name`: the server's, with that model's overrides over them."""
        override = self.models.overrides.get(name, ModelOverride())
        return ModelSettings(
            batching=_merged(self.batching, override.batching, f"models.overrides.{name}.batching"),
            execution=_merged(self.execution, override.execution, f"models.overrides.{name}.execution"),
            queue=_merged(self.queue, override.queue, f"models.overrides.{name}.queue"),
            trust=(*self.models.trust, *override.trust),
            overridden=frozenset(
                f"{section}.{key}"
                for section in ("batching", "execution", "queue")
                for key in getattr(override, section).model_fields_set
            ),
        )

    def trusting(self, digests: Mapping[str, Collection[str]]) -> Settings:
        """These settings, with digests that the processes of the models of these names may load as well."""
        overrides = dict(self.models.overrides)
        for name, more in digests.items():
            override = overrides.get(name, ModelOverride())
            trust = tuple(dict.fromkeys((*override.trust, *more)))
            overrides[name] = override.model_copy(update={"trust": trust})
        return self.model_copy(update={"models": self.models.model_copy(update={"overrides": overrides})})


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What applies to one model. `overridden` holds the dotted keys said for this model by name."""

    batching: BatchingSettings
    execution: ExecutionSettings
    queue: QueueSettings
    trust: tuple[str, ...]
    overridden: frozenset[str]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


_SectionT = TypeVar("_SectionT", bound=Section)


def _merged(base: _SectionT, override: _SectionT, path: str) -> _SectionT:
    """`base` with the keys that `override` was given; checked again, as two right halves can disagree."""
    given: Mapping[str, Any] = {key: getattr(override, key) for key in override.model_fields_set}
    try:
        return type(base).model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        key = first.get("ctx", {}).get("key", "")
        raise broken_rule(f"{path}.{key}", f"{first['msg']}, merged with the server's settings") from None
