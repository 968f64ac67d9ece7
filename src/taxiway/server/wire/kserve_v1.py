"""KServe's v1 protocol (TensorFlow Serving's REST form): POST /v1/models/{model}:predict.

Two forms, row and column. In `instances` each element is one example: a value, or an object of values by input name.
In `inputs` a whole tensor stands for each input, its rows included. Datatypes come from the model, shapes from the
nesting of the arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taxiway.core.errors import MalformedRequest, UnknownTensor, WrongShape
from taxiway.core.requests import BatchResult, InferRequest, Responder
from taxiway.core.tensors import Shape, TensorSpec
from taxiway.server.models.served import ServedModel
from taxiway.server.signature import Given
from taxiway.server.wire.asks import Parsed
from taxiway.server.wire.elements import parse_json
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.nesting import is_b64, nested, print_document, typed_elements, unnest
from taxiway.server.wire.oip import InferCodec
from taxiway.server.wire.oip_requests import RequestReader
from taxiway.server.wire.plain import Edge, PlainAsk, PlainCodec, PlainEndpoint

_ROWS = "instances"
_COLUMNS = "inputs"


class PredictReader(RequestReader):
    """Reads predict requests for one version of a model."""

    def read_tensors(self, body: Any, responder: Responder, arrived_ns: int) -> tuple[InferRequest, str]:  # noqa: ANN401
        """The request in `body`, and the member it was sent in: "instances" or "inputs".

        Raises:
            InvalidArgument: what is wrong with it, and where.
        """
        document = parse_json(body)
        if document.__class__ is not dict or (_ROWS in document) + (_COLUMNS in document) != 1:
            raise MalformedRequest(
                "a predict request is an object with either 'instances' (one element per row) or 'inputs' (whole "
                "tensors)",
                hint="GET /v2/openapi.json shows the forms; tensors with names and shapes go to /v2/models/"
                f"{self._model}/infer",
            )
        if _ROWS in document:
            form, values = _ROWS, self._columns_of(document[_ROWS])
        else:
            form, values = _COLUMNS, self._by_name(document[_COLUMNS])
        given = {name: self._tensor(name, value) for name, value in values.items()}
        return self._assemble(given, Parsed(), len(body), responder, arrived_ns), form

    # --- row form -----------------------------------------------------------------------------------------

    def _columns_of(self, instances: Any) -> dict[str, Any]:  # noqa: ANN401
        """Values by input name, each an array of rows; one instance's whole tensors if the model does not batch."""
        if instances.__class__ is not list or not instances:
            raise MalformedRequest("'instances' must be an array of at least one instance")
        rows = [self._by_name(instance, f"instance {index}") for index, instance in enumerate(instances)]
        if not self._max_batch_size:
            if len(rows) != 1:
                raise WrongShape(
                    f"'{self._model}' does not batch: 'instances' must hold one instance, its whole input; it holds "
                    f"{len(rows)}",
                    hint="send one request per instance, or the whole tensor in 'inputs'",
                )
            return rows[0]
        names = rows[0].keys()
        for index, row in enumerate(rows):
            if row.keys() != names:
                raise UnknownTensor(
                    f"instance {index} has the inputs {sorted(row)}; instance 0 has {sorted(names)}",
                    hint="every instance names the same inputs",
                )
        return {name: [row[name] for row in rows] for name in names}

    def _by_name(self, value: Any, where: str = "'inputs'") -> dict[str, Any]:  # noqa: ANN401
        """An object of values by input name; a bare value is that of the only input."""
        if value.__class__ is dict and not (is_b64(value) and "b64" not in self._positions):
            return dict(value)
        if len(self._inputs) != 1:
            raise MalformedRequest(
                f"{where} must be an object, since '{self._model}' has {len(self._inputs)} inputs: "
                f"{', '.join(self._positions)}",
                hint=f"tensors with names and shapes of their own go to /v2/models/{self._model}/infer",
            )
        return {self._inputs[0].name: value}

    # --- one tensor ---------------------------------------------------------------------------------------

    def _tensor(self, name: str, value: Any) -> Given:  # noqa: ANN401
        position = self._positions.get(name)
        if position is None:
            raise UnknownTensor(
                f"unexpected inference input '{name}' for model '{self._model}'",
                hint=f"inputs of {self._model}: {', '.join(self._positions)}",
            )
        spec = self._inputs[position]
        shape, flat = unnest(name, value, self._limits.max_json_depth)
        self._count(name, shape)
        elements = typed_elements(name, spec.datatype, flat, self._limits.max_json_depth)
        return (spec.datatype, self._with_unit_dim(spec, shape), elements)

    def _with_unit_dim(self, spec: TensorSpec, shape: Shape) -> Shape:
        """A bare value is taken for a declared row, or whole tensor, of one element."""
        rank = 1 if self._max_batch_size else 0
        return (*shape, 1) if spec.shape == (1,) and len(shape) == rank else shape


class PredictCodec(PlainCodec):
    """Predict requests for one version."""

    def __init__(self, served: ServedModel, edge: Edge, infer: InferCodec) -> None:
        super().__init__(served, infer)
        self._outputs = served.spec.outputs
        self._batches = served.batches
        self._reader = PredictReader.of(served.spec, edge.limits)

    def read(self, exchange: Exchange) -> tuple[InferRequest, str]:
        """The request; its form is the member it was sent in."""
        return self._reader.read_tensors(exchange.body, self, exchange.arrived_ns)

    def write(self, ask: PlainAsk, result: BatchResult, start: int, stop: int) -> None:
        """{"predictions": rows} for `instances`, {"outputs": tensors} for `inputs`."""
        tensors = {
            spec.name: self._nested(spec, index, result, start, stop)
            for index, spec in enumerate(self._outputs)
            if result.arrays[index] is not None
        }
        if ask.form == _COLUMNS:
            document = {"outputs": _unwrap(tensors)}
        elif self._batches:
            document = {"predictions": _rows_of(tensors)}
        else:
            document = {"predictions": [_unwrap(tensors)]}
        ask.exchange.reply(200, print_document(document))

    def _nested(self, spec: TensorSpec, index: int, result: BatchResult, start: int, stop: int) -> Any:  # noqa: ANN401
        """One output's rows as nested lists; a scalar as it is.

        Raises:
            InvalidArgument: BF16, whose numbers are only known to binary readers.
        """
        array = result.arrays[index]
        return nested(spec, array[start:stop] if self._batches and stop - start != result.rows else array)


class PredictEndpoint(PlainEndpoint):
    """POST /v1/models/{model}:predict."""

    protocol = "kserve_v1"

    def make_codec(self, served: ServedModel, infer: InferCodec) -> PredictCodec:
        """The codec of one version."""
        return PredictCodec(served, self._edge, infer)


def _unwrap(tensors: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The only output as it is; several by name."""
    return next(iter(tensors.values())) if len(tensors) == 1 else tensors


def _rows_of(tensors: Mapping[str, Any]) -> list[Any]:
    """One element per row: the only output's, or an object of them by name."""
    if len(tensors) == 1:
        return list(next(iter(tensors.values())))
    return [dict(zip(tensors, row, strict=True)) for row in zip(*tensors.values(), strict=True)]
