"""Hugging Face directories, `config.json` and weights, and single safetensors files."""

from __future__ import annotations

from typing import Any, Final

from taxiway.intake.formats.files import json_of, kind_of, one_of_kind
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import Format, Staged, StagedFile, Understanding
from taxiway.intake.read.safetensors import SafetensorsFile, read_safetensors
from taxiway.intake.scan.content import Kind

_CONFIG: Final = "config.json"
_PICKLED: Final = ("pytorch_model.bin", "pytorch_model-")


def _is_directory(staged: Staged) -> bool:
    return _config(staged) is not None and any(_is_weights(file) for file in _top(staged))


def _config(staged: Staged) -> dict[str, Any] | None:
    file = staged.files.get(_CONFIG)
    config = None if file is None or staged.single else json_of(file)
    return config if isinstance(config, dict) and ("model_type" in config or "architectures" in config) else None


def _top(staged: Staged) -> list[StagedFile]:
    return [file for path, file in staged.files.items() if "/" not in path]


def _is_weights(file: StagedFile) -> bool:
    return file.name.startswith(_PICKLED) or kind_of(file) is Kind.SAFETENSORS


def _understand_directory(staged: Staged) -> tuple[Understanding, ...]:
    config = _config(staged) or {}
    found = [_read(file) for file in _top(staged) if kind_of(file) is Kind.SAFETENSORS]
    code = sorted(path for path in staged.files if path.endswith(".py"))
    architectures = config.get("architectures") or []
    return (
        Understanding(
            format="hugging-face",
            framework="transformers",
            version=str(config.get("transformers_version", "")),
            backend="transformers",
            files={f"@/{path}": path for path in sorted(staged.files)},
            facts={
                "model_type": config.get("model_type", ""),
                "architectures": architectures,
                "dtype": config.get("torch_dtype") or config.get("dtype") or "",
                **_facts(found),
            },
            notes=tuple(f"{path} is Python code of the model's own" for path in code),
        ),
    )


def _read(file: StagedFile) -> SafetensorsFile:
    with file.mapped() as data:
        return read_safetensors(data, file.path, DEFAULT_LIMITS)


def _facts(found: list[SafetensorsFile]) -> dict[str, Any]:
    types = sorted({tensor.dtype for one in found for tensor in one.tensors})
    return {
        "parameters": sum(one.parameters for one in found),
        "tensors": sum(len(one.tensors) for one in found),
        "tensor_types": types,
    }


def _is_file(staged: Staged) -> bool:
    return one_of_kind(staged, Kind.SAFETENSORS) is not None


def _understand_file(staged: Staged) -> tuple[Understanding, ...]:
    file = one_of_kind(staged, Kind.SAFETENSORS)
    assert file is not None, "recognised before"  # noqa: S101 - a broken promise of ours
    found = _read(file)
    return (
        Understanding(
            format="safetensors",
            framework="safetensors",
            files={"@/model.safetensors": file.path},
            facts=_facts([found]) | {"metadata": dict(found.metadata)},
            notes=("weights without the code or config.json that says what to do with them: kept, not served",),
            servable=False,
        ),
    )


HUGGING_FACE = Format("hugging-face", "a Hugging Face directory", _is_directory, _understand_directory)
SAFETENSORS = Format("safetensors", "safetensors", _is_file, _understand_file)
