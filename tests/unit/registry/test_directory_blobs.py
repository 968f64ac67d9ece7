import os
from pathlib import Path

from taxiway.registry.stores import open_store


def test_what_a_killed_writer_left_half_written_is_swept_in_time(tmp_path: Path) -> None:
    left, young = tmp_path / "incoming/left", tmp_path / "incoming/young"
    store = open_store(str(tmp_path))
    for path in (left, young):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert (store.sweep(), left.exists(), young.exists()) == (1, False, True)
