"""The registry of shared memory, and reading and writing it while its owner misbehaves."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taxiway.core.errors import AlreadyExists, InvalidArgument, NotFound, Overloaded, TooLarge, Unsupported
from taxiway.server.shared_memory import FOLDER, NO_REGIONS, SystemRegions

MakeKey = Callable[[int], str]
LIMIT = 4096


@pytest.fixture
def key() -> Iterator[MakeKey]:
    """Makes a file of so many bytes (each its place, modulo 251) and gives its key."""
    made: list[Path] = []

    def make(size: int) -> str:
        path = Path(FOLDER, f"test-{uuid.uuid4().hex}")
        path.write_bytes(bytes(place % 251 for place in range(size)))
        made.append(path)
        return f"/{path.name}"

    yield make
    for path in made:
        path.unlink(missing_ok=True)


@pytest.fixture
def regions() -> SystemRegions:
    return SystemRegions(max_regions=3, max_input_bytes=LIMIT)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_region_is_read_and_written_where_it_was_registered(regions: SystemRegions, key: MakeKey) -> None:
    where = key(100)
    regions.register("r", where, 10, 50)
    assert bytes(regions.read("r", 5, 4)) == bytes([15, 16, 17, 18])
    regions.find("r", 40, 10).write("y", b"abc")
    content = Path(FOLDER + where).read_bytes()
    assert content[50:53] == b"abc"
    assert len(content) == 100
    assert regions.status(None) == regions.status("r") == [{"name": "r", "key": where, "offset": 10, "byte_size": 50}]


def test_what_is_read_is_a_copy(regions: SystemRegions, key: MakeKey) -> None:
    where = key(10)
    regions.register("r", where, 0, 10)
    before = regions.read("r", 0, 4)
    Path(FOLDER + where).write_bytes(b"\xff" * 10)
    assert bytes(before) == bytes([0, 1, 2, 3])


def test_names_are_taken_once_and_are_bounded(regions: SystemRegions, key: MakeKey) -> None:
    where = key(10)
    for name in ("a", "b", "c"):
        regions.register(name, where.lstrip("/"), 0, 10)
    with pytest.raises(AlreadyExists, match="shared memory region 'a' already in manager"):
        regions.register("a", where, 0, 10)
    with pytest.raises(Overloaded, match=r"shared_memory\.max_regions"):
        regions.register("d", where, 0, 10)
    regions.unregister("b")
    regions.unregister("b")
    with pytest.raises(InvalidArgument, match="1024"):
        regions.register("n" * 1025, where, 0, 10)
    regions.register("d", where, 0, 10)
    regions.unregister(None)
    assert regions.status(None) == []
    with pytest.raises(NotFound, match="Unable to find system shared memory region: 'd'"):
        regions.status("d")


@pytest.mark.parametrize(
    "bad",
    ["", "/", "..", "/..", ".", "/../etc/passwd", "a/b", "//etc/passwd", "nosuch-at-all", "x\0y", "x" * 256, "ü" * 200],
)
def test_a_key_is_a_file_right_in_dev_shm(regions: SystemRegions, bad: str) -> None:
    with pytest.raises(InvalidArgument, match="Unable to open shared memory region"):
        regions.register("r", bad, 0, 1)


def test_reserved_keys_links_and_what_is_no_file_are_refused(
    regions: SystemRegions, key: MakeKey, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    name = key(0)
    place = Path(FOLDER + name)
    makers: list[Callable[[], None]] = [lambda: place.symlink_to(secret), lambda: os.mkfifo(place), place.mkdir]
    for make in makers:
        place.unlink(missing_ok=True)
        make()
        with pytest.raises(InvalidArgument, match="Unable to open"):
            regions.register("r", name, 0, 1)
    place.rmdir()
    with pytest.raises(InvalidArgument, match="reserved prefix"):
        regions.register("r", "/triton_python_backend_shm_region_1", 0, 1)


@pytest.mark.parametrize(
    ("offset", "byte_size"),
    [(0, 0), (0, 101), (90, 11), (101, 1), (100, 1), (1 << 63, 1), ((1 << 64) - 1, 11), (0, (1 << 64) - 1)],
)
def test_a_region_lies_within_its_file(regions: SystemRegions, key: MakeKey, offset: int, byte_size: int) -> None:
    where, before = key(100), _open_files()
    with pytest.raises(InvalidArgument, match="failed to register shared memory region 'r': invalid args"):
        regions.register("r", where, offset, byte_size)
    assert _open_files() == before, "no file stays open"
    assert regions.status(None) == []


@pytest.mark.parametrize(
    ("offset", "byte_size", "message"),
    [
        (50, 1, "Invalid offset for"),
        ((1 << 64) - 8, 24, "Invalid offset for"),
        (0, 51, "Invalid offset . byte size for"),
        (49, 2, "Invalid offset . byte size for"),
        (0, 0, "Invalid offset . byte size for"),
        (1, (1 << 64) - 1, "Invalid offset . byte size for"),
    ],
)
def test_a_window_lies_within_its_region(
    regions: SystemRegions, key: MakeKey, offset: int, byte_size: int, message: str
) -> None:
    regions.register("r", key(100), 10, 50)
    with pytest.raises(InvalidArgument, match=message):
        regions.find("r", offset, byte_size)
    with pytest.raises(NotFound, match="Unable to find shared memory region: 'other'"):
        regions.find("other", 0, 1)


def test_a_large_input_is_refused_before_it_is_copied(regions: SystemRegions, key: MakeKey) -> None:
    regions.register("r", key(LIMIT + 1), 0, LIMIT + 1)
    with pytest.raises(TooLarge, match="4097 bytes"):
        regions.read("r", 0, LIMIT + 1)
    assert len(regions.read("r", 1, LIMIT)) == LIMIT


def test_a_region_cut_short_is_an_error_and_no_file_grows(regions: SystemRegions, key: MakeKey) -> None:
    where = key(100)
    regions.register("r", where, 0, 100)
    os.truncate(FOLDER + where, 40)
    with pytest.raises(InvalidArgument, match="shorter than when it was registered"):
        regions.read("r", 20, 40)
    with pytest.raises(InvalidArgument, match="shorter"):
        regions.find("r", 30, 20).write("y", b"x" * 20)
    assert Path(FOLDER + where).stat().st_size == 40
    assert len(regions.read("r", 0, 40)) == 40


def test_an_output_that_does_not_fit_is_not_written(regions: SystemRegions, key: MakeKey) -> None:
    where = key(100)
    regions.register("r", where, 0, 100)
    with pytest.raises(InvalidArgument, match=r"output 'y' \(20 bytes\) should be at least 24 bytes"):
        regions.find("r", 0, 20).write("y", b"x" * 24)
    assert Path(FOLDER + where).read_bytes()[:20] == bytes(range(20))


def test_who_still_needs_a_region_keeps_its_file_open(regions: SystemRegions, key: MakeKey) -> None:
    where, before = key(100), _open_files()
    regions.register("r", where, 0, 100)
    window = regions.find("r", 0, 10)
    regions.unregister("r")
    window.write("y", b"late")
    assert Path(FOLDER + where).read_bytes()[:4] == b"late"
    del window
    assert _open_files() == before


def test_reading_while_its_owner_truncates_gives_bytes_or_an_error(regions: SystemRegions, key: MakeKey) -> None:
    """Through a mapping this would end the test run with SIGBUS."""
    where, stop = key(LIMIT), threading.Event()
    Path(FOLDER + where).write_bytes(bytes(LIMIT))
    regions.register("r", where, 0, LIMIT)

    def misbehave() -> None:
        while not stop.is_set():
            os.truncate(FOLDER + where, 0)
            os.truncate(FOLDER + where, LIMIT)

    owner = threading.Thread(target=misbehave)
    owner.start()
    try:
        for _ in range(3000):
            with contextlib.suppress(InvalidArgument):
                regions.find("r", 0, LIMIT).write("y", bytes(LIMIT))
                assert set(regions.read("r", 0, LIMIT)) == {0}
    finally:
        stop.set()
        owner.join()


def test_off_means_off() -> None:
    uses: list[Callable[[], object]] = [
        lambda: NO_REGIONS.register("r", "k", 0, 1),
        lambda: NO_REGIONS.unregister(None),
        lambda: NO_REGIONS.status(None),
    ]
    for use in uses:
        with pytest.raises(Unsupported, match="Client shared memory is disabled"):
            use()
    with pytest.raises(NotFound, match="Unable to find shared memory region: 'r'"):
        NO_REGIONS.read("r", 0, 1)
    assert not list(NO_REGIONS.points())
