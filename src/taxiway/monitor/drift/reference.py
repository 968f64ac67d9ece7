"""What rows are held against: the cells of each feature, and how many rows of the reference were in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import msgspec
import numpy as np

from taxiway.core.errors import FailedPrecondition, InvalidArgument
from taxiway.monitor.drift.columns import Column, Side, expanded
from taxiway.stats.cells import CategoryCells, NumericCells
from taxiway.stats.change import Counts
from taxiway.stats.drift_evidence import Feature

LEAST_ROWS: Final = 50
"""Of fewer, a reference would be held against the chance of its own cells."""
_MAX_FEATURES: Final = 512
_TEXT_SHARE: Final = 0.5
_TEXT_LEAST: Final = 30
"""Words of which so many are different, and each about once, are texts and not categories."""


@dataclass(frozen=True, slots=True)
class WatchedFeature:
    """One feature.

    Attributes:
        cells: that its values are counted in.
        reference: rows of the reference in each.
    """

    name: str
    side: Side
    cells: NumericCells | CategoryCells
    reference: Counts

    @property
    def order(self) -> Any:  # noqa: ANN401 - an array or None
        """By what its cells are ordered; None: by nothing."""
        return self.cells.order if isinstance(self.cells, NumericCells) else None

    def count(self, column: Column | None, rows: int) -> Counts:
        """Rows in each cell; a column that is not there is missing in every row."""
        if column is None or column.is_numeric != isinstance(self.cells, NumericCells):
            counts = np.zeros(len(self.cells.names), dtype=np.int64)
            counts[self.cells.names.index("missing")] = rows
            return counts
        if isinstance(self.cells, NumericCells):
            return self.cells.count(np.asarray(column.values))
        return self.cells.count(list(column.values))


@dataclass(frozen=True, slots=True)
class Reference:
    """What a version is held against.

    Attributes:
        source: where its rows come from, as `the first 5000 rows in service`.
        rows: how many.
        made_ns: when, in UTC nanoseconds.
        left_out: features that were too many, or had no value at all.
        texts: words that are told by what can be counted of them, as hardly one comes again.
    """

    features: tuple[WatchedFeature, ...]
    source: str
    rows: int
    made_ns: int
    left_out: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, columns: Sequence[Column], source: str, made_ns: int) -> Self:
        """Made of rows.

        Raises:
            FailedPrecondition: they are too few, or nothing of them can be watched.
        """
        rows = len(columns[0]) if columns else 0
        _check_rows(rows)
        words = [column for column in columns if isinstance(column.values, list)]
        texts = tuple(column.name for column in words if is_text(column.values))
        columns = expanded(columns, texts)
        watched = [feature for column in columns[:_MAX_FEATURES] if (feature := _watched(column)) is not None]
        if not watched:
            raise FailedPrecondition("no feature of the reference has a value", hint="its tensors hold nothing finite")
        kept = {feature.name for feature in watched}
        left_out = tuple(column.name for column in columns if column.name not in kept)
        return cls(tuple(watched), source, rows, made_ns, left_out, texts)

    def recounted(self, counts: Sequence[Counts], rows: int, source: str, made_ns: int) -> Reference:
        """The same cells with other rows in them.

        Raises:
            FailedPrecondition: they are too few.
        """
        _check_rows(rows)
        features = [replace(one, reference=many) for one, many in zip(self.features, counts, strict=True)]
        return Reference(tuple(features), source, rows, made_ns, self.left_out, self.texts)

    def evidence_features(self) -> list[Feature]:
        """As the detector takes them."""
        return [Feature(one.reference, one.order) for one in self.features]

    def count(self, columns: Sequence[Column], rows: int) -> list[Counts]:
        """Rows in each cell, by feature."""
        by_name = {(column.side, column.name): column for column in expanded(columns, self.texts)}
        return [feature.count(by_name.get((feature.side, feature.name)), rows) for feature in self.features]

    def encode(self) -> bytes:
        """As bytes."""
        told = {
            "source": self.source,
            "rows": self.rows,
            "made_ns": self.made_ns,
            "left_out": self.left_out,
            "texts": self.texts,
            "features": [_told(feature) for feature in self.features],
        }
        return msgspec.msgpack.encode(told)

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """What `encode` made.

        Raises:
            InvalidArgument: it is not that.
        """
        try:
            told = msgspec.msgpack.decode(content)
            features = tuple(_read(one) for one in told["features"])
            return cls(
                features, told["source"], told["rows"], told["made_ns"], tuple(told["left_out"]), tuple(told["texts"])
            )
        except (msgspec.DecodeError, LookupError, TypeError, ValueError) as problem:
            raise InvalidArgument(
                f"this is no reference of this release: {problem}", hint="make it with `taxiway monitor reference`"
            ) from None


def _check_rows(rows: int) -> None:
    if rows < LEAST_ROWS:
        raise FailedPrecondition(
            f"a reference of {rows} rows; it needs {LEAST_ROWS} at least, and 1000 to be of use",
            hint="give it more rows",
            rows=rows,
        )


def is_text(values: Any) -> bool:  # noqa: ANN401 - words, or numbers, which are none
    """Whether words are texts, of which hardly one comes again, rather than categories."""
    distinct = len(set(values))
    return distinct > _TEXT_LEAST and distinct > _TEXT_SHARE * len(values)


def _watched(column: Column) -> WatchedFeature | None:
    if isinstance(column.values, np.ndarray):
        values = np.asarray(column.values)
        if not np.isfinite(values.astype(np.float64)).any():
            return None
        cells: NumericCells | CategoryCells = NumericCells.of(values)
        return WatchedFeature(column.name, column.side, cells, cells.count(values))
    words = CategoryCells.of(column.values)
    return WatchedFeature(column.name, column.side, words, words.count(column.values))


def _told(feature: WatchedFeature) -> dict[str, Any]:
    cells = feature.cells
    told: dict[str, Any] = {"name": feature.name, "side": feature.side, "reference": feature.reference.tolist()}
    if isinstance(cells, NumericCells):
        arrays = {"edges": cells.edges.tolist(), "places": cells.places.tolist(), "middles": cells.middles.tolist()}
        return {**told, "names": cells.names, **arrays}
    return {**told, "names": cells.names, "words": [[key, place] for key, place in cells.places.items()]}


def _read(told: dict[str, Any]) -> WatchedFeature:
    names = tuple(told["names"])
    reference = np.array(told["reference"], dtype=np.int64)
    cells: NumericCells | CategoryCells
    if "words" in told:
        cells = CategoryCells(names, dict(told["words"]))
    else:
        edges, middles = np.array(told["edges"]), np.array(told["middles"])
        cells = NumericCells(names, edges, np.array(told["places"], dtype=np.intp), middles)
    return WatchedFeature(told["name"], told["side"], cells, reference)
