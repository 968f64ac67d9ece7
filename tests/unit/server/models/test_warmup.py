"""Warm-up: what `model_warmup` says reaches the model in the shape its file takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support import onnx_models

from taxiway.config.autocomplete import Defaults, autocomplete
from taxiway.config.model_config import parse_pbtxt
from taxiway.config.model_spec import build_spec
from taxiway.core.errors import InvalidModel
from taxiway.runtimes.onnx import OnnxModel, OnnxOptions, OnnxRuntime
from taxiway.server.models.warmup import warm_up


class Recorder:
    """A real model that keeps what it was fed."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self.inputs, self.outputs = model.inputs, model.outputs
        self.fed: list[NDArray[Any]] = []

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        self.fed.append(feeds["x"])
        return self._model.run(feeds, outputs)

    def close(self) -> None:
        self._model.close()


def _warm(path: Path, warmup: str, more: str = "") -> list[NDArray[Any]]:
    model = Recorder(OnnxRuntime().load(path, OnnxOptions()))
    inputs = f'inputs {{ key: "x" value {{ {warmup} }} }}'
    text = f'max_batch_size: 8 {more} model_warmup {{ name: "w" {inputs} batch_size: 3 }}'
    config = autocomplete(parse_pbtxt(text, "test"), model.inputs, model.outputs, path.parent.name, defaults=Defaults())
    warm_up(model, build_spec(config, path.parent), 1)
    return model.fed


def _file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "data").write_bytes(content)


def _element(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


def test_a_reshape_is_applied(tmp_path: Path) -> None:
    path = onnx_models.doubler(tmp_path / "m.onnx")
    reshaped = 'input { name: "x" data_type: TYPE_FP32 dims: [1, 2] reshape { shape: [2] } }'
    (fed,) = _warm(path, "data_type: TYPE_FP32 dims: [1, 2] random_data: true", reshaped)
    assert fed.shape == (3, 2)
    assert fed.any()


def test_dims_that_do_not_reshape_are_refused(tmp_path: Path) -> None:
    path = onnx_models.doubler(tmp_path / "m.onnx")
    reshaped = 'input { name: "x" data_type: TYPE_FP32 dims: [1, 2] reshape { shape: [2] } }'
    with pytest.raises(InvalidModel, match=r"\[3\], which do not reshape to \[2\]"):
        _warm(path, "data_type: TYPE_FP32 dims: [3] zero_data: true", reshaped)


def test_a_file_holds_one_row_that_is_repeated(tmp_path: Path) -> None:
    _file(tmp_path, np.asarray([1, 2], "<f4").tobytes())
    path = onnx_models.doubler(tmp_path / "m.onnx")
    (fed,) = _warm(path, 'data_type: TYPE_FP32 dims: [2] input_data_file: "data"')
    assert fed.tolist() == [[1, 2]] * 3


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    _file(tmp_path, b"1234")
    path = onnx_models.doubler(tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match=r"has 4 bytes.*needs 8"):
        _warm(path, 'data_type: TYPE_FP32 dims: [2] input_data_file: "data"')


def test_random_texts_are_short_and_ascii(tmp_path: Path) -> None:
    (fed,) = _warm(onnx_models.echo_texts(tmp_path / "m.onnx"), "data_type: TYPE_STRING dims: [1] random_data: true")
    texts = fed.reshape(-1).tolist()
    assert len(texts) == 3
    assert all(text.decode("ascii").islower() for text in texts)


def test_texts_from_a_file(tmp_path: Path) -> None:
    _file(tmp_path, _element(b"h\xc3\xa9llo"))
    path = onnx_models.echo_texts(tmp_path / "m.onnx")
    (fed,) = _warm(path, 'data_type: TYPE_STRING dims: [1] input_data_file: "data"')
    assert fed.tolist() == [[b"h\xc3\xa9llo"]] * 3


@pytest.mark.parametrize("content", [b"", b"abc", _element(b"a") * 2, b"\x09\0\0\0abc", _element(b"a") + b"\0"])
def test_texts_in_a_file_that_is_damaged(tmp_path: Path, content: bytes) -> None:
    _file(tmp_path, content)
    path = onnx_models.echo_texts(tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match=r"warm-up file .*data holds"):
        _warm(path, 'data_type: TYPE_STRING dims: [1] input_data_file: "data"')


def test_without_model_warmup_zeros_are_run(tmp_path: Path) -> None:
    path = onnx_models.doubler(tmp_path / "m.onnx")
    model = Recorder(OnnxRuntime().load(path, OnnxOptions()))
    config = autocomplete(parse_pbtxt("max_batch_size: 8", "test"), model.inputs, model.outputs, "m")
    warm_up(model, build_spec(config, tmp_path), 2)
    assert [fed.tolist() for fed in model.fed] == [[[0, 0]]] * 2
