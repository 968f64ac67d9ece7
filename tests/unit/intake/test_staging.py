"""Sources that change, lie about their size or have no end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taxiway.core.errors import ArtifactChanged, InvalidArgument, OversizedArtifact, UnsafePath
from taxiway.intake.limits import DEFAULT_LIMITS, Limits
from taxiway.intake.sources import choose_source
from taxiway.intake.staging import stage


def staged(source: Path, tmp_path: Path, limits: Limits = DEFAULT_LIMITS) -> Any:
    into = tmp_path / "into"
    into.mkdir()
    return stage(source, into, limits, lambda _: frozenset())


def test_a_file_that_says_it_is_empty_and_goes_on_is_refused(tmp_path: Path) -> None:
    """As files of /proc do, and as one does that is written to meanwhile."""
    with pytest.raises(ArtifactChanged) as refused:
        staged(Path("/proc/self/status"), tmp_path)
    assert refused.value.facts["rule"] == "growing"


def test_a_sparse_file_is_not_copied_to_a_disk_that_is_too_small(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(OversizedArtifact) as refused:
        staged(tmp_path / "model.onnx", tmp_path)
    assert refused.value.facts["rule"] == "room"


def test_empty_directories_are_counted(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "model" / f"a{number}" / "b").mkdir(parents=True)
    with pytest.raises(OversizedArtifact) as refused:
        staged(tmp_path / "model", tmp_path, Limits(max_files=8))
    assert refused.value.facts["rule"] == "max_files"


def test_a_directory_that_becomes_a_link_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.txt").write_text("not mine", encoding="utf-8")
    resolve = Path.resolve

    def exchanged(path: Path, strict: bool = False) -> Path:
        """Answers, and then the directory is another: the moment that the descriptor is asked about."""
        answer = resolve(path, strict)
        if path.name == "a.txt" and "fd" not in path.parts and not (tmp_path / "away").exists():
            (tmp_path / "model").rename(tmp_path / "away")
            (tmp_path / "model").symlink_to(tmp_path / "secret")
        return answer

    monkeypatch.setattr(Path, "resolve", exchanged)
    with pytest.raises(UnsafePath) as refused:
        staged(tmp_path / "model", tmp_path)
    assert refused.value.facts["rule"] == "link"


def test_an_empty_source_is_not_the_directory_one_is_in() -> None:
    with pytest.raises(InvalidArgument, match="SOURCE is empty"):
        choose_source("", {})
