"""Each form of torch's models answers over HTTP and gRPC what torch answers, which is in an environment of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as tritongrpc
from numpy.typing import NDArray
from tests.flow.serving import Server, serve
from tools.environments import EnvironmentUnavailable
from tools.torch_environment import ensure_torch

from taxiway.core.errors import TaxiwayError
from taxiway.intake.walk import Office, Wanted, import_models
from taxiway.registry.registry import Registry

MAKER = Path(__file__).parents[1] / "support" / "torch_models.py"
TEXTS = ["the cat sat on the mat", "a dog ran and it was not very good"]
MASKED = ["the [MASK] sat", "a dog [MASK] on the mat"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Arrays = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return ensure_torch()
    except EnvironmentUnavailable as problem:
        pytest.skip(f"torch cannot be had here: {problem}")


@pytest.fixture(scope="module")
def made(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    done = subprocess.run(
        [str(python), "-W", "ignore", str(MAKER), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def expected(made: Path) -> Any:
    return json.loads((made / "expected.json").read_text())


Ask = Callable[[str], Server]

SOURCES = {
    "exported": "1/model.pt2",
    "fixed": "1/model.pt2",
    "archive": "1/model.mar",
    "classifier": "1",
    "tagger": "1",
    "mask": "1",
    "encoder": "1",
}
"""What is imported of a model's directory; all of it, with its config.pbtxt, if nothing stands here."""


@pytest.fixture(scope="module")
def served(made: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """A server of one model, which is imported and started when it is first asked for."""
    servers: dict[str, Server] = {}
    understood: dict[str, list[str]] = {}
    home = tmp_path_factory.mktemp("registry")
    archive = hashlib.sha256((made / "repository/archive/1/model.mar").read_bytes()).hexdigest()
    with ExitStack() as running:
        registry = running.enter_context(Registry.open(f"sqlite:///{home / 'registry.db'}", str(home / "blobs")))

        def start(name: str) -> Server:
            if name not in servers:
                source = made / "repository" / name / SOURCES.get(name, "")
                trust = frozenset({f"sha256:{archive}"} if name == "archive" else ())
                wanted = Wanted(str(source), name=name, trust=trust, actor="tester", why="a test")
                (imported,) = import_models(wanted, Office(home / "work"), registry)
                understood[name] = [spec.name for spec in imported.model.outputs]
                paths = registry.materialise([f"{name}:1"], home / name)
                servers[name] = running.enter_context(serve(paths, execution__python=str(python)))
                told = servers[name].ask("GET", f"/v2/models/{name}").json()["outputs"]
                assert understood[name] in ([], [one["name"] for one in told])
            return servers[name]

        yield start


def over_http(server: Server, model: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    tensors = [_tensor(name, array) for name, array in inputs.items()]
    answer = server.ask("POST", f"/v2/models/{model}/infer", {"inputs": tensors})
    assert answer.status == 200, answer.body
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer.json()["outputs"]}


def _tensor(name: str, array: NDArray[Any]) -> dict[str, Any]:
    data = [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    return {"name": name, "shape": list(array.shape), "datatype": _datatype(array), "data": data}


def _datatype(array: NDArray[Any]) -> str:
    return "BYTES" if array.dtype == object else "FP32"


def over_grpc(server: Server, model: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    with tritongrpc.InferenceServerClient(server.grpc) as client:
        given = []
        for name, array in inputs.items():
            given.append(tritongrpc.InferInput(name, list(array.shape), _datatype(array)))
            given[-1].set_data_from_numpy(array)
        result = client.infer(model, given)
        told = {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}
    return {
        name: np.vectorize(bytes.decode, otypes=[object])(one) if one.dtype == object else one
        for name, one in told.items()
    }


def answers(server: Server, model: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """What both protocols answer, which is the same."""
    http, grpc = over_http(server, model, inputs), over_grpc(server, model, inputs)
    assert http.keys() == grpc.keys()
    for name, array in http.items():
        if array.dtype.kind in "UO":
            assert array.tolist() == grpc[name].tolist()
        else:
            assert_close(array, grpc[name])
    return http


def assert_close(array: NDArray[Any], expected: Any) -> None:
    np.testing.assert_allclose(array, np.array(expected, np.float32), rtol=1e-5, atol=1e-7)


def floats(rows: Any) -> NDArray[Any]:
    return np.array(rows, np.float32)


def texts(rows: Sequence[str]) -> NDArray[Any]:
    return np.array([[row.encode()] for row in rows], object)


# --- TorchScript, exported programs, a class with weights


def test_an_exported_program_tells_its_signature_and_answers(served: Ask, expected: Any) -> None:
    server = served("exported")
    told = server.ask("GET", "/v2/models/exported").json()
    assert told["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "scale", "datatype": "FP32", "shape": [-1, 1]},
    ]
    assert [one["name"] for one in told["outputs"]] == ["logits", "hidden"]
    assert server.ask("GET", "/v2/models/exported/config").json()["max_batch_size"] == 64
    outputs = answers(server, "exported", {"x": floats(expected["x"]), "scale": floats(expected["scale"])})
    assert_close(outputs["logits"], expected["net"]["logits"])
    assert_close(outputs["hidden"], expected["net"]["hidden"])


def test_one_exported_for_fixed_shapes_does_not_batch(served: Ask, expected: Any) -> None:
    server = served("fixed")
    assert server.ask("GET", "/v2/models/fixed/config").json()["max_batch_size"] == 0
    outputs = answers(server, "fixed", {"x": floats(expected["x"][:2]), "y": floats(expected["y"][:2])})
    assert_close(outputs["output__0"], expected["pair"][0][:2])
    assert_close(outputs["output__1"], expected["pair"][1][:2])


def test_torchscript_is_named_as_triton_names_it(served: Ask, expected: Any) -> None:
    inputs = {"INPUT__0": floats(expected["x"]), "INPUT__1": floats(expected["y"])}
    outputs = answers(served("script"), "script", inputs)
    assert list(outputs) == ["OUTPUT__1", "OUTPUT__0"]
    assert_close(outputs["OUTPUT__0"], expected["pair"][0])
    assert_close(outputs["OUTPUT__1"], expected["pair"][1])


def test_a_class_with_its_weights_answers(served: Ask, expected: Any) -> None:
    outputs = answers(served("eager"), "eager", {"x": floats(expected["x"]), "scale": floats(expected["scale"])})
    assert_close(outputs["logits"], expected["net"]["logits"])


# --- an archive


def test_an_archive_whose_handler_derives_from_torchserves_answers(served: Ask, expected: Any) -> None:
    server = served("archive")
    for x, logits in zip(expected["x"], expected["archive"], strict=True):
        answer = server.ask("POST", "/predictions/archive", {"x": x}, {"Content-Type": "application/json"})
        assert answer.status == 200, answer.body
        assert_close(floats(answer.json()), logits)
    rows = texts([json.dumps({"x": x}) for x in expected["x"][:4]])
    with tritongrpc.InferenceServerClient(server.grpc) as client:
        given = tritongrpc.InferInput("data", list(rows.shape), "BYTES")
        given.set_data_from_numpy(rows)
        told = client.infer("archive", [given], parameters={"content_type": "application/json"}).as_numpy("output")
    assert_close(floats([json.loads(item) for item in told.ravel()]), expected["archive"][:4])


# --- Hugging Face


def test_texts_are_classified(served: Ask, expected: Any) -> None:
    outputs = answers(served("classifier"), "classifier", {"text": texts(TEXTS)})
    for row, told in enumerate(expected["classifier"]):
        assert outputs["label"][row, 0] == told[0]["label"]
        assert_close(outputs["score"][row, 0], told[0]["score"])
        scores = {one["label"]: one["score"] for one in told}
        assert_close(outputs["scores"][row], [scores[f"LABEL_{number}"] for number in range(3)])


def test_words_are_classified(served: Ask, expected: Any) -> None:
    outputs = answers(served("tagger"), "tagger", {"text": texts(TEXTS)})
    for row, told in enumerate(expected["tagger"]):
        entities = json.loads(outputs["entities"][row, 0])
        assert_close(floats([one.pop("score") for one in entities]), [one["score"] for one in told])
        assert entities == [{key: one[key] for key in one if key != "score"} for one in told]


def test_masks_are_filled(served: Ask, expected: Any) -> None:
    outputs = answers(served("mask"), "mask", {"text": texts(MASKED)})
    for row, told in enumerate(expected["mask"]):
        assert outputs["tokens"][row].tolist() == [one["token_str"] for one in told]
        assert outputs["sequences"][row].tolist() == [one["sequence"] for one in told]
        assert_close(outputs["scores"][row], [one["score"] for one in told])


def test_texts_become_vectors(served: Ask, expected: Any) -> None:
    outputs = answers(served("encoder"), "encoder", {"text": texts(TEXTS)})
    np.testing.assert_allclose(outputs["embedding"], np.array(expected["encoder"]), rtol=1e-5, atol=1e-6)


def test_texts_go_on(served: Ask, expected: Any) -> None:
    outputs = answers(served("writer"), "writer", {"text": texts(TEXTS)})
    assert outputs["generated_text"].ravel().tolist() == expected["writer"]


# --- what is not loaded


def test_torchscript_without_a_configuration_says_what_to_write(made: Path, python: Path, tmp_path: Path) -> None:
    version = tmp_path / "script" / "1"
    version.mkdir(parents=True)
    (version / "model.pt").write_bytes((made / "repository/script/1/model.pt").read_bytes())
    with (
        pytest.raises(TaxiwayError, match=r"names of its arguments \(x, y\), and not their shapes") as caught,
        serve(tmp_path, execution__python=str(python)),
    ):
        pass
    assert "config.pbtxt" in caught.value.hint


def test_a_whole_module_is_loaded_only_if_vouched_for(made: Path, python: Path, tmp_path: Path, expected: Any) -> None:
    """A pickle, whose class is found in the file beside it."""
    whole = (made / "sources" / "whole.pt").read_bytes()
    version = tmp_path / "whole" / "1"
    version.mkdir(parents=True)
    (version / "model.pt").write_bytes(whole)
    digest = hashlib.sha256(whole).hexdigest()
    with pytest.raises(TaxiwayError, match="as a pickle") as caught, serve(tmp_path, execution__python=str(python)):
        pass
    assert (caught.value.code, digest in caught.value.hint) == ("untrusted-pickle", True)
    (version / "module.py").write_bytes((made / "sources" / "module.py").read_bytes())
    with serve(tmp_path, execution__python=str(python), models__trust=[f"sha256:{digest}"]) as server:
        outputs = over_http(server, "whole", {"x": floats(expected["x"]), "scale": floats(expected["scale"])})
    assert_close(outputs["logits"], expected["net"]["logits"])


def test_pickled_weights_of_hugging_face_are_refused(made: Path, python: Path, tmp_path: Path) -> None:
    version = tmp_path / "encoder" / "1"
    version.mkdir(parents=True)
    for path in (made / "repository" / "encoder" / "1").iterdir():
        target = "pytorch_model.bin" if path.suffix == ".safetensors" else path.name
        (version / target).write_bytes(path.read_bytes())
    with pytest.raises(TaxiwayError, match="is a pickle"), serve(tmp_path, execution__python=str(python)):
        pass
