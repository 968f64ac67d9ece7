"""BatchRunner on real ONNX Runtime sessions: merging, poison, row checks, padding, chosen outputs."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support import onnx_models

from taxiway.core.errors import ModelFailed
from taxiway.core.ports import LoadedModel
from taxiway.core.requests import BatchResult, InferRequest, InputTensor
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime
from taxiway.server.execution import BatchRunner


class _Nobody:
    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        raise AssertionError("the runner answers nobody")

    def reject(self, request: InferRequest, error: Exception) -> None:
        raise AssertionError("the runner answers nobody")


def _request(*tensors: InputTensor, rows: int = 1, outputs: tuple[int, ...] | None = None) -> InferRequest:
    return InferRequest(inputs=list(tensors), rows=rows, responder=_Nobody(), arrived_ns=0, outputs=outputs)


def _floats(*rows: list[float]) -> InputTensor:
    return InputTensor(array("f", [value for row in rows for value in row]), (len(rows), len(rows[0])))


class _Recorder:
    """A loaded model that notes what it is given."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self.inputs, self.outputs = model.inputs, model.outputs
        self.seen: list[NDArray[Any]] = []

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        self.seen += feeds.values()
        return self._model.run(feeds, outputs)

    def close(self) -> None:
        self._model.close()


def _recording(tmp_path: Path, **options: Any) -> tuple[BatchRunner, list[NDArray[Any]]]:
    recorder = _Recorder(OnnxRuntime().load(onnx_models.doubler(tmp_path / "m.onnx"), OnnxOptions()))
    row = TensorSpec("x", Datatype.FP32, (2,))
    return BatchRunner(recorder, [row], [TensorSpec("y", Datatype.FP32, (2,))], batches=True, **options), recorder.seen


def _runner(build: Callable[[Path], Path], tmp_path: Path, **options: Any) -> BatchRunner:
    model = OnnxRuntime().load(build(tmp_path / "m.onnx"), OnnxOptions())
    row = [TensorSpec(spec.name, spec.datatype, spec.shape[1:]) for spec in model.inputs]
    out = [TensorSpec(spec.name, spec.datatype, spec.shape[1:]) for spec in model.outputs]
    return BatchRunner(model, row, out, batches=True, **options)


def test_rows_of_several_requests_are_merged_in_order(tmp_path: Path) -> None:
    runner = _runner(onnx_models.doubler, tmp_path)
    batch = [_request(_floats([1, 2])), _request(_floats([3, 4], [5, 6]), rows=2), _request(_floats([7, 8]))]
    outcome = runner.run(batch)
    assert outcome.result is not None
    assert outcome.result.rows == 4
    np.testing.assert_array_equal(outcome.result.arrays[0], [[2, 4], [6, 8], [10, 12], [14, 16]])
    assert outcome.started_ns <= outcome.finished_ns
    assert outcome.infer_ns > 0


def test_a_request_alone_is_not_copied(tmp_path: Path) -> None:
    runner, seen = _recording(tmp_path)
    data = np.arange(4, dtype=np.float32)
    runner.run([_request(InputTensor(memoryview(data.data).cast("B"), (2, 2)), rows=2)])
    assert np.shares_memory(seen[0], data)


def test_a_misaligned_tensor_is_copied_not_crashed_on(tmp_path: Path) -> None:
    raw = b"\0" + np.asarray([1, 2], np.float32).tobytes()
    outcome = _runner(onnx_models.doubler, tmp_path).run([_request(InputTensor(memoryview(raw)[1:], (1, 2)))])
    assert outcome.result is not None
    assert outcome.result.arrays[0].tolist() == [[2, 4]]


def test_a_poisoned_request_fails_alone(tmp_path: Path) -> None:
    runner = _runner(onnx_models.poisonable, tmp_path)
    batch = [_request(InputTensor(array("q", [index]), (1, 1))) for index in (3, 99, 4)]
    outcome = runner.run(batch)
    assert outcome.result is None
    assert outcome.parts is not None
    good, bad, fine = outcome.parts
    assert good.result is not None
    assert good.result.arrays[0].tolist() == [[30]]
    assert isinstance(bad.error, ModelFailed)
    assert fine.result is not None
    assert fine.result.arrays[0].tolist() == [[40]]


def test_an_output_without_a_row_for_each_row_is_a_failure_not_a_mix_up(tmp_path: Path) -> None:
    runner = _runner(onnx_models.row_eater, tmp_path)
    outcome = runner.run([_request(_floats([1, 2], [3, 4]), rows=2)])
    assert isinstance(outcome.error, ModelFailed)
    assert "batch of 2 rows" in outcome.error.message


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_fixed_batches_pad_and_cut(tmp_path: Path, rows: int) -> None:
    runner, seen = _recording(tmp_path, fixed_rows=4)
    outcome = runner.run([_request(_floats([float(n), 0.0])) for n in range(rows)])
    assert [array.shape for array in seen] == [(4, 2)]
    assert outcome.result is not None
    np.testing.assert_array_equal(outcome.result.arrays[0], [[2.0 * n, 0.0] for n in range(rows)])


def test_only_outputs_that_somebody_asked_for_are_computed(tmp_path: Path) -> None:
    runner = _runner(onnx_models.two_outputs, tmp_path)
    request = _request(_floats([5, 6]), _floats([1, 2]), outputs=(1,))
    outcome = runner.run([request])
    assert outcome.result is not None
    assert [given is None for given in outcome.result.arrays] == [True, False]
    assert outcome.result.arrays[1].tolist() == [[4, 4]]
    both = runner.run([request, _request(_floats([5, 6]), _floats([1, 2]), outputs=None)])
    assert both.result is not None
    assert both.result.arrays[0].tolist() == [[6, 8], [6, 8]]


def test_texts_travel_as_bytes(tmp_path: Path) -> None:
    runner = _runner(onnx_models.echo_texts, tmp_path)
    batch = [_request(InputTensor(["héllo".encode()], (1, 1))), _request(InputTensor([b""], (1, 1)))]
    outcome = runner.run(batch)
    assert outcome.result is not None
    assert outcome.result.arrays[0].tolist() == [["héllo".encode()], [b""]]


def test_text_that_is_not_utf8_fails_its_request_alone(tmp_path: Path) -> None:
    runner = _runner(onnx_models.echo_texts, tmp_path)
    batch = [_request(InputTensor([b"\xff"], (1, 1))), _request(InputTensor([b"ok"], (1, 1)))]
    outcome = runner.run(batch)
    assert outcome.parts is not None
    assert isinstance(outcome.parts[0].error, ModelFailed)
    assert outcome.parts[1].result is not None


def test_a_fixed_batch_cuts_a_larger_request_into_runs_of_that_many_rows(tmp_path: Path) -> None:
    runner, seen = _recording(tmp_path, fixed_rows=4)
    outcome = runner.run([_request(_floats(*[[float(n), 1.0] for n in range(10)]), rows=10)])
    assert [array.shape for array in seen] == [(4, 2)] * 3
    assert outcome.result is not None
    assert outcome.result.rows == 10
    np.testing.assert_array_equal(outcome.result.arrays[0], [[2.0 * n, 2.0] for n in range(10)])


def test_one_poisoned_request_costs_few_runs_and_keeps_the_order(tmp_path: Path) -> None:
    recorder = _Recorder(OnnxRuntime().load(onnx_models.poisonable(tmp_path / "m.onnx"), OnnxOptions()))
    specs = [
        [TensorSpec(t.name, t.datatype, t.shape[1:]) for t in side] for side in (recorder.inputs, recorder.outputs)
    ]
    runner = BatchRunner(recorder, specs[0], specs[1], batches=True)
    values = [99 if index == 21 else index % 9 for index in range(64)]
    outcome = runner.run([_request(InputTensor(array("q", [value]), (1, 1))) for value in values])
    assert outcome.parts is not None
    assert len(recorder.seen) <= 1 + 2 * 6
    assert [part.result is None for part in outcome.parts] == [value == 99 for value in values]
    told = [part.result.arrays[0].tolist() for part in outcome.parts if part.result is not None]
    assert told == [[[10 * value]] for value in values if value != 99]


def test_the_parts_of_a_half_keep_their_rows_and_their_chosen_outputs(tmp_path: Path) -> None:
    runner = _runner(onnx_models.poisonable, tmp_path)
    sizes = [2, 1, 3, 1]
    values = [[1, 2], [3], [4, 5, 6], [99]]
    outcome = runner.run(
        [_request(InputTensor(array("q", v), (n, 1)), rows=n) for n, v in zip(sizes, values, strict=True)]
    )
    assert outcome.parts is not None
    results = [part.result for part in outcome.parts]
    assert [result and result.rows for result in results] == [2, 1, 3, None]
    assert [result and result.arrays[0].ravel().tolist() for result in results] == [[10, 20], [30], [40, 50, 60], None]
