"""Programs of torch that reach beyond tensors: what torch evaluates, executes and imports as it loads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.malicious.case import Case
from tests.support.malicious.disguises import SCRIPT_OBJECT
from tests.support.malicious.making import torch_script, write, zipped_items
from tests.support.malicious.pickles import code, command

from taxiway.core.errors import UntrustedPickle


def program(
    directory: Path, *, name: str = "m/models/model.json", format_: str = "m/archive_format", **changes: Any
) -> Path:
    """An exported program as torch 2.13 writes it, but for what is given."""
    size = {"as_expr": {"expr_str": changes.get("size", "Pow(Symbol('s77', positive=True, integer=True), Integer(2))")}}
    node = {"target": changes.get("target", "torch.ops.aten.relu.default"), "inputs": [], "outputs": [], "metadata": {}}
    tree = {"type": "builtins.dict", "context": changes.get("context", '["x"]'), "children_spec": []}
    document = {
        "graph_module": {
            "graph": {"inputs": [], "outputs": [], "nodes": [node], "sym_int_values": {"s": size}},
            "module_call_graph": [{"signature": {"in_spec": json.dumps([1, tree])}}],
        },
        "guards_code": [changes.get("guard", "L['x'].size()[0] // 2 <= 64")],
        "schema_version": {"major": 8, "minor": 20},
    }
    items = [(format_, b"pt2"), (name, json.dumps(document).encode()), ("m/data/weights/weight_0", b"\0" * 32)]
    return write(directory / "model.pt2", zipped_items(items, 0))


def script(directory: Path, line: str) -> Path:
    """TorchScript with one more line."""
    said = f"class M(Module):\n  def forward(self, x):\n    {line}\n    return x\n".encode()
    return write(directory / "model.pt", torch_script(SCRIPT_OBJECT, said))


def _program(what: str, **changes: Any) -> Case:
    def build(directory: Path, canary: Path) -> Path:
        told = {key: value.format(code=code(canary), command=command(canary)) for key, value in changes.items()}
        return program(directory, **told)

    return Case(f"exported-{what}", build, program, UntrustedPickle, "exported-code")


def _script(what: str, line: str) -> Case:
    return Case(
        f"torchscript-{what}",
        lambda directory, canary: script(directory, line.format(canary=canary)),
        lambda directory: script(directory, "_0 = torch.add(x, 1)"),
        UntrustedPickle,
        "script-files",
    )


def cases() -> Iterator[Case]:
    yield _program("size", size="{code}")
    yield _program("size-in-a-text", size="Max('{command}')")
    yield _program("size-attribute", size="Symbol('s0').__class__")
    yield _program("size-without-bound", size="Pow(Pow(Integer(9), Integer(64)), Integer(64))")
    yield _program("guard", guard="{code} is None")
    yield _program("guard-in-a-call", guard="L['x'].size()[0] == eval('1')")
    yield _program("operator", target="torch.serialization.os.system")
    yield _program("operator-of-files", target="torch.ops.aten.from_file.default")
    yield _program("enumeration", context='{{"__enum__": true, "fqn": "antigravity:X", "name": "x"}}')
    yield _program("upper-case", guard="{code} is None", name="m/MODELS/MODEL.JSON", format_="m/ARCHIVE_FORMAT")
    yield _script("save", 'torch.save(x, "{canary}")')
    yield _script("save-as-a-method", 'x.\\\n      save("{canary}")')
    yield _script("from-file", 'torch.from_file("{canary}", True, 10)')
    yield _script("foreign-operator", 'ops.image.write_file("{canary}", x)')
