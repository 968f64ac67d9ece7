"""What a registry promises of files, whichever database and store are behind it."""

import io
from pathlib import Path

import fsspec
import pytest
from tests.support.registries import STORES, Place, files_below, manifest_of, register

from taxiway.core.errors import (
    AlreadyExists,
    BlobMissing,
    DataLoss,
    FilesDisagree,
)
from taxiway.registry import NewVersion, Registry
from taxiway.registry.stores import open_store

pytestmark = pytest.mark.parametrize("new_place", STORES, indirect=True)


# --- files ------------------------------------------------------------------------------------------------


def test_the_same_bytes_are_kept_once(registry: Registry, place: Place, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights" * 300_000)
    first = registry.put_file(tmp_path / "model")
    assert registry.put_bytes(b"weights" * 300_000) == first
    assert list(open_store(place.blobs).stored()) == [first]


def test_no_bytes_are_bytes_too(registry: Registry, tmp_path: Path) -> None:
    manifest = manifest_of(registry, {"@/model.onnx": b"", "labels.txt": b""})
    registry.register(NewVersion("empty", manifest, "onnx"), actor="ada", why="edge")
    models = registry.materialise(["empty"], tmp_path / "models")
    assert files_below(models) == {"empty/1/model.onnx": b"", "empty/labels.txt": b""}


def test_versions_are_laid_out_as_a_triton_repository(registry: Registry, tmp_path: Path) -> None:
    register(registry, content=b"1" * 3_000_000)
    register(registry, content=b"2")
    register(registry, "other")
    models = registry.materialise(["fraud:1", "fraud:2", "other"], tmp_path / "models")
    assert files_below(models) == {
        "fraud/config.pbtxt": b"x",
        "fraud/1/model.onnx": b"1" * 3_000_000,
        "fraud/2/model.onnx": b"2",
        "other/config.pbtxt": b"x",
        "other/1/model.onnx": b"weights",
    }
    with pytest.raises(AlreadyExists):
        registry.materialise(["fraud:1"], tmp_path / "models")


def test_versions_that_would_share_a_file_must_agree_on_it(registry: Registry, tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        manifest = manifest_of(registry, {"@/model.onnx": b"same", "config.pbtxt": content})
        registry.register(NewVersion("fraud", manifest, "onnx"), actor="ada", why="go")
    with pytest.raises(FilesDisagree, match=r"fraud:2 and fraud:1 differ in config\.pbtxt"):
        registry.materialise(["fraud:1", "fraud:2"], tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_damaged_blob_is_never_handed_out(registry: Registry, place: Place, tmp_path: Path) -> None:
    version = register(registry, content=b"weights")
    damage(place, version.manifest.files[0].sha256)
    with pytest.raises(DataLoss, match=version.manifest.files[0].sha256):
        registry.materialise(["fraud:1"], tmp_path / "models")
    assert list(tmp_path.glob("**/*model.onnx")) == []
    (found,) = registry.verify_blobs().damaged
    assert (found.blob.sha256, found.used_by) == (version.manifest.files[0].sha256, ("fraud:1",))


def test_a_blob_that_is_gone_is_said_so_and_healed_by_putting_it_again(
    registry: Registry, place: Place, tmp_path: Path
) -> None:
    version = register(registry, content=b"weights")
    open_store(place.blobs).delete(version.manifest.files[0].sha256)
    with pytest.raises(DataLoss, match="is gone"):
        registry.materialise(["fraud:1"], tmp_path / "models")
    registry.put_bytes(b"weights")
    assert files_below(registry.materialise(["fraud:1"], tmp_path / "models"))["fraud/1/model.onnx"] == b"weights"
    assert registry.verify_blobs().damaged == ()


def test_a_cached_repository_is_written_once_and_again_where_it_was_touched(registry: Registry, tmp_path: Path) -> None:
    register(registry)
    first = registry.cached(["fraud:1"], tmp_path / "cache")
    before = files_below(first)
    inode = (first / "fraud/1/model.onnx").stat().st_ino
    assert registry.cached(["fraud"], tmp_path / "cache") == first
    assert (first / "fraud/1/model.onnx").stat().st_ino == inode
    for path, content in (("fraud/1/model.onnx", b"WEIGHTS"), ("fraud/1/extra.py", b"")):
        (first / path).write_bytes(content)
        assert files_below(registry.cached(["fraud:1"], tmp_path / "cache")) == before


def damage(place: Place, sha256: str) -> None:
    """Flip its first byte; its size stays."""
    if place.blobs.startswith("memory://"):
        files, root = fsspec.core.url_to_fs(place.blobs)
        path = f"{root}/sha256/{sha256[:2]}/{sha256}"
        files.pipe_file(path, b"?" + files.cat_file(path)[1:])
    else:
        file = Path(place.blobs) / "sha256" / sha256[:2] / sha256
        file.chmod(0o644)
        file.write_bytes(b"?" + file.read_bytes()[1:])


# --- garbage ----------------------------------------------------------------------------------------------


def test_only_what_nobody_uses_and_nobody_touched_lately_is_collected(registry: Registry, place: Place) -> None:
    register(registry)
    old = registry.put_bytes(b"old")
    place.clock.advance(3600)
    registry.put_bytes(b"young")
    found = registry.collect_garbage(actor="ada", dry_run=True, grace_s=1800)
    assert (found.blobs, found.size) == ((old,), 3)
    assert len(list(open_store(place.blobs).stored())) == 4
    assert registry.collect_garbage(actor="ada", grace_s=1800).blobs == (old,)
    assert len(list(open_store(place.blobs).stored())) == 3
    assert registry.collect_garbage(actor="ada", grace_s=1800).blobs == ()
    assert registry.verify_blobs().damaged == ()
    assert registry.audit_log()[-1].payload == {"blobs": [old.sha256], "bytes": 3}


def test_a_blob_put_again_is_young_again(registry: Registry, place: Place) -> None:
    registry.put_bytes(b"old")
    place.clock.advance(3600)
    registry.put_bytes(b"old")
    assert registry.collect_garbage(actor="ada", grace_s=1800).blobs == ()


def test_much_garbage_goes_a_few_at_a_time(registry: Registry, place: Place) -> None:
    for number in range(40):
        registry.put_bytes(b"%d" % number)
    place.clock.advance(10)
    assert len(registry.collect_garbage(actor="ada", grace_s=5).blobs) == 40
    assert list(open_store(place.blobs).stored()) == []
    assert registry.verify_audit() == 3


def test_collected_bytes_must_be_put_again_to_be_used(registry: Registry, place: Place) -> None:
    manifest = manifest_of(registry, {"@/model.onnx": b"weights"})
    place.clock.advance(10)
    registry.collect_garbage(actor="ada", grace_s=5)
    with pytest.raises(BlobMissing):
        registry.register(NewVersion("fraud", manifest, "onnx"), actor="ada", why="late")
    assert register(registry).ref == "fraud:1"


def test_a_blob_that_came_past_the_registry_gets_its_time_too(registry: Registry, place: Place) -> None:
    with open_store(place.blobs).stage(lambda: io.BytesIO(b"stray")) as staged:
        staged.publish()
    first = registry.collect_garbage(actor="ada", grace_s=5)
    assert (first.blobs, first.unknown) == ((), 1)
    place.clock.advance(10)
    assert [blob.size for blob in registry.collect_garbage(actor="ada", grace_s=5).blobs] == [5]
