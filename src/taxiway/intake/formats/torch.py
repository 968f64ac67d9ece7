"""TorchScript and torch.export archives. The second tells its signature; the first only to torch itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.formats.files import the_one, zip_member, zip_names
from taxiway.intake.nouns import Format, Staged, StagedFile, Understanding
from taxiway.intake.read.documents import json_or
from taxiway.intake.scan.torch_archives import EXPORT, SCRIPT, layout_of

_SCALARS: Final = {
    1: Datatype.UINT8, 2: Datatype.INT8, 3: Datatype.INT16, 4: Datatype.INT32, 5: Datatype.INT64, 6: Datatype.FP16,
    7: Datatype.FP32, 8: Datatype.FP64, 12: Datatype.BOOL, 13: Datatype.BF16, 28: Datatype.UINT16,
}  # fmt: skip
"""torch._export.serde.schema.ScalarType."""
_DEEPEST: Final = 32
"""Levels of what a program returns that are looked into."""


def _is_script(staged: Staged) -> bool:
    return layout_of(zip_names(staged)) is SCRIPT


def _understand_script(staged: Staged) -> tuple[Understanding, ...]:
    file = the_one(staged)
    names = zip_names(staged)
    code = sorted(name.partition("/")[2] for name in names if name.endswith(".py"))
    return (
        Understanding(
            format="torchscript",
            framework="torch",
            backend="pytorch",
            platform="pytorch_libtorch",
            files={"@/model.pt": file.path},
            facts={"code": code[:100], "tensors": sum("/data/" in name for name in names)},
            tells_later=False,
        ),
    )


def _is_export(staged: Staged) -> bool:
    return layout_of(zip_names(staged)) is EXPORT


def _understand_export(staged: Staged) -> tuple[Understanding, ...]:
    file = the_one(staged)
    program, schema = _program(file, zip_names(staged))
    graph = _at(program, "graph_module", "graph")
    signature = _at(program, "graph_module", "signature")
    values = graph.get("tensor_values") or {}
    inputs = [_at(spec, "user_input", "arg") for spec in signature.get("input_specs") or []]
    outputs = [_at(spec, "user_output", "arg") for spec in signature.get("output_specs") or []]
    return (
        Understanding(
            format="torch-export",
            framework="torch",
            version=str(program.get("torch_version", "")),
            backend="pytorch",
            files={"@/model.pt2": file.path},
            inputs=_specs(inputs, values),
            outputs=_specs(outputs, values, _returned_names(program, len(outputs))),
            facts={
                "nodes": len(graph.get("nodes") or []),
                "opsets": program.get("opset_version", {}),
                "schema": schema,
            },
        ),
    )


def _program(file: StagedFile, names: tuple[str, ...]) -> tuple[Mapping[str, Any], str]:
    """The exported program's JSON; of several the first, which torch calls `model`."""
    candidates = [name for name in names if name.endswith("models/model.json")]
    candidates += [name for name in names if "models/" in name and name.endswith(".json")]
    candidates += [name for name in names if name == "serialized_exported_program.json"]
    if not candidates:
        return {}, ""
    program = json_or(zip_member(file, candidates[0]), {})
    if not isinstance(program, dict):
        return {}, ""
    version = program.get("schema_version") or {}
    return program, f"{version.get('major', '')}.{version.get('minor', '')}" if isinstance(version, dict) else ""


def _at(node: Any, *keys: str) -> dict[str, Any]:  # noqa: ANN401 - foreign JSON
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _returned_names(program: Mapping[str, Any], count: int) -> list[str]:
    """What the outputs are called, as the runtime calls them: by their keys, if dictionaries hold them, or by place."""
    calls = _at(program, "graph_module").get("module_call_graph") or []
    told = _at(calls[0], "signature").get("out_spec") if isinstance(calls, list) and calls else None
    spec = json_or(told, None) if isinstance(told, str) else None
    paths = list(_paths(spec[1], ())) if isinstance(spec, list) and len(spec) > 1 else []
    if len(paths) != count:
        paths = [None] * count
    return [f"output__{place}" if not path else ".".join(path) for place, path in enumerate(paths)]


def _paths(spec: Any, path: tuple[str, ...] | None, depth: int = 0) -> Iterator[tuple[str, ...] | None]:  # noqa: ANN401 - foreign JSON
    """The keys that lead to each leaf of one of torch's tree specifications; None where it is not only keys."""
    children = spec.get("children_spec") if isinstance(spec, dict) else None
    if not isinstance(children, list) or not children or depth > _DEEPEST:
        yield path
        return
    keys = json_or(str(spec.get("context")), None) if str(spec.get("type")).endswith("dict") else None
    steps = keys if isinstance(keys, list) and len(keys) == len(children) else [None] * len(children)
    for step, child in zip(steps, children, strict=True):
        yield from _paths(child, None if path is None or step is None else (*path, str(step)), depth + 1)


def _specs(
    arguments: list[dict[str, Any]], values: Mapping[str, Any], names: Sequence[str] = ()
) -> tuple[TensorSpec, ...]:
    """The tensors among arguments, under their nodes' names unless others are given."""
    found: list[TensorSpec] = []
    for place, argument in enumerate(arguments):
        name = str(_at(argument, "as_tensor").get("name", ""))
        value = values.get(name)
        datatype = _SCALARS.get(value.get("dtype", 0)) if isinstance(value, dict) else None
        if isinstance(value, dict) and datatype is not None:
            shape = tuple(_size(size) for size in value.get("sizes") or [])
            found.append(TensorSpec(names[place] if names else name, datatype, shape))
    return tuple(found)


def _size(size: Any) -> int:  # noqa: ANN401 - foreign JSON
    fixed = size.get("as_int") if isinstance(size, dict) else None
    return fixed if isinstance(fixed, int) and fixed > 0 else -1


TORCHSCRIPT = Format("torchscript", "TorchScript", _is_script, _understand_script)
TORCH_EXPORT = Format("torch-export", "torch.export", _is_export, _understand_export)
