"""Directories that nobody else writes to, repositories that hold what they should, and disks that are full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from taxiway.core.errors import FailedPrecondition, RegistryUnavailable
from taxiway.registry.disk import make_private, require_private, writing_to
from taxiway.registry.materialising import is_intact
from taxiway.registry.nouns import FileEntry

HELLO = FileEntry("@/model.onnx", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", 5)


def test_what_is_made_is_for_this_user_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]
    require_private(tmp_path / "a", "a place")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_place_that_others_write_to_is_refused(mode: int, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(FailedPrecondition, match="could exchange a model"):
        require_private(place, "the cache of models")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "repository/m/1").mkdir(parents=True)
    (tmp_path / "repository/m/1/model.onnx").write_bytes(b"hello")
    return tmp_path / "repository"


LAYOUT = {"m/1/model.onnx": HELLO}


def test_a_repository_is_intact_as_it_was_written(repository: Path) -> None:
    assert is_intact(LAYOUT, repository)


def test_more_than_its_files_is_noticed(repository: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (repository / "m/2").symlink_to(elsewhere)
    assert not is_intact(LAYOUT, repository), "a version that is a link to a directory"
    (repository / "m/2").unlink()
    (repository / "m/2").mkdir()
    assert not is_intact(LAYOUT, repository), "an empty version, as an ensemble's is"


def test_a_link_to_the_same_bytes_is_noticed(repository: Path, tmp_path: Path) -> None:
    (repository / "m/1/model.onnx").rename(tmp_path / "moved")
    (repository / "m/1/model.onnx").symlink_to(tmp_path / "moved")
    assert not is_intact(LAYOUT, repository)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_does_not_take_it_is_told_in_a_sentence(number: int) -> None:
    with pytest.raises(RegistryUnavailable, match="/srv/blobs cannot be written to"), writing_to("/srv/blobs"):
        raise OSError(number, os.strerror(number))


def test_whatever_else_goes_wrong_is_told_by_who_was_writing() -> None:
    with pytest.raises(FileNotFoundError), writing_to("/srv/blobs"):
        raise FileNotFoundError(errno.ENOENT, "gone")
