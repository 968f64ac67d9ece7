"""Models of tables: rows of features in; a label with probabilities, or a prediction, out.

What such a model answers has the same names whether its own library runs it or the ONNX that it was converted to. A
configuration that calls the one input and the one output otherwise gets, under that name, what the library's own
`predict` returns.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from taxiway.runtimes.hosted.answering import ArrayGuest
from taxiway.runtimes.hosted.batch import Arrays
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.tensors import DTYPES

MATRIX = "X"
"""The input of a model whose features are all numbers."""
LABEL, PROBABILITIES, SCORES, PREDICTION = "label", "probabilities", "scores", "prediction"
RAW = "raw"
"""What the library's own `predict` returns, whatever that is."""


@dataclass(frozen=True, slots=True)
class Column:
    """An input as the framework takes it: `width` features together, or one column of text or numbers."""

    name: str
    datatype: str
    width: int = 1

    @property
    def is_text(self) -> bool:
        """Whether its values are no numbers."""
        return self.datatype == "BYTES"

    def declared(self) -> Declared:
        """As the protocol tells it."""
        return Declared(self.name, self.datatype, (-1, self.width))


class Table(Protocol):
    """A loaded model of tables.

    Attributes:
        columns: one matrix, or named columns.
        outputs: what it answers, by the words above; RAW is not among them.
        raw: what `predict` returns.
    """

    @property
    def columns(self) -> Sequence[Column]: ...  # noqa: D102
    @property
    def outputs(self) -> Sequence[Declared]: ...  # noqa: D102
    @property
    def raw(self) -> Declared: ...  # noqa: D102

    def answer(self, rows: Arrays, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
        """The wanted outputs (others do no harm) of these rows. Text is str."""


class TabularModel:
    """A table under the names that its configuration has."""

    def __init__(self, table: Table, config: Mapping[str, Any]) -> None:
        self._table = table
        inputs, outputs = config.get("input") or (), config.get("output") or ()
        columns = [column.declared() for column in table.columns]
        self._inputs = dict(zip((one.name for one in columns), _named(columns, inputs), strict=True))
        self._outputs = _chosen(table, outputs)
        self._texts = frozenset(column.name for column in table.columns if column.is_text)
        self.inputs: Sequence[Declared] | None = list(self._inputs.values())
        self.outputs: Sequence[Declared] | None = list(self._outputs.values())
        self.batches = True

    def predict(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """What the table answers to these rows."""
        rows = {
            name: _as_text(inputs[told.name]) if name in self._texts else inputs[told.name]
            for name, told in self._inputs.items()
            if told.name in inputs
        }
        wanted = {word: told for word, told in self._outputs.items() if told.name in outputs}
        answers = self._table.answer(rows, wanted.keys())
        return {told.name: _as_declared(answers[word], told) for word, told in wanted.items()}


def open_table(table: Table, source: Source, lines: Lines) -> ArrayGuest:
    """Run a loaded table."""
    return ArrayGuest(TabularModel(table, json.loads(source.config)), lines)


def _named(columns: Sequence[Declared], configured: Sequence[Mapping[str, Any]]) -> list[Declared]:
    """The inputs as the configuration names them: the only one may be called otherwise, and numbers may be narrower."""
    told = {one["name"]: one for one in configured}
    if len(columns) == len(configured) == 1:
        told = {columns[0].name: configured[0]}
    return [_configured(column, told[column.name]) if column.name in told else column for column in columns]


def _chosen(table: Table, configured: Sequence[Mapping[str, Any]]) -> dict[str, Declared]:
    """The outputs to be told, by the table's word for each."""
    known = {one.name: one for one in table.outputs}
    if not configured or any(one["name"] in known for one in configured) or len(configured) > 1:
        told = {one["name"]: one for one in configured}
        return {name: _configured(one, told[name]) if name in told else one for name, one in known.items()}
    return {RAW: _configured(table.raw, configured[0])}


def _configured(declared: Declared, configured: Mapping[str, Any]) -> Declared:
    """What the model declares, under the configuration's name and datatype; numbers stay numbers."""
    datatype = str(configured.get("data_type", "")).removeprefix("TYPE_")
    is_number = "BYTES" not in (declared.datatype, datatype) and datatype in DTYPES
    return declared._replace(name=configured["name"], datatype=datatype if is_number else declared.datatype)


def _as_text(values: NDArray[Any]) -> NDArray[Any]:
    flat = [value.decode() if isinstance(value, bytes) else str(value) for value in values.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(values.shape)


def _as_declared(values: NDArray[Any], declared: Declared) -> NDArray[Any]:
    return values if declared.datatype == "BYTES" else values.astype(DTYPES[declared.datatype], copy=False)
