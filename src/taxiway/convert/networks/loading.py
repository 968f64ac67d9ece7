"""Where a network comes from: a file of torch's, a function, a Hugging Face directory or a .keras file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taxiway.convert.networks.network import BATCH, Feeds, Network, batched, described, rows_are_free, to_example
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.rows import UNREADABLE
from taxiway.convert.sources import Kind, function_of
from taxiway.core.errors import TaxiwayError, UntrustedPickle
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.torch_programs import ExportedProgram, Program, is_script, open_program
from taxiway.runtimes.hosted.trust import how_to_trust, is_trusted

_CPU = torch.device("cpu")
_NUMPY = {
    "BOOL": "?", "UINT8": "u1", "INT8": "i1", "UINT16": "u2", "INT16": "i2", "INT32": "i4", "INT64": "i8",
    "FP16": "f2", "FP32": "f4", "FP64": "f8",
}  # fmt: skip
_SIZE = 2
"""What a free dimension is in examples that nobody gave."""


def load(
    source: str, kind: Kind, samples: Path | None, trusted: Collection[str], scanned: Collection[str] = ()
) -> Network:
    """The network of `source`.

    Args:
        source: as in `Request`.
        kind: of the source.
        samples: an .npz of arguments.
        trusted: digests (hex) of files that may run code when they are read.
        scanned: digests of files of torch that were found to run none.

    Raises:
        Refused: it cannot be loaded, nobody trusts it, or it fails on its own examples.
    """
    given = None if samples is None else read_arrays(samples)
    try:
        if kind is Kind.FUNCTION:
            network = _of_function(source, given)
        elif kind is Kind.HUGGING_FACE:
            from taxiway.convert.networks import hugging_face  # noqa: PLC0415 - needs transformers

            network = hugging_face.load(Path(source))
        elif kind is Kind.KERAS:
            from taxiway.convert.networks import keras  # noqa: PLC0415 - needs keras

            network = keras.load(Path(source), given)
        else:
            network = _of_file(Path(source), given, trusted, scanned)
    except TaxiwayError as problem:
        reason = Reason.UNTRUSTED if isinstance(problem, UntrustedPickle) else Reason.UNREADABLE
        raise Refused(reason, problem.message, problem.hint) from problem
    return described(network)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arguments by name.

    Raises:
        Refused: it is no .npz of arrays.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (*UNREADABLE, AttributeError) as problem:
        raise Refused(
            Reason.BAD_SAMPLES,
            f"samples: {path.name} is no .npz of arrays: {problem}",
            "numpy.savez('samples.npz', ARGUMENT=array, ...)",
        ) from problem


def chosen(names: Collection[str], given: Mapping[str, NDArray[Any]], path: str = "samples") -> Feeds:
    """The given arrays in the order of the arguments.

    Raises:
        Refused: one is missing.
    """
    missing = [name for name in names if name not in given]
    if missing:
        raise Refused(
            Reason.BAD_SAMPLES,
            f"{path}: there is no array {', '.join(map(repr, missing))}; the arguments are {', '.join(names)}",
            "numpy.savez('samples.npz', ARGUMENT=array, ...)",
        )
    return {name: given[name] for name in names}


# --- files -------------------------------------------------------------------------------------------


def _of_file(
    path: Path, given: Mapping[str, NDArray[Any]] | None, trusted: Collection[str], scanned: Collection[str]
) -> Network:
    if (path.suffix == ".pt2" or is_script(path)) and not is_trusted(path, {*trusted, *scanned}):
        raise UntrustedPickle(
            f"{path.name} may hold code that torch runs while it reads it, and nobody has scanned it",
            hint="taxiway convert scans it first; " + how_to_trust(path),
        )
    program = open_program(
        Source(path.stem, 1, path.parent, path, "{}", {}, frozenset(trusted), path.stem, "CPU", 0, ""), _CPU
    )
    if isinstance(program, ExportedProgram):
        return _of_program(path, program, given)
    names = list(program.arguments)
    if given is None:
        raise Refused(
            Reason.BAD_SAMPLES,
            f"{path.name} tells the names of its arguments ({', '.join(names)}), and not their shapes",
            "give an array for each in an .npz: --samples samples.npz; or save it by torch.export as .pt2",
        )
    return _network(_called(program), chosen(names, given))


def _called(program: Program) -> Any:  # noqa: ANN401 - a module
    return program._module  # type: ignore[attr-defined]


def _of_program(path: Path, loaded: ExportedProgram, given: Mapping[str, NDArray[Any]] | None) -> Network:
    """An exported program says itself what is free in it, and up to what."""
    program = torch.export.load(path)
    signature = loaded.signature
    assert signature is not None, "an exported program has one"  # noqa: S101 - a broken promise of ours
    shapes = {one.name: one.shape for one in signature.inputs}
    free = {name: _named(shape, signature.batches) for name, shape in shapes.items()}
    examples: dict[str, NDArray[Any]] = {}
    chance = np.random.default_rng(0)
    for one in signature.inputs:
        shape = tuple(_SIZE if size < 0 else size for size in one.shape)
        examples[one.name] = _drawn(np.dtype(_NUMPY[one.datatype]), shape, chance)
    names = tuple(examples)
    return Network(
        "torch",
        _Placed(loaded),
        examples if given is None else chosen(names, given),
        free,
        ("torch", "onnxscript"),
        program=program,
        most={BATCH: signature.most_rows} if signature.most_rows else {},
    )


class _Placed(torch.nn.Module):  # type: ignore[misc]
    """An exported program that is called by place, whatever it was exported with."""

    def __init__(self, loaded: ExportedProgram) -> None:
        super().__init__()
        self.loaded = loaded
        self.inner = loaded._module

    def train(self, mode: bool = True) -> Any:  # noqa: ARG002, ANN401 - an exported program is what it is
        return self

    def forward(self, *values: Any) -> Any:  # noqa: ANN401
        return self.loaded.call(values)


def _named(shape: tuple[int, ...], batches: bool) -> dict[int, str]:
    return {place: BATCH if batches and place == 0 else f"free_{place}" for place, size in enumerate(shape) if size < 0}


def _drawn(datatype: np.dtype[Any], shape: tuple[int, ...], chance: np.random.Generator) -> NDArray[Any]:
    drawn: NDArray[Any] = chance.normal(size=shape) if datatype.kind == "f" else chance.integers(0, 2, shape)
    return drawn.astype(datatype)


# --- functions ----------------------------------------------------------------------------------------


def _of_function(source: str, given: Mapping[str, NDArray[Any]] | None) -> Network:
    """`module:function`, or `path.py:function`; it returns the module and example arguments."""
    place, name = function_of(source)
    code = _imported(place)
    function = getattr(code, name, None)
    if not callable(function):
        raise Refused(Reason.UNREADABLE, f"{place} has no function {name!r}")
    try:
        returned = function()
    except Exception as problem:
        raise Refused(Reason.UNREADABLE, f"{source} failed: {type(problem).__name__}: {problem}") from problem
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], torch.nn.Module)):
        raise Refused(
            Reason.UNREADABLE,
            f"{source} returned {type(returned).__name__}, not (torch.nn.Module, example arguments)",
            "return the module and a tensor, a tuple of tensors or a dict of them by argument",
        )
    module, examples = returned
    module.eval()
    taken = list(inspect.signature(module.forward).parameters)
    return _network(module, chosen(_names(taken, examples), given) if given else _examples(taken, examples))


def _imported(place: str) -> Any:  # noqa: ANN401 - a module
    try:
        return _run_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as problem:
        said = f"{type(problem).__name__}: {problem}"
        raise Refused(Reason.UNREADABLE, f"{place} cannot be imported: {said}") from problem


def _run_file(path: Path) -> Any:  # noqa: ANN401 - a module
    """The module in a file, which finds those beside it."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    code = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = code
    spec.loader.exec_module(code)
    return code


def _names(taken: list[str], examples: Any) -> list[str]:  # noqa: ANN401
    if isinstance(examples, Mapping):
        return [name for name in taken if name in examples]
    count = len(examples) if isinstance(examples, (tuple, list)) else 1
    return taken[:count]


def _examples(taken: list[str], examples: Any) -> Feeds:  # noqa: ANN401 - a tensor, several, or several by name
    if isinstance(examples, Mapping):
        values = {name: examples[name] for name in _names(taken, examples)}
    else:
        places = examples if isinstance(examples, (tuple, list)) else (examples,)
        values = dict(zip(taken, places, strict=False))
    return {name: to_example(name, value) for name, value in values.items()}


def _network(module: Any, examples: Feeds) -> Network:  # noqa: ANN401
    """A module whose rows are free if all its arguments have as many, and it answers more and fewer."""
    fixed = Network("torch", module, examples, {}, ("torch", "onnxscript"))
    if not rows_are_free(examples):
        return fixed
    free = replace(fixed, examples=batched(examples), free={name: {0: BATCH} for name in examples})
    return free if free.takes_other_sizes() else fixed
