"""What is to be converted is told from its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxiway.convert.sources import Kind, function_of, kind_of


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("wine.skops", Kind.TABLE),
        ("model.PT2", Kind.TORCH),
        ("model.pt", Kind.TORCH),
        ("model.keras", Kind.KERAS),
        ("package.nets:build", Kind.FUNCTION),
        ("some/where/nets.py:build", Kind.FUNCTION),
        ("some/where:build", Kind.TABLE),
        ("nets:not a name", Kind.TABLE),
    ],
)
def test_a_source_is_of_the_kind_that_its_name_says(source: str, kind: Kind) -> None:
    assert kind_of(source) is kind


def test_a_directory_is_hugging_faces_and_a_file_is_no_function(tmp_path: Path) -> None:
    (tmp_path / "odd:name").write_bytes(b"")
    assert kind_of(str(tmp_path)) is Kind.HUGGING_FACE
    assert kind_of(str(tmp_path / "odd:name")) is Kind.TABLE


def test_a_function_is_a_place_and_a_name() -> None:
    assert function_of("some/nets.py:build") == ("some/nets.py", "build")
    assert function_of("package.nets:build") == ("package.nets", "build")
