"""Models of torch in their three forms, each called with its arguments by place."""

from __future__ import annotations

import inspect
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils import _pytree as pytree

from taxiway.core.errors import InvalidModel, UntrustedPickle
from taxiway.runtimes.hosted.code import load_code
from taxiway.runtimes.hosted.declaring import declared_by
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.torch_tensors import WIRE_NAMES
from taxiway.runtimes.hosted.trust import how_to_trust, is_trusted

_WEIGHTS = ("weights.safetensors", "model.safetensors", "weights.pt", "state_dict.pt", "pytorch_model.bin")


class Signature(NamedTuple):
    """The tensors of a model that knows them.

    Attributes:
        inputs, outputs: whole shapes, in the order of arguments and of what is returned.
        batches: whether the first dimension is the same free one everywhere.
        most_rows: what that dimension may be at most; 0 if it is not bounded.
    """

    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...]
    batches: bool
    most_rows: int = 0


class Program(Protocol):
    """A loaded model.

    Attributes:
        arguments: the names of its arguments in order; the last of `takes_mapping` takes all inputs by name.
        signature: None if it does not know.
    """

    arguments: Sequence[str]
    takes_mapping: bool
    signature: Signature | None

    def call(self, values: Sequence[Any]) -> Any:  # noqa: ANN401 - whatever a model takes and returns
        """What it returns for these arguments; None stands for one that was left out."""


class ScriptProgram:
    """TorchScript, which knows its arguments and nothing of their shapes; or a module in Python, which is like it."""

    signature: Signature | None = None

    def __init__(self, module: Any, arguments: Sequence[str], *, takes_mapping: bool = False) -> None:  # noqa: ANN401
        self._module = module
        self.arguments = arguments
        self.takes_mapping = takes_mapping

    def call(self, values: Sequence[Any]) -> Any:  # noqa: ANN401
        """What it returns; arguments that were left out at the end keep their defaults."""
        given = list(values)
        while given and given[-1] is None:
            given.pop()
        return self._module(*given)


class ExportedProgram:
    """What torch.export wrote: shapes and datatypes are in it."""

    takes_mapping = False

    def __init__(self, exported: Any, device: torch.device) -> None:  # noqa: ANN401
        self._module = exported.module()
        self._module.to(device)
        self._shape = exported.call_spec.in_spec
        self.arguments: Sequence[str] = tuple(str(name) for name in exported.graph_signature.user_inputs)
        self.signature: Signature | None = _signature_of(exported, self.arguments)

    def call(self, values: Sequence[Any]) -> Any:  # noqa: ANN401
        """What it returns."""
        positional, named = pytree.tree_unflatten(list(values), self._shape)
        return self._module(*positional, **named)


def open_program(source: Source, device: torch.device) -> Program:
    """The model in the version's file, by the file's name.

    Raises:
        InvalidModel: it cannot be loaded.
        UntrustedPickle: it is a pickle that nobody vouched for.
    """
    path = source.file
    if path.suffix == ".py":
        return _eager(source, device)
    if not path.is_file():
        raise InvalidModel(f"{path} is not a file", hint="put model.pt, model.pt2 or module.py there")
    if path.suffix == ".pt2":
        try:
            return ExportedProgram(torch.export.load(path), device)
        except (RuntimeError, ValueError, zipfile.BadZipFile) as problem:
            raise InvalidModel(
                f"{path} cannot be loaded as an exported program: {problem}",
                hint=f"torch here is {torch.__version__}; export it again with a torch that is not newer",
            ) from problem
    return _script(path, device) if is_script(path) else _pickled(path, source, device)


# --- TorchScript ---------------------------------------------------------------------------------------


def is_script(path: Path) -> bool:
    """Whether it holds code and not only a pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _script(path: Path, device: torch.device) -> ScriptProgram:
    try:
        module = torch.jit.load(path, map_location=device)
    except RuntimeError as problem:
        raise InvalidModel(f"{path} cannot be loaded as TorchScript: {problem}") from problem
    module.eval()
    arguments = module.forward.schema.arguments[1:]
    mapping = len(arguments) == 1 and str(arguments[0].type).startswith("Dict(str, Tensor")
    return ScriptProgram(module, [one.name for one in arguments], takes_mapping=mapping)


# --- modules in Python ---------------------------------------------------------------------------------


def _pickled(path: Path, source: Source, device: torch.device) -> ScriptProgram:
    """A module that was saved whole: code that runs when it is loaded."""
    if not is_trusted(path, source.trusted):
        raise UntrustedPickle(
            f"{path} is neither TorchScript nor an exported program: torch would have to load it as a pickle",
            hint="export it (torch.export.save), or save its state_dict beside a module.py; " + how_to_trust(path),
        )
    sys.path.insert(0, str(path.parent))  # a pickle only names its class, whose file may lie beside it
    module = torch.load(path, map_location=device, weights_only=False)
    if not isinstance(module, torch.nn.Module):
        raise InvalidModel(
            f"{path} holds {type(module).__name__}, which is no module",
            hint="put a module.py with its class beside it, and name it weights.pt",
        )
    return _module_program(module, device)


def _eager(source: Source, device: torch.device) -> ScriptProgram:
    """A class in a file, with its weights beside it."""
    code = load_code(source.file, f"taxiway_module_{source.instance}".replace("-", "_").replace(".", "_"))
    wanted = source.options.get("class")
    found = [
        one
        for name, one in inspect.getmembers(code, inspect.isclass)
        if issubclass(one, torch.nn.Module) and one.__module__ == code.__name__ and wanted in (None, name)
    ]
    if len(found) != 1:
        names = ", ".join(one.__name__ for one in found) or "none"
        raise InvalidModel(
            f"{source.file} must hold one torch.nn.Module; it holds {names}",
            hint="name the class: parameters { key: 'class' value { string_value: 'Name' } }",
        )
    module: Any = found[0](**_arguments(source))
    weights = _weights(source)
    if weights is not None:
        module.load_state_dict(_state(weights, source, device))
    return _module_program(module, device)


def _arguments(source: Source) -> dict[str, Any]:
    text = source.options.get("arguments", "{}")
    try:
        arguments = json.loads(text)
    except ValueError as problem:
        raise InvalidModel(f"parameter 'arguments' is not JSON: {problem}") from problem
    if not isinstance(arguments, dict):
        raise InvalidModel("parameter 'arguments' must be a JSON object: what the module's class is made with, by name")
    return arguments


def _weights(source: Source) -> Path | None:
    """The file that the parameter names, or the first of the usual ones; None if there is none."""
    folder = source.file.parent
    named = source.options.get("weights")
    if named is None:
        return next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    path = folder / named
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise InvalidModel(f"parameter 'weights' is {named!r}, which is no file in the version's directory")
    return path


def _state(path: Path, source: Source, device: torch.device) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415 - only such files need it

        state: Mapping[str, Any] = load_file(path, device=str(device))
        return state
    trusted = is_trusted(path, source.trusted)
    try:
        state = torch.load(path, map_location=device, weights_only=not trusted)
    except Exception as problem:
        raise UntrustedPickle(
            f"{path} cannot be loaded as weights: {str(problem).splitlines()[0]}",
            hint="save it as safetensors, or its state_dict alone; " + how_to_trust(path),
        ) from problem
    return state


def _module_program(module: Any, device: torch.device) -> ScriptProgram:  # noqa: ANN401
    module.to(device).eval()
    program = ScriptProgram(module, list(inspect.signature(module.forward).parameters))
    inputs, outputs = declared_by(module, "inputs"), declared_by(module, "outputs")
    if inputs is not None and outputs is not None:
        batches = bool(getattr(module, "batches", True)) and all(one.shape[:1] == (-1,) for one in (*inputs, *outputs))
        program.signature = Signature(tuple(inputs), tuple(outputs), batches)
    return program


# --- exported programs ---------------------------------------------------------------------------------


def _signature_of(exported: Any, arguments: Sequence[str]) -> Signature:  # noqa: ANN401
    """What an exported program says of its tensors.

    Raises:
        InvalidModel: something that it takes or returns is no tensor.
    """
    nodes = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    inputs = [_declared(name, nodes.get(name)) for name in arguments]
    returned = list(exported.graph_signature.user_outputs)
    names = returned_names(pytree.tree_unflatten(range(len(returned)), exported.call_spec.out_spec))
    outputs = [_declared(name, nodes.get(node)) for name, node in zip(names, returned, strict=True)]
    first = {str(nodes[node].shape[0]) if nodes[node].ndim else "" for node in (*arguments, *returned)}
    batches = len(first) == 1 and all(one.shape[:1] == (-1,) for one in (*inputs, *outputs))
    bounds = {str(symbol): bound.upper for symbol, bound in exported.range_constraints.items()}
    most = bounds.get(next(iter(first), ""))  # a number of sympy's, or its infinity
    bounded = batches and bool(getattr(most, "is_Integer", False))
    return Signature(tuple(inputs), tuple(outputs), batches, int(most) if bounded and most is not None else 0)


def _declared(name: str, value: Any) -> Declared:  # noqa: ANN401 - a fake tensor, if it is one
    if not isinstance(value, torch.Tensor) or value.dtype not in WIRE_NAMES:
        what = f"of {value.dtype}" if isinstance(value, torch.Tensor) else "no tensor"
        raise InvalidModel(
            f"{name!r} of the exported program is {what}, which cannot be sent or answered",
            hint="export a module whose forward takes and returns tensors only",
        )
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return Declared(name, WIRE_NAMES[value.dtype], shape)


def returned_names(returned: Any) -> list[str]:  # noqa: ANN401
    """What the parts of something returned are called: by their keys, or by their places."""
    return list(returned_parts(returned))


def returned_parts(returned: Any) -> dict[str, Any]:  # noqa: ANN401
    """The parts of something returned, by name: a member's key, or `output__` and its place."""
    pairs, _ = pytree.tree_flatten_with_path(returned)
    return {_name_of(path, place): part for place, (path, part) in enumerate(pairs)}


def _name_of(path: Sequence[Any], place: int) -> str:
    keys = [str(step.key) for step in path if hasattr(step, "key")]
    if not keys or len(keys) != len(path):
        return f"output__{place}"
    return ".".join(keys)
