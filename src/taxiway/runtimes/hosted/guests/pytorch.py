"""torch: TorchScript (`model.pt`), an exported program (`model.pt2`), or a class with its weights (`module.py`).

What the configuration calls inputs and outputs is matched as Triton's PyTorch backend does it: by the names of the
arguments and the keys of what is returned, else by the number behind `__` (INPUT__0), else by their order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from taxiway.core.errors import InvalidModel, ModelFailed
from taxiway.runtimes.hosted.answering import ArrayGuest
from taxiway.runtimes.hosted.batch import Arrays
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.naming import match_names
from taxiway.runtimes.hosted.torch_programs import Program, Signature, open_program, returned_parts
from taxiway.runtimes.hosted.torch_tensors import device_of, set_threads, to_array, to_tensor


class TorchModel:
    """A program that is called with arrays.

    Args:
        names: inputs and outputs as the configuration names them, with their datatypes; those the program tells if
            the configuration names none.
    """

    def __init__(
        self,
        program: Program,
        inputs: Sequence[Declared],
        outputs: Sequence[Declared],
        source: Source,
        device: Any,  # noqa: ANN401
    ) -> None:
        self._program = program
        self._device = device
        self._datatypes = {one.name: one.datatype for one in inputs}
        names = [one.name for one in inputs]
        places = range(len(names)) if program.takes_mapping else match_names("input", names, program.arguments)
        self._places = dict(zip(names, places, strict=True))
        self._outputs = [one.name for one in outputs]
        self._guard = torch.no_grad if source.options.get("INFERENCE_MODE") == "false" else torch.inference_mode
        self._optimizes = source.options.get("DISABLE_OPTIMIZED_EXECUTION") != "true"
        told = program.signature
        self.inputs: Sequence[Declared] | None = None if told is None else _renamed(told.inputs, names, places)
        known = [] if told is None else [one.name for one in told.outputs]
        self.outputs: Sequence[Declared] | None = (
            None if told is None else _renamed(told.outputs, self._outputs, match_names("output", self._outputs, known))
        )
        self.batches = told is None or told.batches

    def predict(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """What the program returns for these inputs."""
        given = {name: to_tensor(array, self._datatypes[name], self._device) for name, array in inputs.items()}
        with self._guard(), torch.jit.optimized_execution(self._optimizes):
            returned = self._program.call([given] if self._program.takes_mapping else self._placed(given))
        parts = returned_parts(returned)
        keys = list(parts)
        if len(keys) < len(self._outputs):
            raise ModelFailed(f"the model returned {len(keys)} tensors for the outputs {self._outputs}")
        places = match_names("output", self._outputs, keys)
        return {
            name: to_array(parts[keys[place]])
            for name, place in zip(self._outputs, places, strict=True)
            if name in outputs
        }

    def _placed(self, given: dict[str, Any]) -> list[Any]:
        values: list[Any] = [None] * len(self._program.arguments)
        for name, value in given.items():
            values[self._places[name]] = value
        return values


def open_model(source: Source, lines: Lines) -> ArrayGuest:
    """Load the program."""
    set_threads(source.options)
    device = device_of(source)
    program = open_program(source, device)
    config = json.loads(source.config)
    inputs, outputs = (_configured(config, side) for side in ("input", "output"))
    signature = program.signature
    if signature is not None:
        inputs, outputs = inputs or signature.inputs, outputs or signature.outputs
    if not inputs or not outputs:
        raise _unknown(program, source)
    model = TorchModel(program, inputs, outputs, source, device)
    return ArrayGuest(model, lines, _bounded(config, signature))


def _configured(config: dict[str, Any], side: str) -> tuple[Declared, ...]:
    """The tensors that the configuration names. Their shapes are checked elsewhere."""
    tensors = config.get(side) or ()
    return tuple(Declared(one["name"], _wire_name(one.get("data_type", "")), ()) for one in tensors)


def _wire_name(data_type: str) -> str:
    name = data_type.removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def _renamed(told: Sequence[Declared], names: Sequence[str], places: Sequence[int]) -> tuple[Declared, ...]:
    """What the program tells, under the names of the configuration."""
    return tuple(told[place]._replace(name=name) for name, place in zip(names, places, strict=True))


def _bounded(config: dict[str, Any], signature: Signature | None) -> str | None:
    """The configuration with the rows that the program was exported for; None if it says enough, or they are free."""
    if signature is None or not signature.most_rows or config.get("max_batch_size") or config.get("input"):
        return None
    return json.dumps({**config, "max_batch_size": signature.most_rows})


def _unknown(program: Program, source: Source) -> InvalidModel:
    arguments = ", ".join(program.arguments)
    first = next(iter(program.arguments), "INPUT__0")
    return InvalidModel(
        f"{source.file} tells the names of its arguments ({arguments}), and not their shapes or datatypes",
        hint=f"write config.pbtxt: max_batch_size: 8 input [{{ name: '{first}' data_type: TYPE_FP32 dims: [ -1 ] }}] "
        "output [{ name: 'OUTPUT__0' data_type: TYPE_FP32 dims: [ -1 ] }]; or export it as model.pt2, which tells them",
    )
