"""Single requests by hand, as the console's playground sends them: checked, queued and counted as every other."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.core.clock import Clock
from taxiway.core.errors import InvalidArgument, Unsupported, WrongDatatype
from taxiway.core.ports import InnerAnswer, InnerCall, InnerCaller, InnerTensor
from taxiway.core.tensors import Datatype
from taxiway.server.channel import Verb

_MAX_ELEMENTS: Final = 1 << 20
_MAX_ANSWERS: Final = 256
"""Of one that answers in parts; what comes beyond is not told."""


class TryingDesk:
    """What may be tried of this process.

    Args:
        calls: the way to the models.
    """

    def __init__(self, calls: InnerCaller, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock

    def verbs(self) -> dict[str, Verb]:
        """What may be asked of this process."""
        return {"try": self._try}

    async def _try(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Ask a model once.

        Raises:
            InvalidArgument: the request is none that can be told in JSON.
            TaxiwayError: the model's error.
        """
        inputs = [_tensor(one) for one in _listed(words["inputs"])]
        began_ns = self._clock.monotonic_ns()
        call = InnerCall(
            words["model"],
            words["version"],
            inputs,
            id=words["id"],
            parameters=words["parameters"] or None,
            deadline_ns=began_ns + round(words["timeout_s"] * 1e9),
        )
        answers = await self._answers(call)
        took_ms = (self._clock.monotonic_ns() - began_ns) / 1e6
        told = [_told(output) for answer in answers for output in answer.outputs]
        body = {"model_name": words["model"], "model_version": words["version"] or "", "outputs": told}
        return {"ms": round(took_ms, 3), "answer": body}

    async def _answers(self, call: InnerCall) -> list[InnerAnswer]:
        answers: list[InnerAnswer] = []
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(answer: InnerAnswer) -> None:
            if answer.error is not None and not over.done():
                over.set_exception(answer.error)
            if len(answers) < _MAX_ANSWERS:
                answers.append(answer)
            if answer.final and not over.done():
                over.set_result(None)

        take_back = self._calls.call(call, take)
        try:
            await over
        except asyncio.CancelledError:
            take_back()
            raise
        return answers


def _listed(inputs: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
        raise InvalidArgument("inputs must be a list of tensors", hint='as [{"name", "shape", "datatype", "data"}]')
    return inputs


def _tensor(told: Mapping[str, Any]) -> InnerTensor:
    name, datatype = str(told.get("name", "")), Datatype.by_name(str(told.get("datatype", "")))
    if datatype is None or datatype is Datatype.BF16:
        raise Unsupported(f"input '{name}' of datatype {told.get('datatype')!r} cannot be tried", hint="use a client")
    shape, data = told.get("shape"), told.get("data")
    if not (isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)):
        raise InvalidArgument(f"the shape of input '{name}' is no list of sizes", hint="as [1, 4]")
    if math.prod(shape) > _MAX_ELEMENTS:
        raise InvalidArgument(f"input '{name}' has over {_MAX_ELEMENTS} elements", hint="use a client")
    return InnerTensor(name, datatype, _array(name, datatype, shape, data))


def _array(name: str, datatype: Datatype, shape: list[int], data: object) -> NDArray[Any]:
    if datatype is Datatype.BYTES:
        texts = _flat(data)
        array = np.empty(len(texts), object)
        array[:] = [one.encode() if isinstance(one, str) else str(one).encode() for one in texts]
    else:
        try:
            array = np.array(data, datatype.numpy_dtype)
        except (TypeError, ValueError, OverflowError) as problem:
            raise WrongDatatype(f"input '{name}' is not {datatype.wire_name}: {problem}") from None
    if array.size != math.prod(shape):
        raise InvalidArgument(f"input '{name}' of shape {shape} has {array.size} elements", hint="they must fit")
    return array.reshape(shape)


def _flat(data: object) -> list[Any]:
    if not isinstance(data, list):
        return [data]
    return [one for part in data for one in _flat(part)]


def _told(tensor: InnerTensor) -> dict[str, Any]:
    array = tensor.array
    data: list[Any]
    if tensor.datatype is Datatype.BYTES:
        data = [one.decode("utf-8", "backslashreplace") if isinstance(one, bytes) else str(one) for one in array.flat]
    elif array.dtype.kind == "f":
        data = [one if math.isfinite(one) else None for one in array.astype(np.float64).ravel().tolist()]
    else:
        data = array.ravel().tolist()
    return {"name": tensor.name, "datatype": tensor.datatype.wire_name, "shape": list(array.shape), "data": data}
