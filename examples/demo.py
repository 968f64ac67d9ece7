"""`make demo`: real models from file to endpoint, asked and checked with Triton's own clients, stopped cleanly.

First act: trains scikit-learn's digits classifier, takes magika's file classifier from its package, serves both with
the command a person would type, replaces one while it is asked. Second act (registered.py): imports trees and a Python
class into a registry, refuses a malicious file, serves by name. Third act (rolled_out.py): rolls a version out by
evidence, turns a bad one back, undoes. Fourth act (optimized.py): makes a network faster under a promise, and measures
its latency under load. Fifth act (watched.py): holds a model in service against its training data, takes its labels
back, finds a feature that is sent in another unit. It fails loudly where anything is not as promised.
Its models stay in build/demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import magika
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from examples.optimized import optimize_and_profile
from examples.registered import take_in_and_serve
from examples.rolled_out import roll_out
from examples.stage import DemoFailed, Running, fetch, require, say, serving, stop, title
from examples.watched import watch
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

MODELS: Final = Path("build/demo")
SWITCH_TIMEOUT_S: Final = 20.0
CLIENTS: Final = 16
AROUND_A_SWITCH: Final = 200
"""Answers to wait for from the old version before it is replaced, and from the new one afterwards."""

FILES: Final = {
    "python": b"import os\n\n\ndef list_files(folder):\n    return [name for name in os.listdir(folder) if name]\n" * 3,
    "html": b"<!DOCTYPE html>\n<html><head><title>Hello</title></head><body><p>Hello.</p></body></html>\n" * 3,
    "json": json.dumps({"name": "taxiway", "ports": [8000, 8002], "nested": {"yes": True}}, indent=2).encode(),
    "shell": b'#!/bin/bash\nset -euo pipefail\nfor name in *.txt; do\n  echo "$name"\ndone\n',
}
"""What magika is asked about, by what it should say."""


@dataclass(frozen=True, slots=True)
class Digits:
    """The images that the model has not seen, and what they show."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    better: bytes
    """A larger network for them, as an ONNX file: version 2."""


def main() -> None:
    """Run every chapter; the first promise that is not kept ends the demo with status 1."""
    try:
        digits = make_models()
        with serving(str(MODELS), "--models.control", "explicit", "--cache.max-bytes", "16000000") as server:
            client = triton.InferenceServerClient(urlsplit(server.http).netloc)
            require(client.is_server_ready(), "the server says that it is not ready")
            ask_digits(client, server, digits)
            ask_file_types(client)
            show_bad_input(server)
            show_counts(client, server)
            switch_versions(client, server, digits)
            client.close()
            stop(server)
        take_in_and_serve()
        roll_out()
        optimize_and_profile()
        watch()
        show_next_steps(digits)
    except DemoFailed as problem:
        print(f"\ndemo failed: {problem}", file=sys.stderr)
        sys.exit(1)


def make_models() -> Digits:
    """Lay digits and file_type out as a model repository: NAME/VERSION/model.onnx."""
    title("Two models")
    shutil.rmtree(MODELS, ignore_errors=True)
    began = time.monotonic()
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images.astype(np.float32), labels, test_size=0.3, random_state=0)
    seen, unseen, seen_labels, unseen_labels = split
    first, better = (train(size, seen, seen_labels) for size in (16, 64))
    version_file("digits", 1).write_bytes(first)
    say("digits", f"two scikit-learn networks, trained and exported to ONNX here in {time.monotonic() - began:.1f} s")
    (shipped,) = Path(magika.__file__).parent.rglob("model.onnx")
    shutil.copyfile(shipped, version_file("file_type", 1))
    (MODELS / "file_type/config.pbtxt").write_text("response_cache { enable: true }\n", encoding="utf-8")
    say("file_type", f"magika {magika.__version__}, the ONNX file that its package ships; its answers are cached")
    return Digits(unseen, unseen_labels, better)


def train(size: int, images: NDArray[np.float32], labels: NDArray[np.int64]) -> bytes:
    """A network with one hidden layer of this size, as an ONNX file."""
    network = MLPClassifier((size,), max_iter=1000, random_state=0).fit(images, labels)
    exported = to_onnx(network, images[:1], options={"zipmap": False}, name="digits")
    return bytes(exported.SerializeToString())


def version_file(model: str, version: int) -> Path:
    """Where this version's file lies in the repository; its directory is made."""
    path = MODELS / model / str(version) / "model.onnx"
    path.parent.mkdir(parents=True)
    return path


def ask_digits(client: Any, server: Running, digits: Digits) -> None:  # noqa: ANN401 - tritonclient is not typed
    """All unseen images in one request of JSON, then one by one from many clients in binary."""
    title("Ask the digits model, with Triton's own client")
    began = time.monotonic()
    whole = client.infer("digits", [tensor("X", digits.images, binary=False)]).as_numpy("label").ravel()
    report_accuracy("JSON", digits, whole, f"{len(digits.images)} images in one request", began)
    began = time.monotonic()
    singles = asyncio.run(ask_one_by_one(server, digits))
    report_accuracy("binary", digits, singles, f"{len(singles)} requests over {CLIENTS} connections", began)
    require(np.array_equal(whole, singles), "a batch and single requests disagree")


async def ask_one_by_one(server: Running, digits: Digits) -> NDArray[np.int64]:
    """One image a request, many requests at once: what arrives together runs together."""
    async with triton_aio.InferenceServerClient(urlsplit(server.http).netloc, conn_limit=CLIENTS) as client:
        requests = (client.infer("digits", [tensor("X", one[None], binary=True)]) for one in digits.images)
        answers = await asyncio.gather(*requests)
    return np.concatenate([answer.as_numpy("label").ravel() for answer in answers])


def report_accuracy(how: str, digits: Digits, answers: NDArray[np.int64], what: str, began: float) -> None:
    """Say how many images were read rightly, and refuse a bad score."""
    took_ms = (time.monotonic() - began) * 1000
    accuracy = float(np.mean(answers == digits.labels))
    say(how, f"{what}: {accuracy:.1%} right, {took_ms:.0f} ms")
    require(accuracy > 0.93, f"only {accuracy:.1%} of the digits are right")


def ask_file_types(client: Any) -> None:  # noqa: ANN401 - tritonclient is not typed
    """Classify a few files, and compare with what magika itself says."""
    title("Ask the file classifier")
    itself = magika.Magika()
    labels = itself._model_config.target_labels_space  # the outputs' order is told nowhere else
    question = [tensor("bytes", np.stack([file_features(content) for content in FILES.values()]), binary=True)]
    began = time.monotonic()
    answer = client.infer("file_type", question).as_numpy("target_label")
    took_ms = (time.monotonic() - began) * 1000
    for (expected, content), scores in zip(FILES.items(), answer, strict=True):
        found = str(labels[int(scores.argmax())])
        say(found, f"{scores.max():6.1%}   {' '.join(content.decode().split())[:70]}")
        theirs = str(itself.identify_bytes(content).dl.label)
        require(found == theirs == expected, f"expected {expected}; served: {found}; magika's own runtime: {theirs}")
    began = time.monotonic()
    again = client.infer("file_type", question).as_numpy("target_label")
    say("again", f"from the cache in {(time.monotonic() - began) * 1000:.1f} ms instead of {took_ms:.1f} ms")
    (counts,) = client.get_inference_statistics("file_type")["model_stats"]
    require(counts["inference_stats"]["cache_hit"]["count"] == 1, "the second answer did not come from the cache")
    require(np.array_equal(answer, again), "the cache answered something else")


def file_features(content: bytes) -> NDArray[np.int32]:
    """What magika looks at: the first and the last 1,024 bytes, with 256 where there are none."""
    features = np.full(2048, 256, np.int32)
    head, tail = content.lstrip()[:1024], content.rstrip()[-1024:]
    features[: len(head)] = np.frombuffer(head, np.uint8)
    features[2048 - len(tail) :] = np.frombuffer(tail, np.uint8)
    return features


def show_bad_input(server: Running) -> None:
    """Send a shape that the model does not take: the answer says what is wrong and what to do."""
    title("Ask wrongly: 63 numbers instead of 64")
    body = {"inputs": [{"name": "X", "shape": [1, 63], "datatype": "FP32", "data": [0.0] * 63}]}
    status, answer = fetch(f"{server.http}/v2/models/digits/infer", json.dumps(body))
    problem = json.loads(answer)
    say(f"HTTP {status}", problem["error"])
    say("code", f"{problem['code']}   (docs/errors.md#{problem['code']})")
    if "hint" in problem:
        say("hint", problem["hint"])
    require((status, problem["code"]) == (400, "wrong-shape"), f"expected 400 wrong-shape, got {status} {answer}")


def switch_versions(client: Any, server: Running, digits: Digits) -> None:  # noqa: ANN401 - tritonclient is not typed
    """Load version 2 while a client asks over gRPC without a pause: nothing is lost, and nothing goes back."""
    title("Put a better version in its place while it is asked, over gRPC")
    version_file("digits", 2).write_bytes(digits.better)
    with asking_all_the_while(server, digits) as answered:
        wait_for(lambda: len(answered) >= AROUND_A_SWITCH)
        began = time.monotonic()
        client.load_model("digits")
        say("load", f"version 2 loaded, measured, warm and in place after {(time.monotonic() - began) * 1000:.0f} ms")
        wait_for(lambda: answered.count("2") >= AROUND_A_SWITCH)
    old, new = answered.count("1"), answered.count("2")
    say("gRPC", f"{old} answers of version 1, then {new} of version 2, no error")
    require(answered == ["1"] * old + ["2"] * new, "an answer of version 1 came after one of version 2")
    began = time.monotonic()
    whole = client.infer("digits", [tensor("X", digits.images, binary=True)]).as_numpy("label").ravel()
    report_accuracy("version 2", digits, whole, f"{len(digits.images)} images in one request", began)


@contextlib.contextmanager
def asking_all_the_while(server: Running, digits: Digits) -> Iterator[list[str]]:
    """One image after another until the block ends; gives the versions that answered. An error ends the demo."""
    answered: list[str] = []
    over = threading.Event()

    def ask() -> None:
        image = triton_grpc.InferInput("X", [1, 64], "FP32")
        with triton_grpc.InferenceServerClient(server.grpc) as client:
            for pixels in itertools.takewhile(lambda _: not over.is_set(), itertools.cycle(digits.images)):
                image.set_data_from_numpy(pixels[None])
                answered.append(client.infer("digits", [image]).get_response().model_version)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield answered
        finally:
            over.set()
        if (problem := asking.exception()) is not None:
            raise DemoFailed(f"a request was lost: {problem}")


def wait_for(condition: Callable[[], bool]) -> None:
    """Look until it holds."""
    too_late = time.monotonic() + SWITCH_TIMEOUT_S
    while not condition():
        require(time.monotonic() < too_late, f"still not so after {SWITCH_TIMEOUT_S:.0f} s")
        time.sleep(0.01)


def show_counts(client: Any, server: Running) -> None:  # noqa: ANN401 - tritonclient is not typed
    """What the server counted: requests, and how many runs of the model they took."""
    title("What the server counted")
    (counts,) = client.get_inference_statistics("digits")["model_stats"]
    requests, runs = int(counts["inference_stats"]["success"]["count"]), int(counts["execution_count"])
    say("digits", f"{requests} requests, {counts['inference_count']} images, {runs} runs of the model")
    require(1 < runs <= requests, "the statistics do not add up")
    _, metrics = fetch(server.metrics)
    wanted = ("nv_inference_request_success{", "taxiway_inference_invalid_total{")
    lines = [line for line in metrics.splitlines() if line.startswith(wanted)]
    require(bool(lines), "the metrics do not tell about inference")
    for line in lines:
        say("metrics", line)


def show_next_steps(digits: Digits) -> None:
    """Commands to copy."""
    image = json.dumps(digits.images[0].astype(int).tolist(), separators=(",", ":"))
    command, here = Path(sys.executable).with_name("taxiway"), Path.cwd()
    title(f"Try next (the answer should be {digits.labels[0]})")
    print(f"""\
  {command.relative_to(here) if command.is_relative_to(here) else command} serve {MODELS}
  curl localhost:8000/v2/models/digits
  curl localhost:8000/v2/models/digits/infer -d \\
    '{{"inputs":[{{"name":"X","shape":[1,64],"datatype":"FP32","data":{image}}}]}}'
  curl localhost:8002/metrics
""")


def tensor(name: str, values: NDArray[Any], *, binary: bool) -> Any:  # noqa: ANN401 - tritonclient is not typed
    """An input as tritonclient wants it."""
    made = triton.InferInput(name, list(values.shape), {"f": "FP32", "i": "INT32"}[values.dtype.kind])
    made.set_data_from_numpy(values, binary_data=binary)
    return made


if __name__ == "__main__":
    main()
