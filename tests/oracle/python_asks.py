"""What is asked of the Python models of python_models.py, over HTTP in JSON and binary, gRPC and its stream.

In: nothing. Out: asks that Hypothesis invents, each of which can be put to either server in every form.
Never: what ends real Triton, or what it never answers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st
from tests.oracle.python_models import NUMBERS
from tests.oracle.replies import STREAM, Call
from tests.oracle.requests import INFERENCE_HEADER, Request, packed, values
from tritonclient.grpc import service_pb2

FORMS: Final = ("json", "binary", "grpc", "stream")
DECOUPLED: Final = ("repeat", "returning", "async_repeat")

FAILURES: Final = (
    "ok",
    "raise",
    "divide",
    "own",
    "empty",
    "wrong",
    "tuple",
    "key",
    "UNKNOWN",
    "INTERNAL",
    "NOT_FOUND",
    "INVALID_ARG",
    "UNAVAILABLE",
    "UNSUPPORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    "error",
    "type",
    "name",
    "flag",
    "nothing sent",
    "end first",
    "missing",
    "undeclared",
)
CALLS: Final = (
    "sum",
    "both",
    "version",
    "unknown",
    "error",
    "raise",
    "tell",
    "texts",
    "unary of many",
    "many",
    "many of one",
    "again",
    "chain",
    "ensemble",
    "nothing",
)
STREAMS: Final = (
    "plain",
    "raise after",
    "return",
    "errors",
    "last is error",
    "last with flag",
    "after the end",
    "shapes",
    "thread",
)


@dataclasses.dataclass(frozen=True)
class Given:
    """One input; `elements` are what `values` draws."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class PythonAsk:
    """One request, in no form yet."""

    model: str
    inputs: tuple[Given, ...]
    outputs: tuple[str, ...] = ()
    id: str = ""
    parameters: tuple[tuple[str, Any], ...] = ()
    empty_final: bool = False

    def over_http(self, *, binary: bool) -> Request:
        """As a request to /infer."""
        document: dict[str, Any] = {"id": self.id} if self.id else {}
        if self.parameters or binary:
            document["parameters"] = dict(self.parameters) | ({"binary_data_output": True} if binary else {})
        raw = [packed(one.datatype, list(one.elements)) for one in self.inputs]
        document["inputs"] = [
            {"name": one.name, "shape": one.shape, "datatype": one.datatype}
            | ({"parameters": {"binary_data_size": len(data)}} if binary else {"data": list(one.elements)})
            for one, data in zip(self.inputs, raw, strict=True)
        ]
        if self.outputs:
            chosen = {"parameters": {"binary_data": True}} if binary else {}
            document["outputs"] = [{"name": name} | chosen for name in self.outputs]
        text = json.dumps(document).encode()
        headers = ((INFERENCE_HEADER, str(len(text))),) if binary else ()
        return Request("POST", f"/v2/models/{self.model}/infer", headers, text + (b"".join(raw) if binary else b""))

    def over_grpc(self, *, stream: bool) -> Call:
        """As a call."""
        message: Any = service_pb2.ModelInferRequest(model_name=self.model, id=self.id)
        for one in self.inputs:
            message.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
            message.raw_input_contents.append(packed(one.datatype, list(one.elements)))
        for name in self.outputs:
            message.outputs.add(name=name)
        for name, value in self.parameters:
            field = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
            setattr(message.parameters[name], field, value)
        if stream and self.empty_final:
            message.parameters["triton_enable_empty_final_response"].bool_param = True
        return Call(STREAM if stream else "ModelInfer", (message.SerializeToString(deterministic=True),))


def text(name: str, *items: str) -> Given:
    """A row of BYTES."""
    return Given(name, "BYTES", (1, len(items)), items)


def count(number: int) -> Given:
    """The input COUNT."""
    return Given("COUNT", "INT32", (1, 1), (number,))


_OWN = st.dictionaries(
    st.sampled_from(["z", "a", "k2", "name"]),
    st.one_of(st.integers(-(2**40), 2**40), st.booleans(), st.text("abc é", max_size=4)),
    max_size=3,
)
_IDS = st.sampled_from(["", "1", "an id", "é"])


def _elements(draw: st.DrawFn, datatype: str, number: int) -> tuple[Any, ...]:
    """Doubles with few digits: Triton reads others from JSON a little wrong (deviations.toml: fp64-last-digits)."""
    drawn = st.integers(-(2**30), 2**30).map(lambda whole: whole / 8) if datatype == "FP64" else values(datatype)
    return tuple(draw(st.lists(drawn, min_size=number, max_size=number)))


def _subset(draw: st.DrawFn, *names: str) -> tuple[str, ...]:
    return tuple(draw(st.lists(st.sampled_from(names), unique=True)))


@st.composite
def _identity(draw: st.DrawFn) -> PythonAsk:
    kinds = draw(st.lists(st.sampled_from([kind for kind in NUMBERS if kind != "FP16"]), min_size=1, unique=True))
    rows = draw(st.integers(0, 3))
    inputs = tuple(Given(f"I_{kind}", kind, (rows, 2), _elements(draw, kind, rows * 2)) for kind in kinds)
    return PythonAsk("identity", inputs, tuple(f"O_{kind}" for kind in kinds), draw(_IDS))


@st.composite
def _add_sub(draw: st.DrawFn) -> PythonAsk:
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(0, 4))
    inputs = tuple(
        Given(name, "FP32", (rows, columns), tuple(draw(st.lists(st.integers(-99, 99), min_size=n, max_size=n))))
        for name, n in (("A", rows * columns), ("B", rows * columns))
    )
    return PythonAsk("add_sub", inputs, _subset(draw, "DIFF", "SUM"), draw(_IDS))


@st.composite
def _chain(draw: st.DrawFn) -> PythonAsk:
    """An ensemble of Python models."""
    ask = draw(_add_sub())
    return dataclasses.replace(ask, model="chain", outputs=())


@st.composite
def _shout(draw: st.DrawFn) -> PythonAsk:
    items = draw(st.lists(st.text("abcé \n", max_size=5), min_size=1, max_size=4))
    return PythonAsk("shout", (text("TEXT", *items),), _subset(draw, "LOUD", "SIZE"))


@st.composite
def _telling(draw: st.DrawFn) -> PythonAsk:
    columns = draw(st.integers(1, 3))
    own: dict[str, Any] = draw(_OWN)
    if draw(st.booleans()):
        own["timeout"] = draw(st.integers(10**7, 10**8))
    given = Given("A", "FP32", (1, columns), _elements(draw, "FP32", columns))
    return PythonAsk("telling", (given,), _subset(draw, "TOLD", "COUNT"), draw(_IDS), tuple(own.items()))


@st.composite
def _shapes(draw: st.DrawFn) -> PythonAsk:
    sides = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    return PythonAsk("shapes", (Given("SHAPE", "INT32", (2,), sides),))


@st.composite
def _small(draw: st.DrawFn) -> PythonAsk:
    """A row of numbers for one of the models that take such."""
    model, name = draw(st.sampled_from([("later", "X"), ("awaited", "X"), ("completed", "X")]))
    columns = 2 if model == "completed" else draw(st.integers(1, 3))
    numbers = draw(st.lists(st.integers(-3, 9), min_size=columns, max_size=columns))
    return PythonAsk(model, (Given(name, "FP32", (1, columns), tuple(numbers)),), (), draw(_IDS))


def _one_of(model: str, whats: Sequence[str]) -> st.SearchStrategy[PythonAsk]:
    return st.builds(
        lambda what, number, id_, empty: PythonAsk(
            model, (text("WHAT", what), *([] if model == "failing" else [count(number)])), (), id_, (), empty
        ),
        st.sampled_from(whats),
        st.integers(0, 4),
        _IDS,
        st.booleans(),
    )


KINDS: Final[dict[str, st.SearchStrategy[PythonAsk]]] = {
    "identity": _identity(),
    "add_sub": _add_sub(),
    "chain": _chain(),
    "shout": _shout(),
    "telling": _telling(),
    "shapes": _shapes(),
    "small": _small(),
    "failing": _one_of("failing", FAILURES),
    "calling": _one_of("calling", CALLS),
    "awaiting": _one_of("awaiting", ["x"]),
    "repeat": _one_of("repeat", STREAMS),
    "async_repeat": _one_of("async_repeat", ["x"]),
    "returning": _one_of("returning", ["x"]),
}
