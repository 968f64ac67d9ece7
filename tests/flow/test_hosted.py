"""Models in processes of their own, through the whole server: what reaches them, and what they answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton_http
from tests.flow.serving import Server, serve

from taxiway.core.errors import ExtraMissing, InvalidModel, TaxiwayError

CLASS = """
import numpy as np

class Everything:
    inputs = {"number": ("FP32", [-1, 3]), "text": ("BYTES", [-1, 1])}
    outputs = {"sum": ("FP64", [-1]), "upper": ("BYTES", [-1, 1]), "big": ("FP32", [-1, 100000])}

    def predict(self, number, text):
        return {
            "sum": number.sum(axis=1, dtype=np.float64),
            "upper": np.array([[row[0].upper()] for row in text], object),
            "big": np.repeat(number[:, :1], 100000, axis=1),
        }
"""
KEEPER = '''
class Keeper:
    """Keeps what it was given: its memory must not be given to others meanwhile."""
    inputs = {"x": ("INT32", [-1, 1000])}
    outputs = {"y": ("INT32", [-1, 1000])}

    def __init__(self):
        self.kept = []

    def predict(self, x):
        self.kept.append(x)
        return {"y": self.kept[0][: len(x)]}
'''
CAREFUL = """
class Careful:
    inputs = {"x": ("INT32", [-1, 1])}
    outputs = {"y": ("INT32", [-1, 1])}

    def predict(self, x):
        if (x < 0).any():
            raise ValueError(f"{x.min()} is below 0")
        return {"y": x.astype("float64")} if (x == 7).any() else {"y": x}
"""
COLLECTOR = """
import gc
import weakref

import numpy as np

class Ring:
    def __init__(self):
        self.me = self

class Collector:
    inputs = {"x": ("INT32", [-1, 1])}
    outputs = {"frozen": ("INT64", [-1]), "left": ("INT64", [-1])}

    def __init__(self):
        ring = Ring()
        self.old = weakref.ref(ring)

    def predict(self, x):
        gc.collect()
        return {
            "frozen": np.full(len(x), gc.get_freeze_count(), np.int64),
            "left": np.full(len(x), self.old() is not None, np.int64),
        }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    for name, code in (("everything", CLASS), ("keeper", KEEPER), ("careful", CAREFUL), ("collector", COLLECTOR)):
        file = folder / name / "1" / "predictor.py"
        file.parent.mkdir(parents=True)
        file.write_text(code)
    with serve(folder) as running:
        yield running


def _input(name: str, array: np.ndarray) -> triton_http.InferInput:
    datatype = {"f": "FP32", "O": "BYTES", "i": "INT32"}[array.dtype.kind]
    made = triton_http.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def test_every_kind_of_tensor_crosses_both_ways(server: Server) -> None:
    number = np.arange(6, dtype=np.float32).reshape(2, 3)
    text = np.array([[b"abc"], [b""]], object)
    with triton_http.InferenceServerClient(server.http.removeprefix("http://")) as client:
        result = client.infer("everything", [_input("number", number), _input("text", text)])
        assert result.as_numpy("sum").tolist() == [[3.0], [12.0]]  # dims [1], as its signature says
        assert result.as_numpy("upper").tolist() == [[b"ABC"], [b""]]
        big = result.as_numpy("big")
        assert big.shape == (2, 100_000)
        assert (big[0] == 0).all()
        assert (big[1] == 3).all()


def test_a_model_may_keep_what_it_was_given(server: Server) -> None:
    with triton_http.InferenceServerClient(server.http.removeprefix("http://")) as client:
        first = np.full((1, 1000), 5, np.int32)
        client.infer("keeper", [_input("x", first)])
        for value in range(20):
            result = client.infer("keeper", [_input("x", np.full((1, 1000), value, np.int32))])
            assert (result.as_numpy("y") == 5).all()


def test_garbage_is_looked_for_in_what_the_model_made_and_not_in_what_was_imported(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT32", "data": [1]}]}
    frozen, left = (one["data"][0] for one in server.ask("POST", "/v2/models/collector/infer", body).json()["outputs"])
    assert frozen > 10_000
    assert left == 0


def test_its_signature_is_what_the_class_says(server: Server) -> None:
    told = server.ask("GET", "/v2/models/everything").json()
    assert told["inputs"] == [
        {"name": "number", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "text", "datatype": "BYTES", "shape": [-1, 1]},
    ]
    assert told["platform"] == "class"


def test_what_it_raises_is_told_to_who_asked(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT32", "data": [-3]}]}
    answer = server.ask("POST", "/v2/models/careful/infer", body)
    assert (answer.status, answer.json()["code"]) == (500, "model-failed")
    assert "the model raised ValueError: -3 is below 0" in answer.json()["error"]


def test_an_output_of_another_datatype_than_declared_is_not_sent(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT32", "data": [7]}]}
    answer = server.ask("POST", "/v2/models/careful/infer", body)
    assert answer.status == 500
    assert "output 'y' of the model is an array of float64; its configuration says INT32" in answer.json()["error"]


def test_a_python_file_is_a_model_by_itself(tmp_path: Path) -> None:
    (tmp_path / "careful.py").write_text(CAREFUL)
    with serve(tmp_path / "careful.py") as server:
        body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT32", "data": [8]}]}
        assert server.ask("POST", "/v2/models/careful/infer", body).json()["outputs"][0]["data"] == [8]


def test_code_that_cannot_be_loaded_says_so_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    told = "raised ModuleNotFoundError while it was loaded"
    with pytest.raises(TaxiwayError, match=told) as refused, serve(tmp_path / "broken.py"):
        pass
    assert "--execution.python" in refused.value.hint


def test_a_class_that_tells_no_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text("class Silent:\n    def predict(self, x):\n        return x\n")
    with pytest.raises(InvalidModel, match=r"silent\.py tells no inputs and no outputs"), serve(tmp_path / "silent.py"):
        pass


@pytest.mark.parametrize(
    ("predict", "told"),
    [
        ("def predict(self, y):\n        return y", "has no argument called as its input 'x'"),
        ("async def predict(self, x):\n        return x", "is async or a generator"),
        ("def predict(self, x):\n        yield x", "is async or a generator"),
    ],
)
def test_a_class_that_would_fail_every_request_is_refused(predict: str, told: str, tmp_path: Path) -> None:
    tensors = 'inputs = outputs = {"x": ("FP32", [-1, 1])}'
    (tmp_path / "odd.py").write_text(f"class Odd:\n    {tensors}\n\n    {predict}\n", encoding="utf-8")
    with pytest.raises(InvalidModel, match=told), serve(tmp_path / "odd.py"):
        pass


def test_a_framework_that_is_not_installed_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of that name that cannot be imported stands before the real one, as if there were none."""
    (tmp_path / "xgboost.py").write_text("raise ModuleNotFoundError(name='xgboost')")
    (tmp_path / "model.ubj").write_bytes(b"{")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(ExtraMissing, match="needs xgboost") as refused, serve(tmp_path / "model.ubj"):
        pass
    assert "-m pip install xgboost" in refused.value.hint
