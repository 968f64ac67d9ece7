"""A Triton model repository, or the directory of one model in it; each version becomes a version here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from taxiway.config.model_config import DATATYPES, ModelConfig, parse_pbtxt
from taxiway.core.errors import MalformedArtifact, UnsafePath
from taxiway.core.tensors import TensorSpec
from taxiway.intake.formats import onnx
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import Format, Staged, Understanding

_CONFIG: Final = "config.pbtxt"
_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")

_BACKENDS: Final = {
    "model.onnx": ("onnxruntime", ""),
    "model.py": ("python", ""),
    "model.plan": ("tensorrt", "tensorrt_plan"),
    "model.pt": ("pytorch", "pytorch_libtorch"),
}
"""What Triton makes of a version's file where config.pbtxt names no backend."""

_NOT_SERVED: Final = frozenset({"tensorrt", "tensorrt_plan"})
_KEEP: Final = "@/.keep"
_ENVIRONMENT: Final = "EXECUTION_ENV_PATH"
_OWN_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"


def _recognise(staged: Staged) -> bool:
    return staged.single is None and (_is_model(staged) or bool(_models(staged)))


def _is_model(staged: Staged) -> bool:
    """Whether it is laid out as one model: a configuration and a version, or a version with a file Triton knows."""
    versions = _versions(staged)
    if _CONFIG in staged.files:
        return bool(versions)
    return any(f"{version}/{name}" in staged.files for version in versions for name in _BACKENDS)


def _versions(staged: Staged) -> list[str]:
    """Directories named by a number, ascending; an empty one counts, as an ensemble's is."""
    named = {path.partition("/")[0] for path in staged.files if "/" in path} | set(staged.directories)
    return sorted((name for name in named if _VERSION.fullmatch(name)), key=int)


def _models(staged: Staged) -> list[Staged]:
    """The models of a repository, if every directory at its top is one."""
    names = sorted({path for path in staged.directories if "/" not in path})
    below = [staged.below(name) for name in names]
    return below if below and all(_is_model(one) for one in below) else []


def _raw(staged: Staged) -> frozenset[str]:
    """External data of the ONNX models in it."""
    models = (file for file in staged.files.values() if onnx.is_onnx(file))
    return frozenset(path for file in models for path in onnx.beside(file))


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    models = [staged] if _is_model(staged) else _models(staged)
    # `below` loses where a model lay, which its files are named by.
    prefixes = [""] if _is_model(staged) else [f"{model.name}/" for model in models]
    return tuple(
        one for model, prefix in zip(models, prefixes, strict=True) for one in _understand_model(model, prefix)
    )


def _understand_model(model: Staged, prefix: str) -> Iterator[Understanding]:
    text = _config_text(model)
    config = None if text is None else parse_pbtxt(text, f"{prefix}{_CONFIG}")
    if config is not None:
        _check_environment(config, f"{prefix}{_CONFIG}")
    versions = _versions(model)
    for version in versions:
        yield _understand_version(model, prefix, version, text, config)


def _check_environment(config: ModelConfig, where: str) -> None:
    """An interpreter that lies elsewhere is none of the files that are looked at, hashed and signed."""
    named = config.parameters[_ENVIRONMENT].string_value if _ENVIRONMENT in config.parameters else ""
    inside = named.startswith(f"{_OWN_DIRECTORY}/") and ".." not in PurePosixPath(named).parts
    if named and not inside:
        raise UnsafePath(
            f"{where}: {_ENVIRONMENT} is {named!r}, which leads out of the model",
            hint=f"put the environment into the model, as {_OWN_DIRECTORY}/env.tar.gz",
            file=where,
            rule="environment-path",
        )


def _config_text(model: Staged) -> str | None:
    file = model.files.get(_CONFIG)
    if file is None:
        return None
    try:
        return file.head(DEFAULT_LIMITS.max_document_bytes + 1).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedArtifact(f"{file.path} is not UTF-8", file=file.path, rule="config-text") from None


def _understand_version(
    model: Staged, prefix: str, version: str, text: str | None, config: ModelConfig | None
) -> Understanding:
    inside = {path.removeprefix(f"{version}/"): path for path in model.files if path.startswith(f"{version}/")}
    shared = [path for path in model.files if not _VERSION.fullmatch(PurePosixPath(path).parts[0])]
    backend, platform = _backend(config, inside)
    inputs, outputs = _tensors(model, inside, config)
    ensemble = config is not None and config.HasField("ensemble_scheduling")
    files = {f"@/{name}": f"{prefix}{path}" for name, path in sorted(inside.items())}
    files |= {path: f"{prefix}{path}" for path in sorted(shared) if path != _CONFIG}
    return Understanding(
        name=model.name,
        format="triton-ensemble" if ensemble else "triton",
        framework="ensemble" if ensemble else backend or platform or "triton",
        backend=backend,
        platform=platform,
        files=files,
        made={} if inside else {_KEEP: b""},
        inputs=inputs,
        outputs=outputs,
        config=text,
        facts={"triton_version": int(version)} | _facts(config),
        notes=_notes(config, inside),
        servable=not {backend, platform} & _NOT_SERVED,
    )


def _backend(config: ModelConfig | None, inside: dict[str, str]) -> tuple[str, str]:
    if config is not None and (config.backend or config.platform):
        return config.backend, config.platform
    return next((known for name, known in _BACKENDS.items() if name in inside), ("", ""))


def _tensors(
    model: Staged, inside: dict[str, str], config: ModelConfig | None
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What the configuration declares, whole shapes; else what an ONNX file does."""
    if config is not None and (config.input or config.output):
        rows = (-1,) if config.max_batch_size > 0 else ()
        return _declared(config.input, rows), _declared(config.output, rows)
    path = inside.get("model.onnx")
    if path is None or not onnx.is_onnx(model.files[path]):
        return (), ()
    found = onnx.read_file(model.files[path])
    return ((), ()) if found.unspoken else (tuple(found.inputs), tuple(found.outputs))


def _declared(tensors: Any, rows: tuple[int, ...]) -> tuple[TensorSpec, ...]:  # noqa: ANN401 - protobuf's own type
    found: list[TensorSpec] = []
    for tensor in tensors:
        kind = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name
        datatype = DATATYPES.get(kind)
        if datatype is None:
            return ()
        found.append(
            TensorSpec(tensor.name, datatype, (*rows, *tensor.dims), optional=getattr(tensor, "optional", False))
        )
    return tuple(found)


def _facts(config: ModelConfig | None) -> dict[str, Any]:
    if config is None:
        return {}
    facts: dict[str, Any] = {"max_batch_size": config.max_batch_size}
    if config.HasField("ensemble_scheduling"):
        facts["steps"] = [step.model_name for step in config.ensemble_scheduling.step]
    if config.HasField("sequence_batching"):
        facts["sequence"] = True
    if config.model_transaction_policy.decoupled:
        facts["decoupled"] = True
    return facts


def _notes(config: ModelConfig | None, inside: dict[str, str]) -> tuple[str, ...]:
    notes: list[str] = []
    if "model.py" in inside:
        notes.append("runs its own Python code: model.py")
    if config is not None and _ENVIRONMENT in config.parameters:
        notes.append(f"runs an interpreter of its own: {config.parameters[_ENVIRONMENT].string_value}")
    if config is not None and config.HasField("ensemble_scheduling"):
        steps = sorted({step.model_name for step in config.ensemble_scheduling.step})
        notes.append(f"needs its steps served beside it: {', '.join(steps)}")
        if any(step.model_version > 0 for step in config.ensemble_scheduling.step):
            notes.append("its steps name versions by Triton's numbers, which may be others here")
    if config is not None and config.HasField("version_policy") and config.version_policy.HasField("specific"):
        notes.append("its version_policy named versions by Triton's numbers, and was left out")
    return tuple(notes)


TRITON = Format("triton", "Triton model repository", _recognise, _understand, _raw)
