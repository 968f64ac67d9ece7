"""Everything that taxiway keeps comes back from one file: on each database, and from each to each other."""

from __future__ import annotations

import itertools
import shutil
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.journals import STAGED, assert_sound, evidence, happen, lead, live, of, process, score, start
from tests.support.registries import register
from tests.support.stores import KINDS, ONGOING, NewStore, Store, fill, fill_otherwise, new_store

from taxiway.control import backup as everything
from taxiway.core.errors import (
    AlreadyExists,
    AuditBroken,
    DataLoss,
    InvalidArgument,
    JournalBroken,
    NotFound,
    NotLeader,
    RegistryBusy,
    SchemaTooNew,
    TaxiwayError,
)
from taxiway.registry import database
from taxiway.rollout import commands as ask
from taxiway.rollout import journal_migrations
from taxiway.rollout.journal import Journal
from taxiway.rollout.nouns import Evidence, Phase


@pytest.fixture
def new(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    return lambda kind: new_store(kind, tmp_path, lambda: request.getfixturevalue("postgres"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(new: NewStore, kind: str) -> Store:
    made = new(kind)
    fill(made)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup.tar"


# --- there and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", KINDS)
def test_everything_comes_back(store: Store, new: NewStore, to: str, tmp_path: Path, file: Path) -> None:
    there = new(to)
    said = everything.back_up(file, store.places)
    assert everything.verify(file) == said
    assert everything.restore(file, there.places, "bob") == said
    assert there.tables() == store.tables()
    there.assert_sound()
    with there.registry() as registry, store.registry() as before:
        assert registry.audit_log()[:-1] == before.audit_log()
        assert registry.audit_log()[-1].kind == "registry-restored"
        assert (
            b"".join(registry._store.chunks(registry.resolve("fraud:2").manifest.files[0].sha256)) == b"2" * 2_000_000
        )


def test_the_same_is_written_as_the_same_whatever_the_database(new: NewStore, tmp_path: Path) -> None:
    first = new("sqlite")
    fill(first)
    everything.back_up(tmp_path / "first", first.places)
    second = new("postgresql")
    everything.restore(tmp_path / "first", second.places, "bob")
    everything.back_up(tmp_path / "second", second.places)
    restored = {"registry/audit.jsonl", "registry/head.jsonl", "journal/lease.jsonl"}
    for part in sorted((tmp_path / "first").glob("*/*")):
        there = part.relative_to(tmp_path / "first")
        if str(there) not in restored:
            assert (tmp_path / "second" / there).read_bytes() == part.read_bytes(), there


def test_a_rollout_goes_on_where_it_was(store: Store, new: NewStore, kind: str, file: Path) -> None:
    everything.back_up(file, store.places)
    there = new(kind)
    everything.restore(file, there.places, "bob")
    with there.journal() as journal:
        assert journal.lease.leader() is None
        assert journal.working(ONGOING, Evidence) == evidence(7)
        leader = lead(journal)
        now = happen(journal, leader, ONGOING, ask.Promote(reason="go", full=True))
        assert now.phase is Phase.PROMOTE
        assert_sound(journal)


def test_a_backup_is_for_its_owner_only(store: Store, tmp_path: Path) -> None:
    for name in ("backup.tar", "backup"):
        everything.back_up(tmp_path / name, store.places)
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    with pytest.raises(AlreadyExists, match="there already"):
        everything.back_up(tmp_path / "backup", store.places)


# --- while others write --------------------------------------------------------------------------------


def test_what_is_written_meanwhile_is_in_it_whole_or_not_at_all(
    store: Store, new: NewStore, kind: str, tmp_path: Path
) -> None:
    over, progress = threading.Event(), threading.Semaphore(0)
    threads = [threading.Thread(target=one, args=(store, over, progress)) for one in (_write_versions, _write_rollouts)]
    for thread in threads:
        thread.start()
    try:
        heads = []
        for number in range(5):
            progress.acquire()  # somebody wrote since
            said = everything.back_up(tmp_path / f"{number}.tar", store.places)["databases"]
            heads.append((said["registry"]["seq"], said["journal"]["seq"]))
            assert everything.verify(tmp_path / f"{number}.tar")["databases"] == said
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert heads == sorted(heads)
    assert heads[0] < heads[-1]
    there = new(kind)
    everything.restore(tmp_path / "4.tar", there.places, "bob")
    there.assert_sound()
    assert there.heads() == (heads[-1][0] + 1, heads[-1][1])


def _write_versions(store: Store, over: threading.Event, progress: threading.Semaphore) -> None:
    with store.registry() as registry:
        for number in itertools.count(10):
            if over.is_set():
                return
            register(registry, content=b"%d" % number)
            registry.collect_garbage(actor="eve", grace_s=0)
            progress.release()


def _write_rollouts(store: Store, over: threading.Event, progress: threading.Semaphore) -> None:
    with store.journal() as journal:
        leader = lead(journal)
        for number in itertools.count(10):
            if over.is_set():
                return
            live(journal, leader, f"r-{number}", lambda _: None)
            progress.release()


def test_a_control_process_that_leads_does_not_mind_a_backup(store: Store, file: Path) -> None:
    with store.journal() as journal:
        leader = lead(journal)
        everything.back_up(file, store.places)
        assert journal.lease.renew(leader)
        happen(journal, leader, ONGOING, ask.Pause())


# --- what is there already -----------------------------------------------------------------------------


def test_what_is_there_is_replaced_only_if_that_is_said(store: Store, new: NewStore, kind: str, file: Path) -> None:
    everything.back_up(file, store.places)
    there = new(kind)
    fill_otherwise(there)
    before = there.tables()
    with pytest.raises(AlreadyExists, match=r"not empty \(.*: 1.*\)") as refused:
        everything.restore(file, there.places, "bob")
    assert "--replace" in refused.value.hint
    assert there.tables() == before
    everything.restore(file, there.places, "bob", replace=True)
    assert there.tables() == store.tables()
    there.assert_sound()
    with there.registry() as registry:
        assert registry.audit_log()[-1].payload["replaced"] == "models: 1, versions: 1, audit entries: 2"
        assert registry.collect_garbage(actor="bob", grace_s=0).unknown > 0, "what the other life had stored"
        assert registry.verify_blobs().damaged == ()


def test_nothing_is_restored_while_a_control_process_leads(store: Store, file: Path) -> None:
    everything.back_up(file, store.places)
    before = store.tables()
    with store.journal() as journal:
        leader = lead(journal)
        with pytest.raises(NotLeader, match="leads the rollouts") as refused:
            everything.restore(file, store.places, "bob", replace=True)
        assert "taxiway serve" in refused.value.hint
        assert journal.lease.renew(leader)
        journal.lease.give_back(leader)
    assert store.tables() == before


def test_nothing_is_restored_while_a_process_elsewhere_may_lead(store: Store, file: Path) -> None:
    everything.back_up(file, store.places)
    with Journal.open(store.places.journal, lease_s=0.3) as journal:
        assert journal.lease.take(process("far away")) is not None
    with pytest.raises(NotLeader, match="far away"):
        everything.restore(file, store.places, "bob", replace=True)
    store.sql(store.places.journal, "UPDATE taxiway_rollout_lease SET expires_at_ns = 1")
    everything.restore(file, store.places, "bob", replace=True)


def test_who_led_before_a_restore_cannot_write_after_it(store: Store, file: Path) -> None:
    with store.journal() as journal:
        leader = lead(journal)
        everything.back_up(file, store.places)
        for _ in range(3):
            journal.lease.give_back(leader)
            leader = lead(journal)
        store.sql(store.places.journal, "UPDATE taxiway_rollout_lease SET machine = 'elsewhere', expires_at_ns = 1")
        journal.close()
        everything.restore(file, store.places, "bob", replace=True)
        assert not journal.lease.renew(leader)
        for attempt in (
            lambda: happen(journal, leader, ONGOING, ask.Pause()),
            lambda: journal.keep_working(leader, ONGOING, evidence()),
            lambda: start(journal, leader, of("r-new", "new")),
        ):
            with pytest.raises(NotLeader):
                attempt()
        after = lead(journal)
        assert after.fencing > leader.fencing
        assert happen(journal, after, ONGOING, ask.Pause()).paused
        assert_sound(journal)


def test_files_that_somebody_has_open_are_not_exchanged(
    new: NewStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.2)
    store = new("sqlite")
    fill(store)
    everything.back_up(file, store.places)
    before = store.tables()
    with store.journal() as journal:
        assert journal.services()
        with pytest.raises(RegistryBusy):
            everything.restore(file, store.places, "bob", replace=True)
        assert journal.services()
    assert store.tables() == before
    everything.restore(file, store.places, "bob", replace=True)
    assert store.tables() == before


# --- what is not there ---------------------------------------------------------------------------------


def test_nothing_is_made_of_what_was_not_there(new: NewStore, tmp_path: Path, file: Path) -> None:
    store, there = new("sqlite"), new("sqlite")
    with pytest.raises(NotFound, match="neither a registry"):
        everything.back_up(file, store.places)
    assert list(tmp_path.iterdir()) == []
    with store.registry() as registry:
        register(registry)
    said = everything.back_up(file, store.places)
    assert said["databases"]["journal"]["schema"] == 0
    everything.restore(file, there.places, "bob")
    assert not Path(there.places.journal.removeprefix("sqlite:///")).exists()
    with there.registry() as registry:
        assert registry.resolve("fraud").number == 1


def test_what_was_not_there_is_not_there_afterwards(new: NewStore, kind: str, file: Path) -> None:
    store, there = new("sqlite"), new(kind)
    with store.registry() as registry:
        register(registry)
    everything.back_up(file, store.places)
    fill(there)
    everything.restore(file, there.places, "bob", replace=True)
    with there.journal() as journal:
        assert journal.services() == []
        assert journal.history() == []
        assert lead(journal).fencing > 1
    there.assert_sound()


def test_a_journal_alone_is_restored(new: NewStore, file: Path) -> None:
    store, there = new("sqlite"), new("sqlite")
    with store.journal() as journal:
        start(journal, lead(journal), of("r-1"), *STAGED)
    everything.back_up(file, store.places)
    everything.restore(file, there.places, "bob")
    assert not Path(there.places.registry.removeprefix("sqlite:///")).exists()
    with there.journal() as journal:
        assert journal.rollout("r-1").phase is Phase.STEP


def test_an_earlier_schema_is_brought_up(new: NewStore, kind: str, file: Path) -> None:
    store, there = new(kind), new("sqlite")
    with store.registry() as registry, store.journal() as journal:
        register(registry)
        start(journal, lead(journal), of("r-1"), *STAGED)
    for name in ("answer", "feedback", "score"):
        store.sql(store.places.journal, f"DROP TABLE taxiway_rollout_{name}")
    store.sql(store.places.journal, "DELETE FROM taxiway_rollout_migration WHERE number > 1")
    said = everything.back_up(file, store.places)
    assert said["databases"]["journal"]["schema"] == 1 < journal_migrations.LATEST
    everything.restore(file, there.places, "bob")
    with there.journal() as journal:
        score(journal, lead(journal), "r-1")
    there.assert_sound()


# --- what is no backup ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    store = new_store("sqlite", folder, _no_cluster)
    fill(store)
    everything.back_up(folder / "backup.tar", store.places)
    everything.back_up(folder / "backup", store.places)
    return folder


def _no_cluster() -> Any:
    raise AssertionError("no PostgreSQL is needed")


def test_a_tar_that_is_cut_off_anywhere_is_refused(whole: Path, tmp_path: Path, new: NewStore) -> None:
    data = (whole / "backup.tar").read_bytes()
    there = new("sqlite")
    with tarfile.open(whole / "backup.tar") as tar:
        ends = [member.offset for member in tar]
    lengths = {0, 100, len(data) // 2, len(data) * 9 // 10, *ends[1:], *(end + 700 for end in ends)}
    for length in sorted(lengths):
        (tmp_path / "cut.tar").write_bytes(data[:length])
        with pytest.raises((InvalidArgument, DataLoss)):
            everything.verify(tmp_path / "cut.tar")
    with pytest.raises((InvalidArgument, DataLoss)):
        everything.restore(tmp_path / "cut.tar", there.places, "bob")
    assert not Path(there.places.registry.removeprefix("sqlite:///")).exists()


def test_a_byte_that_was_changed_is_found(whole: Path, tmp_path: Path) -> None:
    """In every part, once in its middle: nothing in it is believed."""
    parts = [path.relative_to(whole / "backup") for path in (whole / "backup").glob("*/*") if path.stat().st_size]
    assert len(parts) > 10
    for part in parts:
        shutil.rmtree(tmp_path / "backup", ignore_errors=True)
        shutil.copytree(whole / "backup", tmp_path / "backup")
        data = bytearray((tmp_path / "backup" / part).read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "backup" / part).write_bytes(data)
        with pytest.raises(DataLoss):
            everything.verify(tmp_path / "backup")


def _add(tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    tar.addfile(member)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tar: _add(tar, "../outside"),
        lambda tar: _add(tar, "/outside"),
        lambda tar: _add(tar, "registry/../../outside"),
        lambda tar: _add(tar, "registry/../registry/model.jsonl"),
        lambda tar: _add(tar, "blobs/link", tarfile.SYMTYPE, "/etc/passwd"),
        lambda tar: _add(tar, "blobs/link", tarfile.LNKTYPE, "backup.json"),
        lambda tar: _add(tar, "blobs/pipe", tarfile.FIFOTYPE),
        lambda tar: _add(tar, "blobs/../../outside"),
        lambda tar: _add(tar, "registry/model.jsonl"),
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(
    whole: Path, tmp_path: Path, spoil: Callable[[tarfile.TarFile], None]
) -> None:
    shutil.copy(whole / "backup.tar", tmp_path / "odd.tar")
    with tarfile.open(tmp_path / "odd.tar", "a:") as tar:
        spoil(tar)
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises((InvalidArgument, DataLoss)):
        everything.verify(tmp_path / "odd.tar")
    assert sorted(tmp_path.parent.rglob("*")) == before


def _rewritten(whole: Path, tmp_path: Path, change: Callable[[str], str]) -> Path:
    """A backup whose header somebody changed by hand."""
    shutil.copytree(whole / "backup", tmp_path / "backup")
    header = tmp_path / "backup/backup.json"
    header.write_text(change(header.read_text()))
    return tmp_path / "backup"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda text: text.replace('"model":', '"../../outside":'), InvalidArgument),
        (lambda text: text.replace('"registry":', '"../outside":'), InvalidArgument),
        (lambda text: text.replace('"format":1', '"format":2'), InvalidArgument),
        (lambda text: text.replace('"schema":2', '"schema":99'), SchemaTooNew),
        (lambda text: text.replace('"schema":2', '"schema":1'), DataLoss),
        (lambda text: text.replace('"schema":2', '"schema":"2"'), DataLoss),
        (lambda text: text.replace('"schema":2', '"schema":-1'), DataLoss),
        (lambda text: text.replace('"schema":2', '"schema":0'), DataLoss),
        (lambda text: text.replace('"seq":', '"seq":1'), DataLoss),
        (lambda _: "[]", InvalidArgument),
        (lambda _: '{"format":1}', DataLoss),
        (lambda _: "{" * 100_000, InvalidArgument),
    ],
)
def test_a_header_that_somebody_changed_is_refused(
    whole: Path, tmp_path: Path, change: Callable[[str], str], error: type[TaxiwayError]
) -> None:
    with pytest.raises(error):
        everything.verify(_rewritten(whole, tmp_path, change))


@pytest.mark.parametrize("what", ["nothing", "a directory", "a text", "a model"])
def test_what_is_no_backup_is_told_so(tmp_path: Path, what: str) -> None:
    path = tmp_path / "backup.tar"
    if what == "a directory":
        path.mkdir()
    elif what != "nothing":
        path.write_bytes(b"hello" if what == "a text" else b"\0" * 20_000)
    with pytest.raises(NotFound if what == "nothing" else InvalidArgument):
        everything.verify(path)


@pytest.mark.parametrize(
    ("where", "harm", "error"),
    [
        ("journal", "UPDATE taxiway_rollout_event SET actor = 'eve' WHERE seq = 2", JournalBroken),
        ("journal", "UPDATE taxiway_rollout_state SET phase = 'succeeded'", JournalBroken),
        ("registry", "UPDATE taxiway_audit SET actor = 'eve' WHERE seq = 2", AuditBroken),
        ("registry", "UPDATE taxiway_alias SET number = 2", AuditBroken),
    ],
)
def test_a_chain_that_was_broken_before_it_was_backed_up_is_told(
    new: NewStore, file: Path, where: str, harm: str, error: type[TaxiwayError]
) -> None:
    store = new("sqlite")
    fill(store)
    store.sql(store.places.journal if where == "journal" else store.places.registry, harm)
    everything.back_up(file, store.places)
    with pytest.raises(error, match=r"backup\.tar: "):
        everything.verify(file)


def test_a_file_of_the_registry_that_is_damaged_is_not_backed_up_as_if_it_were_whole(new: NewStore, file: Path) -> None:
    store = new("sqlite")
    fill(store)
    blob = next(Path(store.places.blobs).rglob("sha256/*/*"))
    blob.chmod(0o644)
    blob.write_bytes(b"?" * blob.stat().st_size)
    with pytest.raises(DataLoss, match="damaged"):
        everything.back_up(file, store.places)
    assert not file.exists()


def test_a_file_that_was_damaged_since_is_put_right(store: Store, file: Path) -> None:
    everything.back_up(file, store.places)
    for blob in Path(store.places.blobs).rglob("sha256/*/*"):
        blob.chmod(0o644)
        blob.write_bytes(b"?" * blob.stat().st_size)
    everything.restore(file, store.places, "bob", replace=True)
    store.assert_sound()
