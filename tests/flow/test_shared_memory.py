"""Tensors in shared memory: by hand, and by Triton's own clients over HTTP and gRPC."""

from __future__ import annotations

import os
import struct
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from tests.flow.plain_models import echo
from tests.flow.serving import Answer, Server, serve
from tests.support import onnx_models
from tests.support.raw_http import request, serve_process

http = pytest.importorskip("tritonclient.http")
triton_grpc = pytest.importorskip("tritonclient.grpc")
triton_utils = pytest.importorskip("tritonclient.utils")
shm = pytest.importorskip("tritonclient.utils.shared_memory")

SYSTEM = "/v2/systemsharedmemory"
CUDA = "/v2/cudasharedmemory"
SIZE = 4096


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    onnx_models.two_outputs(folder / "both.onnx")
    onnx_models.echo_texts(folder / "texts.onnx")
    echo(folder / "flags.onnx", ["N", "M"], TensorProto.BOOL)
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serve(models, shared_memory__system=True, limits__max_body_bytes=2048) as running:
        yield running


class Memory:
    """A file in /dev/shm."""

    def __init__(self) -> None:
        self.path = Path("/dev/shm", f"test-{uuid.uuid4().hex}")  # noqa: S108 - shared memory is what is tested
        self.path.write_bytes(bytes(SIZE))

    @property
    def key(self) -> str:
        return f"/{self.path.name}"

    def put(self, offset: int, content: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(content)

    def get(self, offset: int, size: int) -> bytes:
        return self.path.read_bytes()[offset : offset + size]


@pytest.fixture
def memory(server: Server) -> Iterator[Memory]:
    """Registered as `r`, from byte 4 on."""
    made = Memory()
    document = {"key": made.key, "offset": 4, "byte_size": SIZE - 4}
    assert server.ask("POST", f"{SYSTEM}/region/r/register", document).status == 200
    yield made
    assert server.ask("POST", f"{SYSTEM}/unregister").status == 200
    made.path.unlink(missing_ok=True)


def _place(byte_size: int, offset: int = 0, region: Any = "r") -> dict[str, Any]:
    place = {"shared_memory_region": region, "shared_memory_byte_size": byte_size}
    return {**place, "shared_memory_offset": offset} if offset else place


def _infer(
    server: Server,
    inputs: Mapping[str, Any],
    output: Mapping[str, Any] | None = None,
    *,
    model: str = "double",
    datatype: str = "FP32",
    shape: tuple[int, ...] = (1, 2),
) -> Answer:
    one = {"name": "x", "shape": shape, "datatype": datatype, "parameters": inputs}
    document: dict[str, Any] = {"inputs": [one]}
    if output is not None:
        document["outputs"] = [{"name": "y", "parameters": output}]
    return server.ask("POST", f"/v2/models/{model}/infer", document)


def _two(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def test_in_and_out(server: Server, memory: Memory) -> None:
    memory.put(4, _two(1, 2, 3, 4))
    inline = _infer(server, _place(8, 8)).json()["outputs"]
    assert inline == [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [6.0, 8.0]}]
    outside = _infer(server, _place(16), _place(16, 100), shape=(2, 2)).json()["outputs"]
    assert outside == [{"name": "y", "datatype": "FP32", "shape": [2, 2]}]
    assert memory.get(104, 16) == _two(2, 4, 6, 8)
    assert _infer(server, _place(8), _place(SIZE - 4)).status == 200
    assert memory.get(4, 16) == _two(2, 4, 3, 4), "a larger window than needed, over the input"


def test_texts_and_truths(server: Server, memory: Memory) -> None:
    texts = b"".join(struct.pack("<I", len(text)) + text for text in (b"ab", b"", b"c"))
    memory.put(4, texts)
    assert _infer(
        server, _place(len(texts)), _place(len(texts), 100), model="texts", datatype="BYTES", shape=(3, 1)
    ).json()["outputs"] == [{"name": "y", "datatype": "BYTES", "shape": [3, 1]}]
    assert memory.get(104, len(texts)) == texts
    memory.put(4, b"\xff\xff\xff\xff")
    bad = _infer(server, _place(len(texts)), model="texts", datatype="BYTES", shape=(3, 1))
    assert bad.status == 400
    memory.put(4, b"\1\0\2\1")
    flags = _infer(server, _place(4), model="flags", datatype="BOOL", shape=(1, 4))
    assert flags.status == 400
    assert "neither 0 nor 1" in flags.json()["error"]


def test_one_region_for_some_tensors_and_the_body_for_others(server: Server, memory: Memory) -> None:
    memory.put(4, _two(5, 6))
    document = {
        "inputs": [
            {"name": "a", "shape": [1, 2], "datatype": "FP32", "parameters": _place(8)},
            {"name": "b", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
        ],
        "outputs": [{"name": "SUM", "parameters": _place(8, 100)}, {"name": "DIFFERENCE"}],
    }
    answer = server.ask("POST", "/v2/models/both/infer", document)
    assert memory.get(104, 8) == _two(6, 8)
    assert answer.json()["outputs"] == [
        {"name": "SUM", "datatype": "FP32", "shape": [1, 2]},
        {"name": "DIFFERENCE", "datatype": "FP32", "shape": [1, 2], "data": [4.0, 4.0]},
    ]


OK = _place(8)
MISTAKES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, int, str]] = {
    "no such region": (_place(8, region="other"), None, 404, "Unable to find shared memory region: 'other'"),
    "no size": ({"shared_memory_region": "r"}, None, 400, "Invalid offset + byte size for shared memory region: 'r'"),
    "another size": (_place(12), None, 400, "byte size mismatch for input 'x' for model 'double'. Expected 8, got 12"),
    "beyond": (_place(8, SIZE - 8), None, 400, "Invalid offset + byte size for shared memory region: 'r'"),
    "far beyond": (_place(8, 2**64 - 8), None, 400, "Invalid offset for shared memory region: 'r'"),
    "negative": (_place(-8), None, 400, "parameter 'shared_memory_byte_size' is '-8'"),
    "text for a size": ({**OK, "shared_memory_offset": "4"}, None, 400, "parameter 'shared_memory_offset' is '4'"),
    "no text": (_place(8, region=3), None, 400, "'shared_memory_region' is int; it must be a string"),
    "large": (_place(2049), None, 413, "limits.max_body_bytes"),
    "out: no such region": (OK, _place(8, region="other"), 404, "Unable to find shared memory region: 'other'"),
    "out: no size": (OK, {"shared_memory_region": "r"}, 400, "Invalid offset + byte size"),
    "out: too small": (OK, _place(7), 400, "output 'y' (7 bytes) should be at least 8 bytes to hold the results"),
    "out: and classes": (OK, {**OK, "classification": 1}, 400, "Output can't set both"),
    "out: and binary": (OK, {**OK, "binary_data": True}, 400, "Output can't set both"),
}


@pytest.mark.parametrize(("given", "output", "status", "text"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(
    server: Server,
    memory: Memory,
    given: dict[str, Any],
    output: dict[str, Any] | None,
    status: int,
    text: str,
) -> None:
    answer = _infer(server, given, output)
    assert answer.status == status
    assert text in str(answer.json())
    assert memory.get(0, 100) == bytes(100), "nothing was written"


def test_data_and_a_region_are_one_too_many(server: Server, memory: Memory) -> None:
    del memory
    one = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2], "parameters": OK}
    answer = server.ask("POST", "/v2/models/double/infer", {"inputs": [one]})
    assert answer.status == 400
    assert "must set only one" in answer.json()["error"]


def test_registering(server: Server, memory: Memory) -> None:
    assert server.ask("GET", f"{SYSTEM}/status").json() == [
        {"name": "r", "key": memory.key, "offset": 4, "byte_size": SIZE - 4}
    ]
    assert server.ask("GET", f"{SYSTEM}/region/r/status").json() == server.ask("GET", f"{SYSTEM}/status").json()
    assert server.ask("GET", f"{SYSTEM}/region/other/status").status == 404
    assert "taxiway_shared_memory_regions 1" in server.scrape()
    register = f"{SYSTEM}/region/q/register"
    for document, status, text in (
        ({"byte_size": 8}, 400, "has no 'key' field"),
        ({"key": memory.key}, 400, "has no 'byte_size' field"),
        ({"key": 3, "byte_size": 8}, 400, "'key' is int"),
        ({"key": memory.key, "byte_size": "8"}, 400, "'byte_size' is"),
        ({"key": memory.key, "byte_size": -8}, 400, "'byte_size' is"),
        ({"key": memory.key, "byte_size": 8, "offset": True}, 400, "'offset' is"),
        ({"key": memory.key, "byte_size": SIZE + 1}, 400, "failed to register shared memory region 'q': invalid args"),
        ({"key": "/nosuch", "byte_size": 8}, 400, "Unable to open shared memory region: '/nosuch'"),
        ({"key": "/../../etc/passwd", "byte_size": 8}, 400, "Unable to open shared memory region"),
        ({"key": "triton_python_backend_shm_region_0", "byte_size": 8}, 400, "reserved"),
        ([], 400, "has no 'key' field"),
        (None, 400, "has no body"),
    ):
        answer = server.ask("POST", register, document)
        assert answer.status == status, document
        assert text in answer.json()["error"]
    again = server.ask("POST", f"{SYSTEM}/region/r/register", {"key": memory.key, "byte_size": 8})
    assert (again.status, again.json()["error"]) == (409, "shared memory region 'r' already in manager")
    assert "necessary" in server.ask("POST", f"{SYSTEM}/register", {}).json()["error"]
    assert server.ask("POST", f"{SYSTEM}/region/other/unregister").status == 200
    assert server.ask("POST", f"{SYSTEM}/region/r/unregister").status == 200
    assert server.ask("GET", f"{SYSTEM}/status").json() == []
    assert "system_shared_memory" in server.ask("GET", "/v2").json()["extensions"]


def test_of_cuda_there_is_nothing(server: Server) -> None:
    assert server.ask("GET", f"{CUDA}/status").json() == []
    assert server.ask("GET", f"{CUDA}/region/r/status").status == 404
    handle = {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 8}
    answer = server.ask("POST", f"{CUDA}/region/r/register", handle)
    assert (answer.status, answer.json()["code"]) == (501, "unsupported")
    assert answer.json()["error"] == "failed to register CUDA shared memory region: 'r', GPUs not supported"
    assert server.ask("POST", f"{CUDA}/region/r/unregister").status == 200
    assert server.ask("POST", f"{CUDA}/unregister").status == 200


def test_off_by_default(models: Path) -> None:
    with serve(models / "double.onnx") as server:
        for method, path in (
            ("GET", f"{SYSTEM}/status"),
            ("POST", f"{SYSTEM}/unregister"),
            ("GET", f"{CUDA}/region/r/status"),
            ("POST", f"{CUDA}/region/r/register"),
            ("POST", f"{CUDA}/unregister"),
        ):
            answer = server.ask(method, path)
            assert answer.status == 501
            assert "Client shared memory is disabled" in answer.json()["error"]
        answer = server.ask("POST", f"{SYSTEM}/region/r/register", {"key": "/x", "byte_size": 8})
        assert answer.status == 501
        assert _infer(server, OK).status == 404
        assert "system_shared_memory" not in server.ask("GET", "/v2").json()["extensions"]


def test_tritonclient(server: Server) -> None:
    host, port = server.address
    key = f"/test-{uuid.uuid4().hex}"
    handle = shm.create_shared_memory_region("both", key, 64)
    try:
        numbers = np.array([[1, 2], [3, 4]], np.float32)
        shm.set_shared_memory_region(handle, [numbers, numbers * 10])
        with http.InferenceServerClient(f"{host}:{port}") as client:
            client.register_system_shared_memory("both", key, 64)
            assert client.get_system_shared_memory_status("both")[0]["byte_size"] == 64
            inputs = [http.InferInput(name, [2, 2], "FP32") for name in "ab"]
            outputs = [http.InferRequestedOutput(name) for name in ("SUM", "DIFFERENCE")]
            for place, tensor in enumerate((*inputs, *outputs)):
                tensor.set_shared_memory("both", 16, offset=16 * place)
            answer = client.infer("both", inputs, outputs=outputs)
            assert answer.get_output("SUM")["shape"] == [2, 2]
            assert shm.get_contents_as_numpy(handle, np.float32, [2, 2], offset=32).tolist() == [[11, 22], [33, 44]]
            assert shm.get_contents_as_numpy(handle, np.float32, [2, 2], offset=48).tolist() == [[-9, -18], [-27, -36]]
            client.unregister_system_shared_memory("both")
            assert client.get_system_shared_memory_status() == []
    finally:
        shm.destroy_shared_memory_region(handle)


def test_a_client_that_truncates_while_it_is_served_hurts_only_itself(models: Path) -> None:
    """A server that mapped the region would die of SIGBUS: this one is a process of its own, and must live."""
    memory, stop = Memory(), threading.Event()

    def misbehave() -> None:
        while not stop.is_set():
            os.truncate(memory.path, 0)
            os.truncate(memory.path, SIZE)

    owner = threading.Thread(target=misbehave)
    try:
        with serve_process(models / "double.onnx", shared_memory__system=True) as process:
            body = f'{{"key":"{memory.key}","byte_size":{SIZE}}}'.encode()
            assert process.ask(request("POST", f"{SYSTEM}/region/r/register", body)).status == 200
            place = f'"parameters":{{"shared_memory_region":"r","shared_memory_byte_size":{SIZE}}}'
            ask = f'{{"inputs":[{{"name":"x","shape":[512,2],"datatype":"FP32",{place}}}],'
            ask += f'"outputs":[{{"name":"y",{place}}}]}}'
            owner.start()
            with process.connect() as connection:
                statuses = [
                    connection.send(request("POST", "/v2/models/double/infer", ask.encode())).reply().status
                    for _ in range(500)
                ]
            stop.set()
            owner.join()
            assert set(statuses) <= {200, 400}
            assert process.process.poll() is None
            assert process.ask(request("POST", "/v2/models/double/infer", ask.encode())).status == 200
    finally:
        stop.set()
        memory.path.unlink()


# --- over gRPC ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(server.grpc) as made:
        yield made


def test_tritonclient_over_grpc(client: Any) -> None:
    key = f"/test-{uuid.uuid4().hex}"
    handle = shm.create_shared_memory_region("both", key, 64)
    try:
        numbers = np.array([[1, 2], [3, 4]], np.float32)
        shm.set_shared_memory_region(handle, [numbers, numbers * 10])
        client.register_system_shared_memory("both", key, 64)
        assert client.get_system_shared_memory_status("both").regions["both"].byte_size == 64
        inputs = [triton_grpc.InferInput(name, [2, 2], "FP32") for name in "ab"]
        outputs = [triton_grpc.InferRequestedOutput(name) for name in ("SUM", "DIFFERENCE")]
        for place, tensor in enumerate((*inputs, *outputs)):
            tensor.set_shared_memory("both", 16, offset=16 * place)
        answer = client.infer("both", inputs, outputs=outputs)
        assert list(answer.get_output("SUM").shape) == [2, 2]
        assert list(answer.get_response().raw_output_contents) == [b"", b""]
        assert shm.get_contents_as_numpy(handle, np.float32, [2, 2], offset=32).tolist() == [[11, 22], [33, 44]]
        assert shm.get_contents_as_numpy(handle, np.float32, [2, 2], offset=48).tolist() == [[-9, -18], [-27, -36]]
        client.unregister_system_shared_memory("both")
        assert not client.get_system_shared_memory_status().regions
    finally:
        shm.destroy_shared_memory_region(handle)


def test_one_input_in_a_region_and_another_in_the_call(client: Any, memory: Memory) -> None:
    memory.put(4, _two(5, 6))
    outside, inside = (triton_grpc.InferInput(name, [1, 2], "FP32") for name in "ab")
    outside.set_shared_memory("r", 8)
    inside.set_data_from_numpy(np.array([[1, 2]], np.float32))
    there, here = (triton_grpc.InferRequestedOutput(name) for name in ("SUM", "DIFFERENCE"))
    there.set_shared_memory("r", 8, offset=100)
    answer = client.infer("both", [outside, inside], outputs=[there, here])
    assert memory.get(104, 8) == _two(6, 8)
    assert answer.as_numpy("DIFFERENCE").tolist() == [[4, 4]]
    typed = client.infer("both", [outside, inside], outputs=[there], parameters={"contents": "typed"})
    assert not typed.get_response().outputs[0].HasField("contents")


@pytest.mark.parametrize(
    ("region", "byte_size", "offset", "status", "text"),
    [
        ("other", 8, 0, "NOT_FOUND", "Unable to find shared memory region: 'other'"),
        ("r", 12, 0, "INVALID_ARGUMENT", "Expected 8, got 12"),
        ("r", 8, SIZE - 8, "INVALID_ARGUMENT", "Invalid offset + byte size for shared memory region: 'r'"),
        ("r", 8, SIZE, "INVALID_ARGUMENT", "Invalid offset for shared memory region: 'r'"),
    ],
)
def test_mistakes_over_grpc(
    client: Any, memory: Memory, region: str, byte_size: int, offset: int, status: str, text: str
) -> None:
    del memory
    tensor = triton_grpc.InferInput("x", [1, 2], "FP32")
    tensor.set_shared_memory(region, byte_size, offset=offset)
    with pytest.raises(triton_utils.InferenceServerException) as caught:
        client.infer("double", [tensor])
    assert caught.value.status() == f"StatusCode.{status}"
    assert text in str(caught.value)


def test_an_output_that_does_not_fit_over_grpc(client: Any, memory: Memory) -> None:
    tensor, output = triton_grpc.InferInput("x", [1, 2], "FP32"), triton_grpc.InferRequestedOutput("y")
    tensor.set_data_from_numpy(np.array([[1, 2]], np.float32))
    output.set_shared_memory("r", 7)
    with pytest.raises(triton_utils.InferenceServerException, match="should be at least 8 bytes to hold the results"):
        client.infer("double", [tensor], outputs=[output])
    assert memory.get(0, 20) == bytes(20)


def test_registering_over_grpc(client: Any, server: Server, memory: Memory) -> None:
    with pytest.raises(triton_utils.InferenceServerException, match="already in manager") as caught:
        client.register_system_shared_memory("r", memory.key, 8)
    assert caught.value.status() == "StatusCode.ALREADY_EXISTS"
    with pytest.raises(triton_utils.InferenceServerException, match="necessary"):
        client.register_system_shared_memory("", memory.key, 8)
    with pytest.raises(triton_utils.InferenceServerException, match="Unable to find system shared memory region"):
        client.get_system_shared_memory_status("other")
    client.register_system_shared_memory("q", memory.key, 8, offset=16)
    known = {one["name"]: one["offset"] for one in server.ask("GET", f"{SYSTEM}/status").json()}
    assert known == {"r": 4, "q": 16}, "both protocols know the same"
    client.unregister_system_shared_memory()
    assert server.ask("GET", f"{SYSTEM}/status").json() == []
    assert "system_shared_memory" in client.get_server_metadata().extensions
    assert not client.get_cuda_shared_memory_status().regions
    client.unregister_cuda_shared_memory()
    with pytest.raises(triton_utils.InferenceServerException, match="GPUs not supported"):
        client.register_cuda_shared_memory("g", b"AAAA", 0, 8)


def test_what_was_copied_is_given_back(server: Server, client: Any, memory: Memory) -> None:
    del memory
    tensor = triton_grpc.InferInput("x", [1, 2], "FP32")
    tensor.set_shared_memory("r", 8)
    for _ in range(3):
        client.infer("double", [tensor])
        assert _infer(server, OK).status == 200
    assert server.plane._admission.bytes == 0


def test_every_process_of_a_server_knows_a_region(models: Path) -> None:
    memory = Memory()
    try:
        with serve_process(models / "double.onnx", shared_memory__system=True, workers=2) as process:
            body = f'{{"key":"{memory.key}","byte_size":8}}'.encode()
            assert process.ask(request("POST", f"{SYSTEM}/region/r/register", body)).status == 200
            ask = '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":'
            ask += '{"shared_memory_region":"r","shared_memory_byte_size":8}}]}'
            raw = request("POST", "/v2/models/double/infer", ask.encode())
            assert [process.ask(raw).status for _ in range(20)] == [200] * 20
            assert process.ask(request("POST", f"{SYSTEM}/unregister")).status == 200
            assert [process.ask(raw).status for _ in range(20)] == [404] * 20
    finally:
        memory.path.unlink()
