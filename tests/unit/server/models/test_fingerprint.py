"""Fingerprints: whatever a version is made of shows in its stamps, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from tests.support import onnx_models

from taxiway.server.models.fingerprint import stamp_model
from taxiway.server.models.repository import find_models


def _with_external_data(path: Path, location: str) -> Path:
    """A model whose only weights lie in a file beside it."""
    onnx_models.embedding(path, 4096)
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location=location, size_threshold=0)
    return path


def _touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def test_external_data_beside_a_single_file_counts(tmp_path: Path) -> None:
    path = _with_external_data(tmp_path / "m.onnx", "weights.bin")
    (tmp_path / "other.bin").write_bytes(b"x")
    (found,) = find_models([path])
    before = stamp_model(found)
    assert [Path(name).name for name, _, _ in before.versions[1]] == ["m.onnx", "weights.bin"]
    assert sum(size for _, size, _ in before.versions[1]) > 4 * 4096
    _touch(tmp_path / "other.bin")
    assert stamp_model(found) == before
    _touch(tmp_path / "weights.bin")
    assert stamp_model(found) != before


def test_a_location_is_found_wherever_the_file_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    padding = numpy_helper.from_array(np.zeros((1 << 18) - 60, np.float32), "padding").SerializeToString()
    for offset in range(0, 80, 7):
        path.write_bytes(padding[: (1 << 20) - offset] + b"\x0a\x08location\x12\x03w.b" + b"\0" * 100)
        (tmp_path / "w.b").write_bytes(b"x")
        (found,) = find_models([path])
        assert [Path(name).name for name, _, _ in stamp_model(found).versions[1]] == ["m.onnx", "w.b"]


def test_what_lies_elsewhere_is_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x0a\x08location\x12\x0b/etc/passwd\x0a\x08location\x12\xff")
    (found,) = find_models([path])
    assert len(stamp_model(found).versions[1]) == 1


def test_shared_files_count_for_every_version_and_hidden_ones_for_none(tmp_path: Path) -> None:
    model = tmp_path / "m"
    onnx_models.doubler(model / "1" / "model.onnx")
    onnx_models.doubler(model / "2" / "model.onnx")
    (model / "config.pbtxt").write_text("")
    (model / "labels.txt").write_text("a")
    (model / "warmup").mkdir()
    (model / "warmup" / "x").write_text("a")
    (found,) = find_models([model])
    before = stamp_model(found)
    assert [Path(name).name for name, _, _ in before.shared] == ["labels.txt", "x"]
    (model / ".swp").write_text("")
    assert stamp_model(found) == before
    _touch(model / "config.pbtxt")
    after = stamp_model(found)
    assert after.config != before.config
    assert after.versions == before.versions
    (model / "2" / "extra").write_text("a")
    assert stamp_model(found).versions[1] == before.versions[1]
    assert stamp_model(found).versions[2] != before.versions[2]
