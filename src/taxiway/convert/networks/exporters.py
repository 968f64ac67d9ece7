"""Torch's two exporters, each with the first dimensions that are free; what they say is only what they say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from taxiway.convert.networks.network import Network

OPSET: Final = 18
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_UNKNOWN: Final = (
    re.compile(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'"),
    re.compile(r"[Ee]xporting the operator '([\w.:]+)' to ONNX"),
    re.compile(r"[Uu]nsupported (?:operator|FX nodes)[^\w]*([\w.:]+)"),
)


class _Flat(torch.nn.Module):  # type: ignore[misc]
    """A network that returns its tensors one after the other, for tracing knows neither dicts nor names."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.inner = network.module

    def forward(self, *values: Any) -> Any:  # noqa: ANN401
        return tuple(torch.utils._pytree.tree_leaves(self.inner(*values)))


def export_dynamo(network: Network, target: Path) -> None:
    """By torch.export: a graph of what the module does, with free dimensions proven so."""
    shapes = None
    if network.program is None:
        made = {name: torch.export.Dim(name) for dims in network.free.values() for name in dims.values()}
        shapes = tuple(
            {place: made[free] for place, free in network.free.get(name, {}).items()} or None
            for name in network.examples
        )
    torch.onnx.export(
        network.module if network.program is None else network.program,
        network.tensors(network.examples) if network.program is None else (),
        target,
        dynamo=True,
        input_names=list(network.examples),
        output_names=list(network.outputs),
        dynamic_shapes=shapes,
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )


def export_torchscript(network: Network, target: Path) -> None:
    """By tracing: what the module did with the examples, as it is in TorchScript."""
    axes = {name: dict(dims) for name, dims in network.free.items() if dims}
    if any(0 in dims for dims in axes.values()):
        first = next(dims[0] for dims in axes.values() if 0 in dims)
        axes |= {name: {0: first} for name in network.outputs}
    is_script = isinstance(network.module, torch.jit.ScriptModule)
    torch.onnx.export(
        network.module if is_script else _Flat(network),
        network.tensors(network.examples),
        target,
        dynamo=False,
        input_names=list(network.examples),
        output_names=list(network.outputs),
        dynamic_axes=axes or None,
        opset_version=OPSET - 1,
        verbose=False,
    )


EXPORTERS: Final[Mapping[str, Callable[[Network, Path], None]]] = {
    "torch.onnx (dynamo)": export_dynamo,
    "torch.onnx (TorchScript)": export_torchscript,
}


def said(problem: BaseException) -> str:
    """What went wrong at the root, without the advice that torch wraps around it and the colours."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [" ".join(line.split()) for line in _COLOUR.sub("", str(problem)).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {(lines or [''])[0][:300]}"


def unknown_operators(problem: BaseException) -> list[str]:
    """The operators that an exporter has no ONNX for, if that is what it fails of."""
    told = []
    link: BaseException | None = problem
    while link is not None:
        told.append(str(link))
        link = link.__cause__ or link.__context__
    found = [name for text in told for pattern in _UNKNOWN for name in pattern.findall(text)]
    return list(dict.fromkeys(found))
