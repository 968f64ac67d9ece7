"""What is found at a path, and what is said of paths that cannot be served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taxiway.core.errors import InvalidConfig
from taxiway.server.models.repository import find_models, look_at


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_a_file_is_version_1_of_its_stem(tmp_path: Path) -> None:
    path = _touch(tmp_path / "fraud.onnx")
    (found,) = find_models([path])
    assert (found.name, found.config, found.versions) == ("fraud", None, {1: path})


def test_a_directory_of_files(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.onnx", "notes.txt"):
        _touch(tmp_path / name)
    assert [found.name for found in find_models([tmp_path])] == ["a", "b"]


def test_a_triton_repository(tmp_path: Path) -> None:
    for version in ("1", "3", "010", "latest"):
        _touch(tmp_path / "resnet" / version / "model.onnx")
    config = _touch(tmp_path / "resnet" / "config.pbtxt")
    _touch(tmp_path / ".git" / "config")
    (found,) = find_models([tmp_path])
    assert found.config == config
    assert sorted(found.versions) == [1, 3]


def test_one_models_directory(tmp_path: Path) -> None:
    _touch(tmp_path / "resnet" / "2" / "model.onnx")
    (found,) = find_models([tmp_path / "resnet"])
    assert (found.name, sorted(found.versions)) == ("resnet", [2])


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    missing = tmp_path / "nope.onnx"
    wrong = _touch(tmp_path / "model.txt")
    empty = tmp_path / "empty"
    empty.mkdir()
    first, twin = _touch(tmp_path / "one" / "m.onnx"), _touch(tmp_path / "two" / "m.onnx")
    unnamed = _touch(tmp_path / "my model.onnx")
    with pytest.raises(InvalidConfig) as caught:
        find_models([missing, wrong, empty, first, twin, unnamed])
    rules = {problem["value"]: problem["rule"] for problem in caught.value.facts["problems"]}
    assert "no such file" in rules[str(missing)]
    assert "for `taxiway import` first" in rules[str(wrong)]
    assert "holds no model" in rules[str(empty)]
    assert "names the same model" in rules[str(twin)]
    assert "name cannot be a model's" in rules[str(unnamed)]


def test_nothing_to_serve_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="at least one model"):
        find_models([])


def test_a_model_without_versions_is_said(tmp_path: Path) -> None:
    _touch(tmp_path / "resnet" / "config.pbtxt")
    with pytest.raises(InvalidConfig, match="has no version"):
        find_models([tmp_path])


def test_a_directory_with_files_but_no_version_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _touch(tmp_path / "good" / "1" / "model.onnx")
    _touch(tmp_path / "typo" / "v1" / "model.onnx")
    _touch(tmp_path / "notes" / "readme.txt")
    assert [found.name for found in find_models([tmp_path])] == ["good"]
    (record,) = caplog.records
    assert record.message == "directory_not_served"
    assert record.taxiway_fields["path"] == str(tmp_path / "typo")  # type: ignore[attr-defined]


def test_what_cannot_be_read_is_a_problem_and_may_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path / "good" / "1" / "model.onnx")
    locked = tmp_path / "locked"
    locked.mkdir()
    listed = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    look = look_at([tmp_path])
    assert list(look.models) == ["good"]
    assert look.missing == [locked]
    assert "Permission denied" in str(look.problems[0])


def test_a_linked_model_has_the_name_of_the_link(tmp_path: Path) -> None:
    link = tmp_path / "repository" / "shop"
    link.parent.mkdir()
    for release in ("2024-01", "2024-02"):
        _touch(tmp_path / "releases" / release / "1" / "model.onnx")
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / "releases" / release)
        assert [found.name for found in find_models([link.parent])] == ["shop"]
        assert [found.name for found in find_models([link])] == ["shop"]


def test_a_directory_may_be_named_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path / "shop" / "1" / "model.onnx")
    monkeypatch.chdir(tmp_path / "shop" / "1")
    assert [found.name for found in find_models([Path("..")])] == ["shop"]
