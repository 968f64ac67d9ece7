"""What the server needs to know of one model: plain and frozen, with no protobuf left in it.

Made from a completed configuration (autocomplete.py). What taxiway does not do is refused here, by name, so
that a model is never served as something other than its configuration says.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from taxiway.config.autocomplete import datatype_name
from taxiway.config.backends import BACKENDS, backend_of, is_ensemble
from taxiway.config.ensemble_spec import EnsembleSpec, read_ensemble
from taxiway.config.model_config import DATATYPES, ModelConfig
from taxiway.config.problems import Problem, invalid_config
from taxiway.config.sequence_spec import SequenceBatching, read_sequences
from taxiway.core.errors import InvalidConfig, Unsupported
from taxiway.core.tensors import Datatype, Shape, TensorSpec

MAX_LABEL_BYTES = 16 << 20


class TimeoutAction(enum.Enum):
    """What happens to a request whose time in the queue ran out."""

    REJECT = 0
    DELAY = 1


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How long and how many requests may wait at one priority level.

    Attributes:
        timeout_action: REJECT answers an expired request with an error; DELAY lets it wait behind all others.
        default_timeout_ns: nanoseconds; 0 means that requests do not expire.
        allow_timeout_override: whether a request may ask for a shorter timeout of its own.
        max_queue_size: requests; 0 leaves the bound to the server's `queue` settings.
    """

    timeout_action: TimeoutAction = TimeoutAction.REJECT
    default_timeout_ns: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0


@dataclass(frozen=True, slots=True)
class DynamicBatching:
    """The batcher's rules.

    Attributes:
        preferred_sizes: rows; a batch that reaches one of them need not wait. Ascending.
        max_queue_delay_ns: nanoseconds a request may wait for others.
        preserve_ordering: whether answers leave in the order in which requests came.
        priority_levels: 0 if there are no priorities; 1 is the most urgent level.
        default_priority_level: the level of a request that names none; 0 if there are no priorities.
        default_queue_policy: of every level without one of its own.
        level_policies: by level.
    """

    preferred_sizes: tuple[int, ...] = ()
    max_queue_delay_ns: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = QueuePolicy()
    level_policies: Mapping[int, QueuePolicy] = field(default_factory=lambda: MappingProxyType({}))

    def policy_for(self, level: int) -> QueuePolicy:
        """The queue policy of a priority level."""
        return self.level_policies.get(level, self.default_queue_policy)


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which versions are served: the `latest` so many, those in `specific`, or all if neither is given."""

    latest: int = 0
    specific: tuple[int, ...] = ()

    def choose(self, versions: Iterable[int]) -> tuple[int, ...]:
        """The versions to serve out of those that exist, ascending."""
        existing = sorted(set(versions))
        if self.specific:
            return tuple(version for version in existing if version in self.specific)
        return tuple(existing[-self.latest :] if self.latest else existing)


class WarmupData(enum.Enum):
    """Where a warm-up input's content comes from."""

    ZERO = "zero"
    RANDOM = "random"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One input of a warm-up request; `shape` is per row where the model batches; `file` only with FILE."""

    datatype: Datatype
    shape: Shape
    data: WarmupData
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class WarmupRequest:
    """A request to run before the model is ready: `rows` rows, `runs` times."""

    name: str
    rows: int
    runs: int
    inputs: Mapping[str, WarmupInput]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model as configured and completed.

    Attributes:
        inputs, outputs: as clients see them: per row where max_batch_size is over 0, else whole.
        reshapes: tensor name -> the shape (per row likewise) that the file itself takes, where it differs.
        max_batch_size: rows in one run at most; 0 if the model does not batch.
        dynamic_batching: None if requests are not merged.
        instance_count: batches that may run at the same time, over all groups; passive ones are not counted.
        warmup: what model_warmup asks for.
        ignored: paths of fields that are set but change nothing here, worth a line in the log.
        sequences: None unless the model is stateful.
        ensemble: the graph, of a graph of models; None for a model.
    """

    name: str
    platform: str
    backend: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    dynamic_batching: DynamicBatching | None
    instance_count: int
    version_policy: VersionPolicy
    default_model_filename: str
    reshapes: Mapping[str, Shape]
    parameters: Mapping[str, str]
    warmup: tuple[WarmupRequest, ...]
    decoupled: bool
    response_cache: bool
    ignored: tuple[str, ...]
    sequences: SequenceBatching | None = None
    ensemble: EnsembleSpec | None = None


def build_spec(config: ModelConfig, model_directory: Path, *, gpu: bool = False) -> ModelSpec:
    """The plain form of a configuration that `autocomplete` completed.

    `model_directory` holds label files and `warmup/`; `gpu` says whether instances of KIND_GPU can run here.

    Raises:
        Unsupported: it asks for what taxiway does not do; names every such field.
        InvalidConfig: a label, warm-up or initial state's file is missing or outside of the directory.
    """
    refuse_unsupported(config, config.name, gpu=gpu)
    problems: list[Problem] = []
    inputs = tuple(_tensor(io, ()) for io in config.input)
    outputs = tuple(
        _tensor(io, _labels(io.label_filename, f"output[{i}].label_filename", model_directory, problems))
        for i, io in enumerate(config.output)
    )
    warmup = tuple(_warmup(config, i, model_directory, problems) for i in range(len(config.model_warmup)))
    sequences = read_sequences(config, lambda name, path: _file_inside(name, path, model_directory, problems))
    if problems:
        raise _bad_files(config.name, model_directory, problems)
    batcher = config.dynamic_batching if config.HasField("dynamic_batching") else None
    reshaped = [io for io in (*config.input, *config.output) if io.HasField("reshape")]
    return ModelSpec(
        name=config.name,
        platform=config.platform,
        backend=config.backend,
        inputs=inputs,
        outputs=outputs,
        max_batch_size=config.max_batch_size,
        dynamic_batching=None if batcher is None else _dynamic_batching(batcher),
        instance_count=max(1, sum(group.count for group in config.instance_group if not group.passive)),
        version_policy=version_policy(config),
        default_model_filename=config.default_model_filename,
        reshapes=MappingProxyType({io.name: tuple(io.reshape.shape) for io in reshaped}),
        parameters=MappingProxyType({k: v.string_value for k, v in sorted(config.parameters.items())}),
        warmup=warmup,
        decoupled=config.model_transaction_policy.decoupled,
        response_cache=config.response_cache.enable,
        ignored=tuple(ignored_fields(config)),
        sequences=sequences,
        ensemble=read_ensemble(config),
    )


# --- what is not done ----------------------------------------------------------------------------------


def refuse_unsupported(config: ModelConfig, name: str, *, gpu: bool = False) -> None:
    """Raise one error for all that taxiway does not do yet; may be called before completion, which names the model.

    Raises:
        Unsupported: `facts['fields']` holds the field paths.
    """
    found = list(_unsupported(config, gpu=gpu))
    if not found:
        return
    lines = "".join(f"\n  {path}: {reason}" for path, reason in found)
    raise Unsupported(
        f"the configuration of model {name!r} asks for what taxiway does not do yet:{lines}",
        hint="take these fields out, or keep this model on Triton until they come",
        fields=[path for path, _ in found],
    )


def _unsupported(config: ModelConfig, *, gpu: bool) -> Iterator[tuple[str, str]]:
    if is_ensemble(config):
        for index, step in enumerate(config.ensemble_scheduling.step):
            if step.model_namespace:
                yield f"ensemble_scheduling.step[{index}].model_namespace", "namespaces of models come later"
    elif (config.backend or config.platform) and backend_of(config) is None:
        field = "backend" if config.backend else "platform"
        yield field, f"{getattr(config, field)!r} comes later; there are {', '.join(BACKENDS)}"
    if config.sequence_batching.iterative_sequence:
        yield "sequence_batching.iterative_sequence", "requests that a model schedules again come later"
    backend = backend_of(config)
    if config.sequence_batching.state and backend is not None and backend.hosted:
        yield "sequence_batching.state", f"a model of the backend {backend.name!r} keeps its own state"
    for name in ("batch_input", "batch_output"):
        if getattr(config, name):
            yield name, "tensors made from the batch's layout come later"
    if config.model_operations.op_library_filename:
        yield "model_operations.op_library_filename", "custom operator libraries come later"
    if config.model_repository_agents.agents:
        yield "model_repository_agents", "repository agents come later"
    if config.runtime:
        yield "runtime", "choosing a backend's library comes later"
    yield from _unsupported_tensors(config)
    yield from _unsupported_groups(config, gpu=gpu)


def _unsupported_tensors(config: ModelConfig) -> Iterator[tuple[str, str]]:
    flags = {
        "allow_ragged_batch": "ragged batches come later",
        "is_shape_tensor": "shape tensors are TensorRT's, which comes later",
        "is_non_linear_format_io": "non-linear formats are TensorRT's, which comes later",
    }
    for side, declared in (("input", config.input), ("output", config.output)):
        for index, io in enumerate(declared):
            for name, reason in flags.items():
                if getattr(io, name, False):
                    yield f"{side}[{index}].{name}", reason


def _unsupported_groups(config: ModelConfig, *, gpu: bool) -> Iterator[tuple[str, str]]:
    for index, group in enumerate(config.instance_group):
        kind = group.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number[group.kind].name
        if kind == "KIND_GPU" and not gpu:
            yield f"instance_group[{index}].kind", "KIND_GPU needs a GPU provider in execution.providers"
        backend = backend_of(config)
        if kind == "KIND_MODEL" and not (backend and backend.hosted):
            yield f"instance_group[{index}].kind", "KIND_MODEL comes later; use KIND_CPU or KIND_GPU"


_IGNORED = ("metric_tags", "cc_model_filenames")
_IGNORED_GROUP = ("rate_limiter", "secondary_devices", "profile", "host_policy")
_IGNORED_STATE = ("use_same_buffer_for_input_output", "use_growable_memory")
_IGNORED_OPTIMIZATION = ("graph", "cuda", "execution_accelerators")


def ignored_fields(config: ModelConfig) -> Iterator[str]:
    """Paths of fields that are set and change nothing here: hints, never what a client would notice."""
    yield from (name for name in _IGNORED if getattr(config, name))
    if config.HasField("model_metrics"):
        yield "model_metrics"
    yield from (f"optimization.{name}" for name in _IGNORED_OPTIMIZATION if config.optimization.HasField(name))
    if config.optimization.priority:
        yield "optimization.priority"
    for index, group in enumerate(config.instance_group):
        given = {descriptor.name for descriptor, _ in group.ListFields()}
        yield from (f"instance_group[{index}].{name}" for name in _IGNORED_GROUP if name in given)
    yield from (f"input[{i}].format" for i, io in enumerate(config.input) if io.format)
    for index, state in enumerate(config.sequence_batching.state):
        yield from (f"sequence_batching.state[{index}].{name}" for name in _IGNORED_STATE if getattr(state, name))


# --- parts ---------------------------------------------------------------------------------------------


def _tensor(io: ModelConfig, labels: tuple[str, ...]) -> TensorSpec:
    datatype = DATATYPES[datatype_name(io)]
    return TensorSpec(io.name, datatype, tuple(io.dims), getattr(io, "optional", False), labels)


def _dynamic_batching(batcher: ModelConfig) -> DynamicBatching:
    levels = batcher.priority_queue_policy
    return DynamicBatching(
        preferred_sizes=tuple(sorted(set(batcher.preferred_batch_size))),
        max_queue_delay_ns=batcher.max_queue_delay_microseconds * 1000,
        preserve_ordering=batcher.preserve_ordering,
        priority_levels=batcher.priority_levels,
        default_priority_level=batcher.default_priority_level,
        default_queue_policy=_queue_policy(batcher.default_queue_policy),
        level_policies=MappingProxyType({level: _queue_policy(levels[level]) for level in sorted(levels)}),
    )


def _queue_policy(policy: ModelConfig) -> QueuePolicy:
    return QueuePolicy(
        timeout_action=TimeoutAction(policy.timeout_action),
        default_timeout_ns=policy.default_timeout_microseconds * 1000,
        allow_timeout_override=policy.allow_timeout_override,
        max_queue_size=policy.max_queue_size,
    )


def version_policy(config: ModelConfig) -> VersionPolicy:
    """Which versions a configuration, completed or not, wants served: the latest one if it does not say."""
    if not config.HasField("version_policy"):
        return VersionPolicy(latest=1)
    policy = config.version_policy
    if policy.HasField("latest"):
        return VersionPolicy(latest=max(1, policy.latest.num_versions))
    return VersionPolicy(specific=tuple(sorted(set(policy.specific.versions))))


def _warmup(config: ModelConfig, index: int, directory: Path, problems: list[Problem]) -> WarmupRequest:
    item = config.model_warmup[index]
    declared = {io.name: io.optional for io in config.input}
    unknown = sorted(set(item.inputs) - declared.keys())
    missing = sorted(name for name, optional in declared.items() if not optional and name not in item.inputs)
    path = f"model_warmup[{index}].inputs"
    if unknown:
        problems.append(Problem(path, unknown, f"the model's inputs are {sorted(declared)}", str(directory)))
    if missing:
        problems.append(Problem(path, sorted(item.inputs), f"lacks inputs {missing}", str(directory)))
    inputs = {
        name: _warmup_input(item.inputs[name], f"{path}[{name}]", directory, problems) for name in sorted(item.inputs)
    }
    known = {name: value for name, value in inputs.items() if value is not None}
    return WarmupRequest(item.name, max(1, item.batch_size), max(1, item.count), MappingProxyType(known))


def _warmup_input(given: ModelConfig, path: str, directory: Path, problems: list[Problem]) -> WarmupInput | None:
    type_name = datatype_name(given)
    if type_name not in DATATYPES:
        problems.append(Problem(f"{path}.data_type", type_name, "must be given", str(directory)))
        return None
    if any(size < 1 for size in given.dims):
        rule = "each dimension must be at least 1: a warm-up needs whole sizes"
        problems.append(Problem(f"{path}.dims", list(given.dims), rule, str(directory)))
    kind = given.WhichOneof("input_data_type")
    file: Path | None = None
    if kind == "input_data_file":
        named = f"warmup/{given.input_data_file}"
        file = _file_inside(named, f"{path}.input_data_file", directory, problems)
    data = {"random_data": WarmupData.RANDOM, "input_data_file": WarmupData.FILE}.get(kind, WarmupData.ZERO)
    return WarmupInput(DATATYPES[type_name], tuple(given.dims), data, file)


def _labels(filename: str, path: str, directory: Path, problems: list[Problem]) -> tuple[str, ...]:
    """A label per line; a line end at the very end starts no further label."""
    file = _file_inside(filename, path, directory, problems) if filename else None
    if file is None:
        return ()
    with file.open("rb") as stream:
        raw = stream.read(MAX_LABEL_BYTES + 1)
    if len(raw) > MAX_LABEL_BYTES:
        problems.append(Problem(path, filename, f"must be at most {MAX_LABEL_BYTES} bytes", str(directory)))
        return ()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(Problem(path, filename, f"must be UTF-8: {error}", str(directory)))
        return ()
    return tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")) if text else ()


def _file_inside(filename: str, path: str, directory: Path, problems: list[Problem]) -> Path | None:
    """The named file if it exists inside `directory`; a configuration must not read files elsewhere."""
    file = directory / filename
    if not file.resolve().is_relative_to(directory.resolve()):
        problems.append(Problem(path, filename, "must stay inside the model's directory", str(directory)))
    elif not file.is_file():
        problems.append(Problem(path, filename, "no such file in the model's directory", str(directory)))
    else:
        return file
    return None


def _bad_files(name: str, directory: Path, problems: list[Problem]) -> InvalidConfig:
    hint = f"put the files into {directory}, or take the fields out of its config.pbtxt"
    return invalid_config(f"the configuration of model {name!r}", problems, hint=hint)
