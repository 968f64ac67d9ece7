"""Loading: every version is judged by its own file, and only those that are served are opened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import onnx_models
from tests.support.engines import NoModels, batcher_of

from taxiway.config.settings import Settings
from taxiway.core.clock import SystemClock
from taxiway.core.errors import InvalidConfig, InvalidModel
from taxiway.runtimes.onnx import OnnxModel
from taxiway.server.models.host import Host
from taxiway.server.models.loading import ModelLoader
from taxiway.server.models.repository import find_models
from taxiway.server.models.served import ServedModel

Load = Callable[..., list[ServedModel]]


@pytest.fixture
def load() -> Iterator[Load]:
    loop = asyncio.new_event_loop()
    served: list[ServedModel] = []

    def load_one(path: Path, cpus: int = 4, **settings: Any) -> list[ServedModel]:
        (found,) = find_models([path])
        loader = ModelLoader(Settings.model_validate(settings), Host(loop, SystemClock(), cpus, NoModels()))
        prepared = loader.prepare(found)
        loaded = [loader.load(prepared, version, {}) for version in prepared.versions]
        served.extend(loaded)
        return loaded

    yield load_one
    for version in served:
        batcher_of(version).close()
        version.engine.close()
    loop.close()


def _config(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.pbtxt").write_text(text)
    return directory


def _events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


# --- versions ------------------------------------------------------------------------------------------


def test_each_version_has_the_signature_of_its_own_file(tmp_path: Path, load: Load) -> None:
    model = _config(tmp_path / "m", "version_policy { all {} }")
    onnx_models.two_outputs(model / "1" / "model.onnx")
    onnx_models.doubler(model / "2" / "model.onnx")
    first, second = load(model)
    assert [spec.name for spec in first.spec.inputs] == ["a", "b"]
    assert [spec.name for spec in second.spec.inputs] == ["x"]
    assert [item["name"] for item in first.config["input"]] == ["a", "b"]


def test_a_version_that_contradicts_the_configuration_is_named(tmp_path: Path, load: Load) -> None:
    text = 'version_policy { all {} } input { name: "x" data_type: TYPE_FP32 dims: [2] }'
    model = _config(tmp_path / "m", text)
    onnx_models.two_outputs(model / "1" / "model.onnx")
    onnx_models.doubler(model / "2" / "model.onnx")
    with pytest.raises(InvalidConfig, match=r"version 1.*no such input"):
        load(model)


@pytest.mark.parametrize(
    ("policy", "served"), [("specific { versions: [1] }", [1]), ("latest { num_versions: 1 }", [2])]
)
def test_a_version_that_is_not_served_may_be_broken(tmp_path: Path, load: Load, policy: str, served: list[int]) -> None:
    model = _config(tmp_path / "m", f"version_policy {{ {policy} }}")
    for version in (1, 2):
        path = model / str(version) / "model.onnx"
        if version in served:
            onnx_models.doubler(path)
        else:
            path.parent.mkdir(parents=True)
            path.write_bytes(b"broken")
    assert [loaded.version for loaded in load(model)] == served


def test_a_broken_version_that_is_served_is_refused(tmp_path: Path, load: Load) -> None:
    model = _config(tmp_path / "m", "version_policy { all {} }")
    onnx_models.doubler(model / "1" / "model.onnx")
    (model / "2").mkdir()
    (model / "2" / "model.onnx").write_bytes(b"broken")
    with pytest.raises(InvalidModel, match=r"2/model\.onnx"):
        load(model)


def test_a_policy_that_chooses_nothing_is_told(tmp_path: Path, load: Load) -> None:
    model = _config(tmp_path / "m", "version_policy { specific { versions: [7] } }")
    onnx_models.doubler(model / "1" / "model.onnx")
    with pytest.raises(InvalidModel, match=r"chooses none of its versions \[1\]"):
        load(model)


# --- the configuration's file --------------------------------------------------------------------------


def test_a_configuration_that_is_not_utf8_is_named(tmp_path: Path, load: Load) -> None:
    onnx_models.doubler(tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "config.pbtxt").write_bytes(b'name: "\xff"')
    with pytest.raises(InvalidConfig, match=r"config\.pbtxt of model 'm' cannot be read: is not UTF-8"):
        load(tmp_path / "m")


def test_a_configuration_that_cannot_be_read_is_named(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_models.doubler(_config(tmp_path / "m", "") / "1" / "model.onnx")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InvalidConfig, match=r"config\.pbtxt of model 'm' cannot be read: Permission denied"):
        load(tmp_path / "m")


# --- merging -------------------------------------------------------------------------------------------


def test_a_bare_file_whose_rows_mix_is_not_merged(tmp_path: Path, load: Load, caplog: pytest.LogCaptureFixture) -> None:
    (served,) = load(onnx_models.softmax_of_rows(tmp_path / "m.onnx"))
    assert batcher_of(served)._plan.merge_rows == 1
    assert batcher_of(served)._plan.max_rows > 1
    assert "requests_not_merged" in _events(caplog)


def test_a_bare_file_whose_rows_are_independent_is_merged(
    tmp_path: Path, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    (served,) = load(onnx_models.doubler(tmp_path / "m.onnx"), batching={"best_batch": 8})
    assert batcher_of(served)._plan.merge_rows == 8
    assert not _events(caplog)


def test_rows_that_cannot_be_tried_are_merged_and_told(
    tmp_path: Path, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (served,) = load(onnx_models.echo_texts(tmp_path / "m.onnx"), batching={"best_batch": 8})
    assert batcher_of(served)._plan.merge_rows == 8
    assert _events(caplog) == ["rows_not_tried"]


@pytest.mark.parametrize("text", ["max_batch_size: 8", "dynamic_batching {}"])
def test_who_asks_for_batches_is_believed(tmp_path: Path, load: Load, text: str) -> None:
    model = _config(tmp_path / "m", text)
    onnx_models.softmax_of_rows(model / "1" / "model.onnx")
    (served,) = load(model, batching={"best_batch": 8})
    assert batcher_of(served)._plan.merge_rows == 8


def test_what_was_loaded_is_closed_when_the_rest_of_it_fails(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(OnnxModel, "close", lambda _model: closed.append("model"))
    model = _config(tmp_path / "m", 'input { name: "other" data_type: TYPE_FP32 dims: [2] }')
    onnx_models.doubler(model / "1" / "model.onnx")
    with pytest.raises(InvalidConfig):
        load(model)
    assert closed == ["model"]
