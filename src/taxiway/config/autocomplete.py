"""Completing a model configuration from the model's file, as Triton does, and checking that the two agree.

Pure: a message and what the file declares go in, a completed copy comes out; all disagreements at once.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from taxiway.config.backends import ENSEMBLE, ONNX, PYTHON, backend_of, is_ensemble
from taxiway.config.model_config import DATATYPES, TYPE_NAMES, ModelConfig, type_name
from taxiway.config.problems import Problem, invalid_config, suggest
from taxiway.config.sequence_rules import UNASKED_ROWS, complete_sequences, internal_names
from taxiway.core.tensors import Shape, TensorSpec

_HINT = "correct the named fields, or leave them out: what the file declares is filled in"
_MAX_INT32 = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Defaults:
    """What fills the places where the configuration is silent.

    Attributes:
        max_batch_size: rows for a model whose file can batch and whose configuration names no max_batch_size;
            0 leaves such a model unbatched.
        dynamic_batching: whether a model that can batch and names no scheduler gets a dynamic batcher.
        max_queue_delay_us: microseconds, where the batcher names no delay.
        preferred_batch_sizes: where the batcher names none; those over max_batch_size are left out; if
            none is left, max_batch_size itself, as Triton prints it.
        instance_count: where an instance group names no count.
        gpu: whether KIND_AUTO means KIND_GPU here.
    """

    max_batch_size: int = 0
    dynamic_batching: bool = True
    max_queue_delay_us: int = 0
    preferred_batch_sizes: tuple[int, ...] = ()
    instance_count: int = 1
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an operator said for this model by name; wins over the configuration. None leaves it alone."""

    max_batch_size: int | None = None
    dynamic_batching: bool | None = None
    max_queue_delay_us: int | None = None
    preferred_batch_sizes: tuple[int, ...] | None = None
    instance_count: int | None = None


def supports_batching(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether the first dimension is free (-1) in every input and output, so that it can be the batch's."""
    tensors = [*inputs, *outputs]
    return bool(tensors) and all(tensor.shape[:1] == (-1,) for tensor in tensors)


def declared_tensors(message: ModelConfig) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs that a configuration declares, as a file would: whole shapes.

    For models whose files declare nothing: what is configured is then all that is known.

    Raises:
        InvalidConfig: a tensor has no name or no datatype.
    """
    sides = tuple(
        tuple(_tensor_of(io, side, index, message) for index, io in enumerate(declared))
        for side, declared in (("input", message.input), ("output", message.output))
    )
    return sides[0], sides[1]


def _tensor_of(io: ModelConfig, side: str, index: int, message: ModelConfig) -> TensorSpec:
    type_name = datatype_name(io)
    if type_name == "TYPE_INVALID" or not io.name:
        rule = "needs a name and a data_type: the model's own file does not tell them"
        problem = Problem(f"{side}[{index}]", io.name, rule, "config.pbtxt")
        raise invalid_config(f"the configuration of model {message.name!r}", [problem], hint=_HINT)
    rows = (-1,) if message.max_batch_size > 0 else ()
    return TensorSpec(io.name, DATATYPES[type_name], (*rows, *_own_shape(io)), getattr(io, "optional", False))


def autocomplete(
    message: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    directory_name: str,
    *,
    defaults: Defaults = Defaults(),
    overrides: Overrides = Overrides(),
    where: str = "config.pbtxt",
) -> ModelConfig:
    """A completed copy of `message`.

    Args:
        message: what the user configured, or empty; pass it to `model_spec.refuse_unsupported` before.
        inputs: what the file declares: whole shapes, batch dimension included, -1 where free.
        outputs: likewise.
        directory_name: the model's directory, whose name is the model's.
        defaults: what fills the gaps.
        overrides: what wins over the configuration.
        where: the configuration's file, for messages.

    Raises:
        InvalidConfig: it contradicts itself or the file; `facts['problems']` holds everything.
    """
    config = copy.deepcopy(message)
    problems: list[Problem] = []

    def refuse(path: str, value: object, rule: str) -> None:
        problems.append(Problem(path, value, rule, where))

    _override(config, overrides)
    complete_identity(config, directory_name, refuse)
    _complete_batching(config, inputs, outputs, defaults, refuse)
    _complete_tensors(config, inputs, outputs, refuse)
    _complete_scheduling(config, defaults, refuse)
    complete_sequences(config, None if _declares_nothing(config) else (inputs, outputs), refuse)
    _complete_instances(config, defaults, refuse)
    if problems:
        raise invalid_config(f"the configuration of model {directory_name!r}", problems, hint=_HINT)
    return config


_Refuse = Callable[[str, object, str], None]


def _declares_nothing(config: ModelConfig) -> bool:
    """Whether the model's file is code, or holds no more than the configuration says of it."""
    backend = backend_of(config)
    return backend is not None and backend.hosted


def _override(config: ModelConfig, overrides: Overrides) -> None:
    if overrides.max_batch_size is not None:
        config.max_batch_size = overrides.max_batch_size
    if overrides.dynamic_batching is False and config.HasField("dynamic_batching"):
        config.ClearField("dynamic_batching")
    wanted = (overrides.dynamic_batching, overrides.max_queue_delay_us, overrides.preferred_batch_sizes)
    if overrides.dynamic_batching is not False and any(item not in (None, False) for item in wanted):
        if config.WhichOneof("scheduling_choice") not in (None, "dynamic_batching"):
            return  # another scheduler is refused elsewhere, by its own name
        config.dynamic_batching.SetInParent()
        if overrides.max_queue_delay_us is not None:
            config.dynamic_batching.max_queue_delay_microseconds = overrides.max_queue_delay_us
        if overrides.preferred_batch_sizes is not None:
            config.dynamic_batching.preferred_batch_size[:] = overrides.preferred_batch_sizes
    if overrides.instance_count:
        del config.instance_group[1:]
        group = config.instance_group[0] if config.instance_group else config.instance_group.add()
        group.count = overrides.instance_count


def complete_identity(config: ModelConfig, directory_name: str, refuse: _Refuse) -> None:
    """Fill in name, backend, platform and file, and refuse those that are not this model's."""
    config.name = config.name or directory_name
    if config.name != directory_name:
        refuse("name", config.name, f"must be the name of the model's directory, {directory_name!r}")
    backend = backend_of(config) or ONNX
    if not is_ensemble(config):
        config.default_model_filename = config.default_model_filename or backend.filenames[0]
    filename = PurePosixPath(config.default_model_filename)
    if filename.is_absolute() or ".." in filename.parts:
        refuse("default_model_filename", str(filename), "must stay inside the version's directory")
    if is_ensemble(config):
        config.platform = ENSEMBLE
        return
    if config.backend and config.platform not in ("", backend.platform):
        refuse("platform", config.platform, f"must be {backend.platform!r} or empty with backend {backend.name!r}")
    config.backend, config.platform = backend.name, backend.platform


# --- batching and tensors ------------------------------------------------------------------------------


def _complete_batching(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    defaults: Defaults,
    refuse: _Refuse,
) -> None:
    batches = supports_batching(inputs, outputs)
    size = config.max_batch_size
    if size < 0:
        refuse("max_batch_size", size, "must be 0 (does not batch) or more")
        config.max_batch_size = 0
    elif size > 0 and not batches and (inputs or outputs or not _declares_nothing(config)):
        fixed = next((t for t in (*inputs, *outputs) if t.shape[:1] != (-1,)), None)
        which = f"{fixed.name!r} has shape {list(fixed.shape)}" if fixed else "it has no tensors"
        rule = (
            "must be 0, because the file cannot batch: "
            f"{which}, where the first dimension would have to be free; export it with a dynamic first axis"
        )
        refuse("max_batch_size", size, rule)
    elif size == 0 and batches and not _declares_whole_shapes(config, inputs, outputs):
        most = UNASKED_ROWS if config.HasField("sequence_batching") else _MAX_INT32
        config.max_batch_size = min(defaults.max_batch_size, most)


def _declares_whole_shapes(config: ModelConfig, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether the configuration spells out the first dimension itself, which means: do not batch."""
    ranks = {tensor.name: len(tensor.shape) for tensor in (*inputs, *outputs)}
    return any(len(_own_shape(io)) == ranks.get(io.name) for io in (*config.input, *config.output) if io.dims)


def _own_shape(io: ModelConfig) -> Shape:
    """The shape that the model itself takes, as configured: the reshape if there is one."""
    return tuple(io.reshape.shape if io.HasField("reshape") else io.dims)


def _complete_tensors(
    config: ModelConfig, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], refuse: _Refuse
) -> None:
    internal = internal_names(config)
    for side, declared, tensors in (("input", config.input, inputs), ("output", config.output, outputs)):
        given = [io.name for io in declared]
        by_name = {tensor.name: tensor for tensor in tensors}
        for index, io in enumerate(declared):
            path = f"{side}[{index}]"
            if io.name not in by_name:
                rule = f"the file has no such {side}{suggest(io.name, by_name)}; it has {sorted(by_name)}"
                refuse(f"{path}.name", io.name, rule)
            elif io.name in given[:index]:
                refuse(f"{path}.name", io.name, "is declared twice")
            else:
                _complete_tensor(io, by_name[io.name], path, config.max_batch_size > 0, refuse)
        if not declared:
            for tensor in tensors:
                if tensor.name in internal:
                    continue
                _complete_tensor(declared.add(), tensor, "", config.max_batch_size > 0, refuse)
                if side == "input" and tensor.optional:
                    declared[-1].optional = True
        elif side == "input":
            for tensor in tensors:
                if tensor.name not in given and not tensor.optional and tensor.name not in internal:
                    rule = f"lacks the file's input {tensor.name!r}; declare it, or leave out all inputs"
                    refuse("input", given, rule)


def _complete_tensor(io: ModelConfig, tensor: TensorSpec, path: str, batches: bool, refuse: _Refuse) -> None:
    io.name = tensor.name
    given = type_name(io)
    wanted = TYPE_NAMES[tensor.datatype]
    if given == "TYPE_INVALID":
        io.data_type = io.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[wanted].number
    elif given != wanted:
        refuse(f"{path}.data_type", given, f"the file's tensor {tensor.name!r} is {wanted}")
    row = tensor.shape[1:] if batches else tensor.shape
    if not io.dims:
        if row and not io.HasField("reshape"):
            io.dims[:] = row
            return
        if not row:
            # Triton's dims are never empty: a scalar is sent as [1] and reshaped.
            io.dims[:] = (1,)
            io.reshape.SetInParent()
    elif path.startswith("output") and not io.HasField("reshape") and _is_looser(tuple(io.dims), row):
        io.dims[:] = row
    _check_dims(io, tensor, path, batches, refuse)


def _is_looser(declared: tuple[int, ...], row: tuple[int, ...]) -> bool:
    """Whether a declaration leaves free what the runtime has inferred: exporters do not write every output's shape."""
    return len(declared) == len(row) and all(want in (-1, size) for want, size in zip(declared, row, strict=True))


def _check_dims(io: ModelConfig, tensor: TensorSpec, path: str, batches: bool, refuse: _Refuse) -> None:
    bad = [size for size in (*io.dims, *io.reshape.shape) if size != -1 and size < 1]
    if bad:
        refuse(f"{path}.dims", list(io.dims), f"each dimension must be -1 (free) or at least 1, not {bad[0]}")
        return
    if io.HasField("reshape") and not _reshapes(tuple(io.dims), tuple(io.reshape.shape)):
        rule = f"must hold as many elements, and as many free dimensions, as dims {list(io.dims)}"
        refuse(f"{path}.reshape.shape", list(io.reshape.shape), rule)
    own = _own_shape(io)
    row = tensor.shape[1:] if batches else tensor.shape
    if len(own) != len(row) or any(file not in (-1, size) for size, file in zip(own, row, strict=True)):
        field = "reshape.shape" if io.HasField("reshape") else "dims"
        without = " per row (its first dimension is the batch's, as max_batch_size is over 0)" if batches else ""
        refuse(f"{path}.{field}", list(own), f"the file's tensor {tensor.name!r} is {list(row)}{without}")


def _reshapes(dims: Shape, shape: Shape) -> bool:
    free = dims.count(-1) == shape.count(-1)
    return free and math.prod(d for d in dims if d > 0) == math.prod(s for s in shape if s > 0)


# --- scheduling ----------------------------------------------------------------------------------------


def _complete_scheduling(config: ModelConfig, defaults: Defaults, refuse: _Refuse) -> None:
    complete_version_policy(config, refuse)
    config.optimization.SetInParent()
    for buffer in ("input_pinned_memory", "output_pinned_memory"):
        if not config.optimization.HasField(buffer):
            getattr(config.optimization, buffer).enable = True
    silent = config.WhichOneof("scheduling_choice") is None
    if silent and defaults.dynamic_batching and config.max_batch_size > 1:
        config.dynamic_batching.SetInParent()
    if config.HasField("dynamic_batching"):
        _complete_batcher(config, defaults)
        _check_batcher(config, refuse)
    if config.model_transaction_policy.decoupled and config.response_cache.enable:
        refuse("response_cache.enable", True, "must be false for a decoupled model")


def _complete_batcher(config: ModelConfig, defaults: Defaults) -> None:
    batcher = config.dynamic_batching
    batcher.max_queue_delay_microseconds = batcher.max_queue_delay_microseconds or defaults.max_queue_delay_us
    limit = config.max_batch_size
    if not batcher.preferred_batch_size and limit > 0:
        fitting = [size for size in defaults.preferred_batch_sizes if 0 < size <= limit]
        batcher.preferred_batch_size[:] = fitting or [limit]


def _check_batcher(config: ModelConfig, refuse: _Refuse) -> None:
    batcher = config.dynamic_batching
    prefix = "dynamic_batching"
    for index, size in enumerate(batcher.preferred_batch_size):
        if not 0 < size <= config.max_batch_size:
            rule = f"must be between 1 and max_batch_size ({config.max_batch_size})"
            refuse(f"{prefix}.preferred_batch_size[{index}]", size, rule)
    levels = batcher.priority_levels
    if levels:
        if not 1 <= batcher.default_priority_level <= levels:
            rule = f"must be between 1 and priority_levels ({levels})"
            refuse(f"{prefix}.default_priority_level", batcher.default_priority_level, rule)
        for level in sorted(batcher.priority_queue_policy):
            if not 1 <= level <= levels:
                rule = f"must be for a level between 1 and priority_levels ({levels})"
                refuse(f"{prefix}.priority_queue_policy[{level}]", level, rule)
    if batcher.preserve_ordering:
        if levels > 1:
            refuse(f"{prefix}.priority_levels", levels, "must be at most 1 with preserve_ordering")
        for path, policy in _policies(batcher):
            if policy.default_timeout_microseconds and policy.timeout_action == 1:
                rule = "must not be DELAY with preserve_ordering: it lets later requests overtake"
                refuse(f"{prefix}.{path}.timeout_action", "DELAY", rule)


def _policies(batcher: ModelConfig) -> Iterator[tuple[str, ModelConfig]]:
    yield "default_queue_policy", batcher.default_queue_policy
    for level in sorted(batcher.priority_queue_policy):
        yield f"priority_queue_policy[{level}]", batcher.priority_queue_policy[level]


def _complete_instances(config: ModelConfig, defaults: Defaults, refuse: _Refuse) -> None:
    if not config.instance_group:
        group = config.instance_group.add()
        if backend_of(config) is PYTHON:  # Triton names the others' by their place, as if they had been configured
            group.name = config.name
    for index, group in enumerate(config.instance_group):
        kinds = group.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_name
        group.name = group.name or f"{config.name}_{index}"
        if group.kind == kinds["KIND_AUTO"].number:
            group.kind = kinds["KIND_GPU" if defaults.gpu else "KIND_CPU"].number
        if group.count < 0:
            refuse(f"instance_group[{index}].count", group.count, "must be 0 (the default) or more")
        group.count = group.count if group.count > 0 else defaults.instance_count
        if group.kind == kinds["KIND_CPU"].number and group.gpus:
            refuse(f"instance_group[{index}].gpus", list(group.gpus), "must be empty with KIND_CPU")


def complete_version_policy(config: ModelConfig, refuse: _Refuse) -> None:
    """The latest version, where the configuration does not say which."""
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    policy = config.version_policy
    if policy.HasField("latest") and policy.latest.num_versions == 0:
        policy.latest.num_versions = 1
    if policy.HasField("specific"):
        versions = list(policy.specific.versions)
        if not versions or min(versions) < 1:
            refuse("version_policy.specific.versions", versions, "must name versions, each 1 or more")


def datatype_name(io: ModelConfig) -> str:
    """The configuration's name of a declared tensor's type; always one of DATATYPES after completion."""
    name = type_name(io)
    return name if name in DATATYPES else "TYPE_INVALID"
