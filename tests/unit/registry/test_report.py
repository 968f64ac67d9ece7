import datetime as dt

import pytest

from taxiway.registry.report import size_words, table, time_words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (14 * 10**13, "140.0 TB"),
    ],
)
def test_sizes_are_said_in_words(size: int, words: str) -> None:
    assert size_words(size) == words


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("A", "LONG"), [("xxx", "y"), ("z", "")]) == ["A    LONG", "xxx  y", "z"]


def test_times_are_in_utc() -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    assert time_words(dt.datetime(2026, 1, 1, 1, 0, tzinfo=zone)) == "2025-12-31 23:00:00Z"
