"""What is backed up comes back, in whichever database and store."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.postgres import Cluster
from tests.support.registries import STORES, NewPlace, Place, manifest_of, register

from taxiway.core.errors import (
    AlreadyExists,
    AlreadyRegistered,
    DataLoss,
    InvalidArgument,
    SchemaTooNew,
    TaxiwayError,
)
from taxiway.registry import Registry

pytestmark = pytest.mark.parametrize("new_place", STORES, indirect=True)


def fill(registry: Registry, place: Place) -> None:
    """Some of everything."""
    for content in (b"1", b"2" * 2_000_000):
        register(registry, content=content, key=content[:1].decode())
        place.clock.advance(60)
    registry.add_variant("fraud:1-int8", manifest_of(registry, {"@/q": b"small"}), recipe={"q": 8}, actor="ada")
    registry.add_lineage("fraud:2", "trained-by", "mlflow:runs:/abc", actor="ci", facts={"seed": 7})
    registry.set_alias("fraud", "stable", 1, expect=None, actor="ada", why="go")
    registry.set_alias("fraud", "stable", 2, expect=1, actor="ada", why="better")
    registry.set_tag("fraud", 1, "owner", "zażółć", actor="ada")
    registry.put_bytes(b"nobody uses this")


@pytest.mark.parametrize("name", ["backup.tar", "backup"])
def test_a_backup_restores_everything(new_place: NewPlace, tmp_path: Path, name: str) -> None:
    here, there = new_place(), new_place()
    with here.open() as first:
        fill(first, here)
        header = first.backup(tmp_path / name)
        with Registry.restore(tmp_path / name, there.url, there.blobs, actor="bob", clock=there.clock) as second:
            assert second.audit_log()[:-1] == first.audit_log()
            assert second.audit_log()[-1].kind == "registry-restored"
            assert second.versions("fraud") == first.versions("fraud")
            assert second.why("fraud:1-int8") == first.why("fraud:1-int8")
            assert second.alias_history("fraud", "stable") == first.alias_history("fraud", "stable")
            assert second.verify_audit() == first.verify_audit() + 1
            report = second.verify_blobs()
            assert (report.blobs, report.size, report.damaged) == (header["blobs"], header["bytes"], ())
            with pytest.raises(AlreadyRegistered):
                register(second, content=b"1")
            assert register(second, content=b"1", key="1").ref == "fraud:1"
            assert register(second, content=b"3").ref == "fraud:3"


def test_a_backup_moves_between_databases(new_place: NewPlace, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    here = new_place()
    with here.open() as first:
        fill(first, here)
        first.backup(tmp_path / "one.tar")
        versions = first.versions("fraud")
    cluster: Cluster = request.getfixturevalue("postgres")
    other = f"sqlite:///{tmp_path}/other.db" if here.url.startswith("postgres") else cluster.new_schema()
    with Registry.restore(tmp_path / "one.tar", other, str(tmp_path / "others"), actor="ada") as second:
        assert second.versions("fraud") == versions
        assert second.verify_audit() > 0


def test_a_registry_that_is_not_empty_is_not_restored_into(registry: Registry, place: Place, tmp_path: Path) -> None:
    register(registry)
    registry.backup(tmp_path / "backup.tar")
    with pytest.raises(AlreadyExists, match="not empty"):
        Registry.restore(tmp_path / "backup.tar", place.url, place.blobs, actor="ada")
    with pytest.raises(AlreadyExists, match="there already"):
        registry.backup(tmp_path / "backup.tar")


@pytest.mark.parametrize("part", ["blob", "table", "lost blob", "lost table", "header", "later"])
def test_a_damaged_backup_restores_nothing(new_place: NewPlace, tmp_path: Path, part: str) -> None:
    here, there = new_place(), new_place()
    with here.open() as first:
        fill(first, here)
        first.backup(tmp_path / "backup")
    blobs = sorted((tmp_path / "backup/blobs").iterdir())
    harms: dict[str, Callable[[], object]] = {
        "blob": lambda: blobs[0].write_bytes(b"?" + blobs[0].read_bytes()[1:]),
        "table": lambda: (tmp_path / "backup/registry/alias.jsonl").write_bytes(b""),
        "lost blob": blobs[0].unlink,
        "lost table": (tmp_path / "backup/registry/tag.jsonl").unlink,
        "header": lambda: (tmp_path / "backup/backup.json").write_text("{"),
        "later": lambda: (tmp_path / "backup/backup.json").write_text(
            '{"format": 1, "blobs": 0, "databases": {"registry": {"schema": 999, "tables": {}}}}'
        ),
    }
    harms[part]()
    with pytest.raises(TaxiwayError) as caught:
        Registry.restore(tmp_path / "backup", there.url, there.blobs, actor="ada")
    assert type(caught.value) is {"header": InvalidArgument, "later": SchemaTooNew}.get(part, DataLoss)
    with there.open() as second:
        assert (second.models(), second.audit_log()) == ([], [])


def _no_tables(folder: Path, header: dict[str, Any]) -> None:
    del header["databases"]["registry"]["tables"]


def _broken_rows(folder: Path, header: dict[str, Any]) -> None:
    data = b'{"x\\"; DROP TABLE taxiway_model; --": 1}\n'
    (folder / "registry/tag.jsonl").write_bytes(data)
    header["databases"]["registry"]["tables"]["tag"] = {"rows": 1, "sha256": hashlib.sha256(data).hexdigest()}


def _no_json(folder: Path, header: dict[str, Any]) -> None:
    (folder / "registry/blob.jsonl").write_bytes(b"{\n")
    header["databases"]["registry"]["tables"]["blob"] = {"rows": 1, "sha256": hashlib.sha256(b"{\n").hexdigest()}


@pytest.mark.parametrize("spoil", [_no_tables, _broken_rows, _no_json])
def test_a_backup_made_by_hand_is_refused_in_a_sentence(
    spoil: Callable[[Path, dict[str, Any]], None], registry: Registry, new_place: NewPlace, tmp_path: Path
) -> None:
    register(registry, "fraud")
    registry.backup(tmp_path / "backup")
    header = json.loads((tmp_path / "backup/backup.json").read_text())
    spoil(tmp_path / "backup", header)
    (tmp_path / "backup/backup.json").write_text(json.dumps(header), encoding="utf-8")
    there = new_place()
    with pytest.raises(DataLoss):
        Registry.restore(tmp_path / "backup", there.url, there.blobs, actor="grace")
    with there.open() as empty:
        assert empty.models() == []
