"""`make demo`: two real models from file to endpoint, asked and checked with Triton's own client, stopped cleanly.

Trains scikit-learn's digits classifier, takes magika's file classifier from its package, serves both with the command
a person would type, and fails loudly where anything is not as promised. Its models stay in build/demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import magika
import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

MODELS: Final = Path("build/demo")
LOG: Final = MODELS / "server.log"
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
CLIENTS: Final = 16

FILES: Final = {
    "python": b"import os\n\n\ndef list_files(folder):\n    return [name for name in os.listdir(folder) if name]\n" * 3,
    "html": b"<!DOCTYPE html>\n<html><head><title>Hello</title></head><body><p>Hello.</p></body></html>\n" * 3,
    "json": json.dumps({"name": "taxiway", "ports": [8000, 8002], "nested": {"yes": True}}, indent=2).encode(),
    "shell": b'#!/bin/bash\nset -euo pipefail\nfor name in *.txt; do\n  echo "$name"\ndone\n',
}
"""What magika is asked about, by what it should say."""


class DemoFailed(Exception):
    """Something was not as promised."""


@dataclass(frozen=True, slots=True)
class Digits:
    """The images that the model has not seen, and what they show."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is up: its process and its two addresses."""

    process: subprocess.Popen[str]
    http: str
    metrics: str


def main() -> None:
    """Run every chapter; the first promise that is not kept ends the demo with status 1."""
    try:
        digits = make_models()
        with serving() as server:
            client = triton.InferenceServerClient(urlsplit(server.http).netloc)
            require(client.is_server_ready(), "the server says that it is not ready")
            ask_digits(client, server, digits)
            ask_file_types(client)
            show_bad_input(server)
            show_counts(client, server)
            client.close()
            stop(server)
        show_next_steps(digits)
    except DemoFailed as problem:
        print(f"\ndemo failed: {problem}", file=sys.stderr)
        sys.exit(1)


def make_models() -> Digits:
    """Put digits.onnx and file_type.onnx into the folder that is served."""
    title("Two models")
    MODELS.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images.astype(np.float32), labels, test_size=0.3, random_state=0)
    seen, unseen, seen_labels, unseen_labels = split
    network = MLPClassifier((32,), max_iter=300, random_state=0).fit(seen, seen_labels)
    exported = to_onnx(network, seen[:1], options={"zipmap": False}, name="digits")
    (MODELS / "digits.onnx").write_bytes(exported.SerializeToString())
    say("digits", f"scikit-learn network, trained and exported to ONNX here in {time.monotonic() - began:.1f} s")
    (shipped,) = Path(magika.__file__).parent.rglob("model.onnx")
    shutil.copyfile(shipped, MODELS / "file_type.onnx")
    say("file_type", f"magika {magika.__version__}, the ONNX file that its package ships")
    return Digits(unseen, unseen_labels)


@contextlib.contextmanager
def serving() -> Iterator[Running]:
    """Run `taxiway serve` on free ports; whatever happens, no process is left behind."""
    title(f"taxiway serve {MODELS}")
    began = time.monotonic()
    command = [sys.executable, "-m", "taxiway", "serve", str(MODELS), "--http.port", "0", "--metrics.port", "0"]
    command += ["--grpc.port", "0"]
    with LOG.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        server = wait_until_ready(process)
        say("ready", f"in {time.monotonic() - began:.1f} s at {server.http}")
        yield server
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(process: subprocess.Popen[str]) -> Running:
    """Read the two addresses that the server prints once it is ready."""
    too_late = threading.Timer(START_TIMEOUT_S, process.kill)
    too_late.start()
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        lines = [process.stdout.readline().rpartition(": ")[2].strip() for _ in range(2)]
    finally:
        too_late.cancel()
    require(all(lines), f"the server did not get ready:\n{LOG.read_text(encoding='utf-8')}")
    return Running(process, *lines)


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
    features = np.stack([file_features(content) for content in FILES.values()])
    answer = client.infer("file_type", [tensor("bytes", features, binary=True)]).as_numpy("target_label")
    for (expected, content), scores in zip(FILES.items(), answer, strict=True):
        found = str(labels[int(scores.argmax())])
        say(found, f"{scores.max():6.1%}   {' '.join(content.decode().split())[:70]}")
        theirs = str(itself.identify_bytes(content).dl.label)
        require(found == theirs == expected, f"expected {expected}; served: {found}; magika's own runtime: {theirs}")


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


def stop(server: Running) -> None:
    """SIGTERM: the server answers what it took and leaves with status 0."""
    title("Stop")
    server.process.send_signal(signal.SIGTERM)
    try:
        status = server.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"still there {STOP_TIMEOUT_S:.0f} s after SIGTERM") from None
    say("SIGTERM", f"exit status {status}")
    require(status == 0, f"exit status {status} instead of 0:\n{LOG.read_text(encoding='utf-8')}")


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


def fetch(url: str, body: str | None = None) -> tuple[int, str]:
    """Status and body of one plain HTTP request."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST" if body else "GET", parts.path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def require(kept: bool, promise: str) -> None:
    """End the demo if a promise is not kept."""
    if not kept:
        raise DemoFailed(promise)


def title(text: str) -> None:
    """Begin a chapter."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def say(label: str, text: str) -> None:
    """One line of it."""
    print(f"  {label:<10} {text}", flush=True)


if __name__ == "__main__":
    main()
