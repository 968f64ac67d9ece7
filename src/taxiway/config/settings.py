"""Every setting: its name, type, default, rule and meaning. Nothing here reads a file or the environment.

The docstring under a field is its documentation: `taxiway config explain`, the flags' help and
docs/configuration.md all print it. Units stand in names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

Port = Annotated[int, Field(ge=0, le=65535)]
Host = Annotated[str, Field(min_length=1, max_length=255)]
Count = Annotated[int, Field(ge=1, le=1 << 40)]
CountOrNone = Annotated[int, Field(ge=0, le=1 << 40)]
Bytes = Annotated[int, Field(ge=1, le=1 << 50)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Milliseconds = Annotated[float, Field(ge=0, le=3_600_000)]
Threads = Annotated[int, Field(ge=0, le=4096)]
Rows = Annotated[int, Field(ge=0, le=(1 << 31) - 1)]  # 32 bits in config.pbtxt


def broken_rule(key: str, rule: str) -> PydanticCustomError:
    """A rule between fields that is broken; `key` is the dotted field to name, relative to the section."""
    escaped = rule.replace("{", "{{").replace("}", "}}")  # pydantic formats the message
    return PydanticCustomError("rule", escaped, {"key": key})


def _as_text(value: object) -> object:
    """ONNX Runtime takes options as text; YAML reads `device_id: 0` as a number."""
    return str(value) if isinstance(value, bool | int | float) else value


OptionText = Annotated[str, BeforeValidator(_as_text)]


class Section(BaseModel):
    """What all sections share: frozen, unknown keys refused, no NaN, no true/false where a number belongs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_elsewhere(cls, value: object, info: ValidationInfo) -> object:
        """Pydantic would read `port: true` as 1."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation is not bool:
            raise PydanticCustomError("rule", "must not be true or false")
        return value


class HttpSettings(Section):
    """The inference front door."""

    host: Host = "127.0.0.1"
    """Address to listen on. Beyond loopback it needs `insecure: true`, as callers are not authenticated."""

    port: Port = 8000
    """TCP port; 0 lets the system choose one, which the log tells."""

    backlog: Annotated[int, Field(ge=1, le=65535)] = 1024
    """Connections the kernel holds until they are accepted."""

    reuse_port: bool = False
    """Share the port with other processes (SO_REUSEPORT); the kernel spreads connections over them."""


class MetricsSettings(Section):
    """Prometheus metrics on a port of their own: a scrape never waits behind inference."""

    host: Host = "127.0.0.1"
    """Address to listen on. Beyond loopback it needs `insecure: true`."""

    port: Port = 8002
    """TCP port of `GET /metrics`; 0 lets the system choose one."""

    enabled: bool = True
    """Whether the port is opened at all."""


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
    """Open connections; more are answered 503 and closed."""

    max_requests: Count = 4096
    """Requests in flight in the whole server; more are answered 503 with Retry-After."""

    max_buffered_bytes: Bytes = 1 << 30
    """Bytes of bodies received or queued and of answers not read yet, whole server; more is answered 503."""

    drain_timeout_s: Seconds = 30.0
    """Seconds that requests in flight get to finish after SIGTERM."""

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


class ModelsSettings(Section):
    """Which models are served."""

    paths: tuple[Path, ...] = ()
    """Model repositories (directories as Triton lays them out) and single model files."""

    overrides: dict[str, ModelOverride] = Field(default_factory=dict)
    """Partial `batching`, `execution`, `queue` by model name: `{"resnet": {"queue": {"max_rows": 64}}}`."""


class LogSettings(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe lines that are written."""

    format: Literal["json", "text"] = "text"
    """`json` writes one object per line, for collectors; `text` is for people."""


class Settings(Section):
    """The whole of it. Frozen: a change is a new one, applied at a restart."""

    http: HttpSettings = Field(default_factory=HttpSettings)
    """The inference front door."""

    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    """Prometheus metrics, on their own port."""

    compat: Literal["strict", "triton"] = "strict"
    """`triton` keeps Triton's own status codes and leniencies where `strict` answers better."""

    insecure: bool = False
    """Allow listening beyond loopback without authentication."""

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

    log: LogSettings = Field(default_factory=LogSettings)
    """Logging."""

    @model_validator(mode="after")
    def _sections_agree(self) -> Settings:
        self._check_exposure()
        if self.metrics.enabled and self.metrics.port and self.metrics.port == self.http.port:
            raise broken_rule("metrics.port", "must differ from http.port; choose another, or 0 for any")
        if self.queue.max_bytes < self.limits.max_body_bytes:
            rule = f"must be at least limits.max_body_bytes ({self.limits.max_body_bytes})"
            raise broken_rule("queue.max_bytes", f"{rule}: otherwise a body of allowed size is never queued")
        for name in self.models.overrides:
            self.for_model(name)
        return self

    def _check_exposure(self) -> None:
        """Refuse to listen beyond loopback: nobody is asked who they are."""
        doors = {"http.host": self.http.host}
        if self.metrics.enabled:
            doors["metrics.host"] = self.metrics.host
        for key, host in doors.items():
            if not self.insecure and not is_loopback(host):
                raise broken_rule(
                    key,
                    "must be a loopback address (127.0.0.1, ::1, localhost): callers are not "
                    "authenticated; set insecure: true (--insecure) to accept that behind a proxy",
                )

    def for_model(self, name: str) -> ModelSettings:
        """The settings of model `name`: the server's, with that model's overrides over them."""
        override = self.models.overrides.get(name, ModelOverride())
        return ModelSettings(
            batching=_merged(self.batching, override.batching, f"models.overrides.{name}.batching"),
            execution=_merged(self.execution, override.execution, f"models.overrides.{name}.execution"),
            queue=_merged(self.queue, override.queue, f"models.overrides.{name}.queue"),
            overridden=frozenset(
                f"{section}.{key}"
                for section in ("batching", "execution", "queue")
                for key in getattr(override, section).model_fields_set
            ),
        )


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What applies to one model. `overridden` holds the dotted keys said for this model by name."""

    batching: BatchingSettings
    execution: ExecutionSettings
    queue: QueueSettings
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
