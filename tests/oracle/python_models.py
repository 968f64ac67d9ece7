"""A Triton repository of Python models, which both servers serve unchanged: the same files, byte for byte.

Each model tries something of `triton_python_backend_utils`. What they print of it is text, so that an answer tells all
that the model saw.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

HEAD: Final = """import asyncio, json, threading
import numpy as np
import triton_python_backend_utils as pb_utils

def texts(name, *items):
    array = np.empty((1, len(items)), dtype=np.object_)
    array[0] = [item.encode() for item in items]
    return pb_utils.Tensor(name, array)

def given(request, name):
    return pb_utils.get_input_tensor_by_name(request, name)

def text_of(request, name):
    return given(request, name).as_numpy().ravel()[0].decode()

"""


@dataclasses.dataclass(frozen=True)
class PythonModel:
    """One model: its config.pbtxt without the name and the backend, and its model.py without the head."""

    name: str
    config: str
    code: str


def _tensors(side: str, *declared: tuple[str, str, str]) -> str:
    rows = ", ".join(f'{{ name: "{name}" data_type: TYPE_{kind} dims: [{dims}] }}' for name, kind, dims in declared)
    return f"{side} [ {rows} ]\n"


NUMBERS: Final = ("BOOL", "UINT8", "INT16", "INT32", "INT64", "UINT64", "FP16", "FP32", "FP64")

IDENTITY: Final = """
class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        inputs = sorted(request.inputs(), key=lambda tensor: tensor.name())  # Triton's order is that of a hash table
        return pb_utils.InferenceResponse([pb_utils.Tensor("O" + t.name()[1:], t.as_numpy()) for t in inputs])
"""

ADD_SUB: Final = """
class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.dtype = pb_utils.triton_string_to_numpy(pb_utils.get_output_config_by_name(config, "SUM")["data_type"])

    def execute(self, requests):
        responses = []
        for request in requests:
            a, b = given(request, "A").as_numpy(), given(request, "B").as_numpy()
            wanted = request.requested_output_names()
            results = {"SUM": a + b, "DIFF": a - b}
            tensors = [pb_utils.Tensor(k, v.astype(self.dtype)) for k, v in results.items() if k in wanted]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
"""

SHOUT: Final = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            array = given(request, "TEXT").as_numpy()
            assert array.dtype == np.object_ and all(type(item) is bytes for item in array.ravel())
            loud = np.array([item.upper() for item in array.ravel()], dtype=np.object_).reshape(array.shape)
            sizes = np.array([len(item) for item in array.ravel()], dtype=np.int32).reshape(array.shape)
            tensors = [pb_utils.Tensor("LOUD", loud), pb_utils.Tensor("SIZE", sizes)]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""

FAILING: Final = """
CODES = ["UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED"]

def helper(what):
    raise ValueError(what)

class TritonPythonModel:
    def execute(self, requests):
        what = text_of(requests[0], "WHAT")
        if what == "raise":
            helper("bad thing")
        if what == "divide":
            1 / 0
        if what == "own":
            raise pb_utils.TritonModelException("mine")
        if what == "empty":
            return []
        if what == "wrong":
            return [1]
        if what == "tuple":
            return (1,)
        if what == "key":
            {}["none"]
        if what in CODES:
            error = pb_utils.TritonError(f"said {what}", getattr(pb_utils.TritonError, what))
            return [pb_utils.InferenceResponse(error=error)]
        if what == "error":
            return [pb_utils.InferenceResponse([texts("TOLD", "both")], pb_utils.TritonError("just an error"))]
        if what == "type":
            pb_utils.Tensor("TOLD", np.zeros(2, dtype=np.complex64))
        if what == "name":
            pb_utils.Tensor("", np.zeros(2, dtype=np.float32))
        if what == "sender twice":
            sender = requests[0].get_response_sender()
            sender.send(pb_utils.InferenceResponse([texts("TOLD", "first")]))
            sender.send(pb_utils.InferenceResponse([texts("TOLD", "second")]))
        if what == "flag":
            requests[0].get_response_sender().send(flags=7)
        if what == "nothing sent":
            requests[0].get_response_sender().send(flags=0)
        if what == "end first":
            requests[0].get_response_sender().send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        if what == "missing":
            return [pb_utils.InferenceResponse([])]
        if what == "undeclared":
            return [pb_utils.InferenceResponse([texts("OTHER", "x"), texts("TOLD", what)])]
        return [pb_utils.InferenceResponse([texts("TOLD", what)])]
"""

TELLING: Final = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            told = {
                "id": request.request_id(),
                "correlation": request.correlation_id(),
                "flags": request.flags(),
                "timeout": request.timeout(),
                "parameters": sorted(json.loads(request.parameters()).items()),
                "length": len(request.parameters()),
                "outputs": sorted(request.requested_output_names()),
                "inputs": [[t.name(), list(t.shape()), str(t.as_numpy().dtype), t.is_cpu()] for t in request.inputs()],
                "cancelled": request.is_cancelled(),
                "context": request.trace().get_context(),
            }
            size = np.array([[len(request.inputs())]], dtype=np.int32)
            responses.append(
                pb_utils.InferenceResponse([texts("TOLD", json.dumps(told)), pb_utils.Tensor("COUNT", size)])
            )
        return responses
"""

SHAPES: Final = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            rows, columns = given(request, "SHAPE").as_numpy().ravel()
            b = pb_utils.Tensor("B", np.arange(rows * columns, dtype=np.int64).reshape(rows, columns))
            a = pb_utils.Tensor("A", np.full((int(rows),), int(columns), dtype=np.int32))
            c = pb_utils.Tensor("C", np.array(int(rows), dtype=np.float32))
            responses.append(pb_utils.InferenceResponse([b, a, c][: int(columns) + 1]))
        return responses
"""

LATER: Final = """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.answer, args=(request.get_response_sender(), given(request, "X"))).start()

    def answer(self, sender, x):
        response = pb_utils.InferenceResponse([pb_utils.Tensor("Y", x.as_numpy() * 2)])
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

AWAITED: Final = """
class TritonPythonModel:
    async def execute(self, requests):
        await asyncio.sleep(0)
        if given(requests[0], "X").as_numpy().ravel()[0] < 0:
            raise ValueError("below zero")
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", given(r, "X").as_numpy() * 3)]) for r in requests]
"""

COMPLETED: Final = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(4)
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_input({"name": "Z", "data_type": "TYPE_FP32", "dims": [-1], "optional": True})
        config.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_output({"name": "SEEN", "data_type": "TYPE_STRING", "dims": [-1]})
        config.set_dynamic_batching()
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        seen = [args["model_instance_name"], args["model_instance_kind"], args["model_version"], args["model_name"]]
        self.seen = [*seen, str(config["max_batch_size"]), json.dumps(config["input"], sort_keys=True)]

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", -given(r, "X").as_numpy()), texts("SEEN", *self.seen)])
            for r in requests
        ]
"""

REPEAT: Final = """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            self.answer(request, request.get_response_sender())

    def answer(self, request, sender):
        what, count = text_of(request, "WHAT"), int(given(request, "COUNT").as_numpy().ravel()[0])
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        responses = [pb_utils.InferenceResponse([texts("TOLD", f"{what} {place}")]) for place in range(count)]
        if what == "raise after":
            for response in responses:
                sender.send(response)
            raise ValueError("after some")
        if what == "return":
            return sender.send(flags=final)
        if what == "errors":
            for response in responses:
                sender.send(response)
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("between")))
            return sender.send(flags=final)
        if what == "last is error":
            for response in responses:
                sender.send(response)
            return sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("last", 3 and
                pb_utils.TritonError.INVALID_ARG)), flags=final)
        if what == "last with flag" and responses:
            for response in responses[:-1]:
                sender.send(response)
            return sender.send(responses[-1], flags=final)
        if what == "after the end":
            sender.send(flags=final)
            return sender.send(responses[0] if responses else None, flags=final)
        if what == "shapes":
            for place in range(count):
                array = np.full((place + 1, 2), b"x", dtype=np.object_)
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", array), texts("OTHER", "o")]))
            return sender.send(flags=final)
        if what == "thread":
            return threading.Thread(target=self.send_all, args=(sender, responses)).start()
        self.send_all(sender, responses)

    def send_all(self, sender, responses):
        for response in responses:
            sender.send(response)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

RETURNING: Final = """
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([texts("TOLD", "x")]) for _ in requests]
"""

ASYNC_REPEAT: Final = """
class TritonPythonModel:
    async def execute(self, requests):
        await asyncio.gather(*(self.answer(request) for request in requests))

    async def answer(self, request):
        sender = request.get_response_sender()
        for place in range(int(given(request, "COUNT").as_numpy().ravel()[0])):
            await asyncio.sleep(0)
            sender.send(pb_utils.InferenceResponse([texts("TOLD", f"{place}")]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

CALLING: Final = """
def told(response):
    if response.has_error():
        return f"error {response.error().message()}"
    return " ".join(f"{t.name()}={t.as_numpy().tolist()}" for t in response.output_tensors()) or "nothing"

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        what = text_of(request, "WHAT")
        count = int(given(request, "COUNT").as_numpy().ravel()[0])
        a = pb_utils.Tensor("A", np.full((1, 3), count, dtype=np.float32))
        b = pb_utils.Tensor("B", np.arange(3, dtype=np.float32).reshape(1, 3))
        repeat = [texts("WHAT", "plain"), pb_utils.Tensor("COUNT", np.array([[count]], dtype=np.int32))]
        if what == "sum":
            response = self.ask("add_sub", [a, b], ["SUM"]).exec()
            return pb_utils.InferenceResponse([texts("TOLD", told(response))])
        if what == "both":
            return self.say(self.ask("add_sub", [a, b], ["DIFF", "SUM"]).exec())
        if what == "version":
            return self.say(self.ask("add_sub", [a, b], ["SUM"], model_version=1).exec())
        if what == "unknown":
            return self.say(self.ask("nobody", [a], ["SUM"]).exec())
        if what == "error":
            return self.say(self.ask("failing", [texts("WHAT", "NOT_FOUND")], ["TOLD"]).exec())
        if what == "raise":
            return self.say(self.ask("failing", [texts("WHAT", "raise")], ["TOLD"]).exec())
        if what == "tell":
            request = self.ask("telling", [a], ["TOLD"], request_id="inner", parameters={"p": count}, timeout=9000000)
            return self.say(request.exec())
        if what == "texts":
            return self.say(self.ask("shout", [texts("TEXT", "a", "bc")], ["LOUD", "SIZE"]).exec())
        if what == "unary of many":
            return self.say(self.ask("repeat", repeat, ["TOLD"]).exec())
        if what == "many":
            return self.say(*self.ask("repeat", repeat, ["TOLD"]).exec(decoupled=True))
        if what == "many of one":
            return self.say(*self.ask("add_sub", [a, b], ["SUM"]).exec(decoupled=True))
        if what == "again":
            answers = self.ask("repeat", repeat, ["TOLD"]).exec(decoupled=True)
            return self.say(*answers, *answers)
        if what == "chain":
            first = self.ask("add_sub", [a, b], ["SUM"]).exec()
            middle = pb_utils.Tensor("A", pb_utils.get_output_tensor_by_name(first, "SUM").as_numpy())
            return self.say(self.ask("add_sub", [middle, b], ["SUM"]).exec())
        if what == "ensemble":
            return self.say(self.ask("chain", [a, b], ["RESULT"]).exec())
        return self.say()

    def say(self, *responses):
        return pb_utils.InferenceResponse([texts("TOLD", *map(told, responses))])

    def ask(self, name, inputs, outputs, **more):
        return pb_utils.InferenceRequest(model_name=name, inputs=inputs, requested_output_names=outputs, **more)
"""

AWAITING: Final = """
class TritonPythonModel:
    async def execute(self, requests):
        return [await self.answer(request) for request in requests]

    async def answer(self, request):
        count = int(given(request, "COUNT").as_numpy().ravel()[0])
        b = pb_utils.Tensor("B", np.ones((1, 3), dtype=np.float32))
        calls = [
            pb_utils.InferenceRequest(
                model_name="add_sub",
                inputs=[pb_utils.Tensor("A", np.full((1, 3), place, dtype=np.float32)), b],
                requested_output_names=["SUM"],
            ).async_exec()
            for place in range(count)
        ]
        answers = await asyncio.gather(*calls)
        sums = [str(pb_utils.get_output_tensor_by_name(answer, "SUM").as_numpy().tolist()) for answer in answers]
        if count == 7:
            many = pb_utils.InferenceRequest(
                model_name="repeat",
                inputs=[texts("WHAT", "plain"), pb_utils.Tensor("COUNT", np.array([[2]], dtype=np.int32))],
                requested_output_names=["TOLD"],
            )
            sums += [str(len(answer.output_tensors())) for answer in await many.async_exec(decoupled=True)]
        return pb_utils.InferenceResponse([texts("TOLD", *sums)])
"""

DECOUPLED: Final = "model_transaction_policy { decoupled: true }\n"
_WHAT: Final = _tensors("input", ("WHAT", "STRING", "1"))
_WHAT_COUNT: Final = _tensors("input", ("WHAT", "STRING", "1"), ("COUNT", "INT32", "1"))
_TOLD: Final = _tensors("output", ("TOLD", "STRING", "-1"))
_CHAIN: Final = """platform: "ensemble"
max_batch_size: 8
input [ { name: "A" data_type: TYPE_FP32 dims: [-1] }, { name: "B" data_type: TYPE_FP32 dims: [-1] } ]
output [ { name: "RESULT" data_type: TYPE_FP32 dims: [-1] } ]
ensemble_scheduling { step [
  { model_name: "add_sub" model_version: -1
    input_map { key: "A" value: "A" } input_map { key: "B" value: "B" }
    output_map { key: "SUM" value: "sum" } output_map { key: "DIFF" value: "diff" } },
  { model_name: "add_sub" model_version: -1
    input_map { key: "A" value: "sum" } input_map { key: "B" value: "diff" }
    output_map { key: "DIFF" value: "RESULT" } }
] }
"""

MODELS: Final = (
    PythonModel(
        "identity",
        _tensors("input", *((f"I_{kind}", kind, "-1, 2") for kind in NUMBERS)).replace(" }", " optional: true }")
        + _tensors("output", *((f"O_{kind}", kind, "-1, 2") for kind in NUMBERS)),
        IDENTITY,
    ),
    PythonModel(
        "add_sub",
        "max_batch_size: 8\ndynamic_batching { }\n"
        + _tensors("input", ("A", "FP32", "-1"), ("B", "FP32", "-1"))
        + _tensors("output", ("SUM", "FP32", "-1"), ("DIFF", "FP32", "-1")),
        ADD_SUB,
    ),
    PythonModel(
        "shout",
        "max_batch_size: 4\n"
        + _tensors("input", ("TEXT", "STRING", "-1"))
        + _tensors("output", ("LOUD", "STRING", "-1"), ("SIZE", "INT32", "-1")),
        SHOUT,
    ),
    PythonModel("failing", "max_batch_size: 4\n" + _WHAT + _TOLD, FAILING),
    PythonModel(
        "telling",
        "max_batch_size: 4\n"
        + _tensors("input", ("A", "FP32", "-1"))
        + _tensors("output", ("TOLD", "STRING", "-1"), ("COUNT", "INT32", "1")),
        TELLING,
    ),
    PythonModel(
        "shapes",
        _tensors("input", ("SHAPE", "INT32", "2"))
        + _tensors("output", ("A", "INT32", "-1"), ("B", "INT64", "-1, -1"), ("C", "FP32", "1")),
        SHAPES,
    ),
    PythonModel(
        "later",
        "max_batch_size: 4\n" + _tensors("input", ("X", "FP32", "-1")) + _tensors("output", ("Y", "FP32", "-1")),
        LATER,
    ),
    PythonModel(
        "awaited",
        "max_batch_size: 4\n" + _tensors("input", ("X", "FP32", "-1")) + _tensors("output", ("Y", "FP32", "-1")),
        AWAITED,
    ),
    PythonModel("completed", "", COMPLETED),
    PythonModel("repeat", "max_batch_size: 4\n" + _WHAT_COUNT + _TOLD + DECOUPLED, REPEAT),
    PythonModel("returning", "max_batch_size: 4\n" + _WHAT_COUNT + _TOLD + DECOUPLED, RETURNING),
    PythonModel("async_repeat", "max_batch_size: 4\n" + _WHAT_COUNT + _TOLD + DECOUPLED, ASYNC_REPEAT),
    PythonModel("calling", "max_batch_size: 4\n" + _WHAT_COUNT + _TOLD, CALLING),
    PythonModel("awaiting", "max_batch_size: 4\n" + _WHAT_COUNT + _TOLD, AWAITING),
)
ENSEMBLES: Final = {"chain": _CHAIN}


def write_python_repository(root: Path) -> Path:
    """Write all of them below `root`."""
    for model in MODELS:
        folder = root / model.name
        (folder / "1").mkdir(parents=True)
        if model.config:
            text = f'name: "{model.name}"\nbackend: "python"\n{model.config}'
            (folder / "config.pbtxt").write_text(text, encoding="utf-8")
        (folder / "1" / "model.py").write_text(HEAD + model.code, encoding="utf-8")
    for name, text in ENSEMBLES.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(f'name: "{name}"\n{text}', encoding="utf-8")
    return root
