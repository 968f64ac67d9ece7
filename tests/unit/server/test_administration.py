"""What several processes say of themselves, told as one."""

from __future__ import annotations

from taxiway.server.administration import merge_indexes


def _line(version: int, state: str, reason: str = "") -> dict[str, str]:
    line = {"name": "m", "version": str(version), "state": state}
    return line | {"reason": reason} if reason else line


def test_a_version_is_as_ready_as_where_it_is_least_so() -> None:
    ready, loading, gone = _line(1, "READY"), _line(1, "LOADING"), _line(1, "UNAVAILABLE", "unloaded")
    assert merge_indexes([[ready], [ready]]) == [ready]
    assert merge_indexes([[ready], [loading], [ready]]) == [loading]
    assert merge_indexes([[ready], [_line(1, "UNLOADING")]]) == [_line(1, "UNLOADING")]
    assert merge_indexes([[loading], [gone]]) == [gone]


def test_lines_are_in_the_order_of_names_and_numbers() -> None:
    two, ten = _line(2, "READY"), _line(10, "READY")
    assert merge_indexes([[ten, {"name": "a"}], [two]]) == [{"name": "a"}, two, ten]
