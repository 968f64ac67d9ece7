"""The demo's fifth act: a model in service is watched; its labels come back, a bug in what it is sent is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import tritonclient.http as triton
from examples.stage import Running, fetch, require, say, serving, stop, title
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

PLACE: Final = Path("build/demo-watch").absolute()
WAIT_S: Final = 60.0
BROKEN: Final = 3
"""The feature that is sent in another unit: the mean area, a tenth of what it was."""
CONFIG: Final = """\
monitoring:
  sampling: {rows_per_s: 100000}
  drift: {look_rows: 100, look_s: 1}
  slos:
    cancer: {availability_percent: 99.9, latency: [{percent: 99, under_ms: 100}]}
"""
Numbers = NDArray[Any]


def watch() -> None:
    """Serve a model held against its training data, break what it is sent, and see who notices."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    rows, labels = train()
    (PLACE / "taxiway.yaml").write_text(CONFIG, encoding="utf-8")
    words = ("--config", str(PLACE / "taxiway.yaml"), "--monitoring.directory", str(PLACE / "monitoring"))
    journal = ("--control.journal", f"sqlite:///{PLACE / 'rollouts.db'}")
    with serving(str(PLACE / "cancer.onnx"), *words, *journal, control=True) as server:
        client = triton.InferenceServerClient(urlsplit(server.http).netloc)
        hold_against_training_data(server)
        requests = send_as_ever(client, server, rows)
        give_labels(server, requests, rows, labels)
        send_broken(client, server, rows)
        client.close()
        stop(server)
    export()


def train() -> tuple[Numbers, Numbers]:
    """A forest on half of the patients; the others are its users."""
    title("A model whose training data is known")
    rows, labels = load_breast_cancer(return_X_y=True)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        rows.astype(np.float32), labels, test_size=0.5, random_state=0
    )
    forest = RandomForestClassifier(50, random_state=0).fit(seen, seen_labels)
    exported = to_onnx(forest, seen[:1], options={"zipmap": False}, target_opset=17)
    (PLACE / "cancer.onnx").write_bytes(exported.SerializeToString())
    np.savez(PLACE / "train.npz", X=seen)
    say("cancer", f"a random forest of scikit-learn, trained on {len(seen)} patients")
    return unseen, unseen_labels


def hold_against_training_data(server: Running) -> None:
    """`taxiway monitor reference`."""
    title("taxiway monitor reference cancer --data train.npz")
    told = taxiway(server, "reference", "cancer", "--data", str(PLACE / "train.npz"), "--url", server.http)
    for line in told.splitlines()[:3]:
        say("", line)


def send_as_ever(client: Any, server: Running, rows: Numbers) -> dict[str, int]:  # noqa: ANN401 - tritonclient
    """Rows of the same kind: no alarm. Which row each request was."""
    chance = np.random.default_rng(0)
    sent = {}
    for number in range(600):
        at = int(chance.integers(len(rows)))
        sent[f"patient-{number}"] = at
        infer(client, rows[at : at + 1], f"patient-{number}")
    until(lambda: int(drift(server)["rows"]) >= 500, "rows are held against the reference")
    told = drift(server)
    evidence = f"evidence 10^{told['evidence']:.1f} of 10^{told['threshold']:.1f}"
    say("as ever", f"{told['rows']} rows, {evidence}: {told['state']}")
    require(not told["alarm"], "it cried wolf")
    return sent


def give_labels(server: Running, sent: dict[str, int], rows: Numbers, labels: Numbers) -> None:
    """What the patients had, a little later."""
    require(len(rows) == len(labels), "each row has its label")
    pieces = [{"id": request, "label": int(labels[at])} for request, at in sent.items()]
    status, _ = fetch(f"{server.http}/v2/models/cancer/feedback", json.dumps({"feedback": pieces}))
    require(status == 200, f"feedback was answered with {status}")
    quality = drift(server)["quality"]["labelled"]
    interval = f"{quality['low']:.1%} to {quality['high']:.1%}"
    say("labels", f"{quality['rows']} came back: {quality['accuracy']:.1%} right ({interval})")
    require(quality["accuracy"] > 0.85, "it is not as good as it was trained to be")


def send_broken(client: Any, server: Running, rows: Numbers) -> None:  # noqa: ANN401 - tritonclient
    """One feature in another unit, in a tenth of the rows."""
    title("A client sends one of 30 features in another unit, in a tenth of its rows")
    chance = np.random.default_rng(1)
    sent = 0
    began = time.monotonic()
    while not drift(server)["alarm"]:
        require(time.monotonic() - began < WAIT_S, "nobody noticed")
        batch = rows[chance.integers(len(rows), size=50)].copy()
        batch[chance.random(50) < 0.1, BROKEN] /= 10
        infer(client, batch, "")
        sent += len(batch)
    for line in taxiway(server, "drift", "cancer").splitlines()[:8]:
        say("", line)
    told = drift(server)
    first = told["features"][0]
    say("found", f"{first['name']} after {sent} rows")
    require(first["name"] == f"X[{BROKEN}]", f"it suspects {first['name']}")


def export() -> None:
    """What a Prometheus and a Grafana are set up with."""
    title("taxiway monitor export prometheus; taxiway monitor export grafana")
    for kind, words in (("prometheus", ("--config", str(PLACE / "taxiway.yaml"))), ("grafana", ())):
        told = run("export", kind, str(PLACE / kind), *words)
        say(kind, f"{len(told.splitlines())} files in {(PLACE / kind).relative_to(Path.cwd())}")


def infer(client: Any, rows: Numbers, request: str) -> None:  # noqa: ANN401 - tritonclient is not typed
    """Ask about some rows."""
    given = triton.InferInput("X", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    client.infer("cancer", [given], request_id=request)


def drift(server: Running) -> Any:  # noqa: ANN401 - JSON
    """What the control process knows."""
    return json.loads(fetch(f"{server.control}/v1/monitor/drift/cancer")[1])


def until(holds: Callable[[], bool], what: str) -> None:
    """Look until it holds."""
    for _ in ticks():
        if holds():
            return
    require(False, f"waited in vain until {what}")


def ticks() -> Iterator[None]:
    """A few a second, for as long as one waits."""
    too_late = time.monotonic() + WAIT_S
    while time.monotonic() < too_late:
        yield
        time.sleep(0.1)


def taxiway(server: Running, *words: str) -> str:
    """A verb of `taxiway monitor` that asks the control process."""
    return run(*words, "--control", server.control)


def run(*words: str) -> str:
    """A verb of `taxiway monitor`; what it prints."""
    command = [sys.executable, "-m", "taxiway", "monitor", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"taxiway monitor {words[0]} failed:\n{done.stderr}")
    return done.stdout
