"""HOUSE.md is what the rooms say, and every room says all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.house import PAGE, SOURCE, IncompleteRoom, format_page, parse_room, read_docstring, read_floors

ROOMS = sorted(path.parent for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == format_page(), "run `python -m tools.house`"


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(SOURCE)))
def test_every_room_says_what_it_is(room: Path) -> None:
    parse_room(room.name, read_docstring(room / "__init__.py"))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(SOURCE)))
def test_what_a_room_tells_to_read_is_there(room: Path) -> None:
    read = parse_room(room.name, read_docstring(room / "__init__.py")).lines["Read"]
    named = [word.strip(".,;()") for word in read.split()]
    missing = [name for name in named if name.endswith(".py") and not (room / name).exists()]
    assert not missing


def test_every_room_is_on_the_page() -> None:
    floors = {name for floor in read_floors("rooms") for name in floor}
    assert {room.name for room in ROOMS if room.parent == SOURCE} == floors


def test_a_room_that_lacks_a_line_is_named() -> None:
    with pytest.raises(IncompleteRoom, match="attic: its docstring lacks Never"):
        parse_room("attic", "A place.\n\nIn: things.\nOut: dust,\nand more.\nRead: boxes.py.")
