"""Archives are unpacked within their folder and their bounds, and leave nothing behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from taxiway.core.errors import MalformedArtifact, OversizedArtifact, UnsafePath
from taxiway.runtimes.hosted.unpacking import Folder, UnpackLimits, unpack


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = tmp_path / "folders"
    root.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    yield root
    assert list(root.iterdir()) == [], "something was left behind"


def pack(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def test_what_was_packed_is_there_and_goes(tmp_path: Path) -> None:
    folder = unpack(pack(tmp_path / "a.mar", ("a", b"1"), ("b/", b""), ("b/c/d", b"2")))
    assert (folder.path / "a").read_bytes() == b"1"
    assert (folder.path / "b/c/d").read_bytes() == b"2"
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.remove()
    folder.remove()


@pytest.mark.parametrize(
    "name",
    ["../a", "a/../../b", "/a", "a\\..\\b", link("a"), ".."],
)
def test_no_member_leads_out(tmp_path: Path, name: str | zipfile.ZipInfo) -> None:
    with pytest.raises(UnsafePath, match=r"leads out|neither a file"):
        unpack(pack(tmp_path / "a.mar", ("fine", b""), (name, b"x")))
    assert not (tmp_path / "a").exists()


def test_sizes_are_bounded_by_what_is_written_not_by_what_is_said(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.mar", ("a", bytes(100_000)))
    with pytest.raises(OversizedArtifact, match="more than it may"):
        unpack(archive, UnpackLimits(nbytes=99_999))
    bomb = pack(tmp_path / "b.mar", ("a", bytes(80 << 20)))
    with pytest.raises(OversizedArtifact, match="more than it may"):
        unpack(bomb)
    with pytest.raises(OversizedArtifact, match="2 members"):
        unpack(pack(tmp_path / "c.mar", ("a", b""), ("b", b"")), UnpackLimits(members=1))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mar"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(MalformedArtifact, match="cannot be unpacked"):
        unpack(path)
    with pytest.raises(MalformedArtifact, match="cannot be unpacked"):
        unpack(tmp_path / "missing.mar")
    with pytest.raises(MalformedArtifact, match="cannot be unpacked"):
        unpack(pack(path, ("a", b"1"), ("a/b", b"2")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_is_there_once(tmp_path: Path) -> None:
    for names in (("a", "a"), ("a/b", "a//b"), (".owner", "x")):
        with pytest.raises(MalformedArtifact, match="twice"):
            unpack(pack(tmp_path / "a.mar", *((name, b"1") for name in names)))


def test_damaged_members_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.mar", ("a", b"hello world" * 100))
    data = bytearray(path.read_bytes())
    data[40] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises((MalformedArtifact, OSError)):
        unpack(path)


def test_folders_of_killed_processes_are_swept(tmp_path: Path, folders: Path) -> None:
    code = "from taxiway.runtimes.hosted.unpacking import Folder; import os; Folder(); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(folders)}, check=False)
    assert len(list(folders.iterdir())) == 1
    first = Folder()
    second = Folder()
    assert {path.name for path in folders.iterdir()} == {first.path.name, second.path.name}
    first.remove()
    second.remove()
