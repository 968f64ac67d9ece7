"""A table in no order: rows come, go, and take each other's places."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.table import Table


@given(st.lists(st.one_of(st.none(), st.integers(0, 10**6)), max_size=80), st.randoms())
def test_it_holds_what_a_list_would(steps: list[int | None], random: object) -> None:
    table, model = Table({"number": ((), np.int64), "pair": ((2,), np.float64)}), list[int]()
    for step in steps:
        if step is None and model:
            row = int(random.random() * len(model))  # type: ignore[attr-defined]
            table.remove(row)
            model[row] = model[-1]
            model.pop()
        elif step is not None:
            table.add({"number": step, "pair": (step, -step)})
            model.append(step)
    assert len(table) == len(model)
    assert table["number"].tolist() == model
    assert table["pair"].tolist() == [[one, -one] for one in model]
    assert [int(row["number"]) for row in table.rows(["number"])] == model


def test_what_a_row_does_not_name_is_zero() -> None:
    table = Table({"number": ((), np.int64), "pair": ((2,), np.float64)})
    table.add({"number": 1, "pair": (1, 2)})
    table.remove(0)
    table.add({"number": 2})
    assert table["pair"].tolist() == [[0, 0]]
