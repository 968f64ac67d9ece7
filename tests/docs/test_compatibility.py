"""docs/compatibility.md is what deviations.toml declares."""

from __future__ import annotations

import re
import tomllib

from tools.compatibility_docs import DEVIATIONS, PAGE, format_page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == format_page(), "run `python -m tools.compatibility_docs`"


def test_every_deviation_has_a_row_of_five_cells() -> None:
    declared = [entry["id"] for entry in tomllib.loads(DEVIATIONS.read_text(encoding="utf-8"))["deviation"]]
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]

    assert [row.split("`")[1] for row in rows] == sorted(declared)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
