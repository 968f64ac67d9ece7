"""The demo's third act: a version is rolled out while it is asked, one that fails is turned back, and all is undone."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import lightgbm
import numpy as np
from examples.registered import PLACE, PLACES, run
from examples.stage import Running, fetch, require, say, serving, stop, title
from sklearn.datasets import load_breast_cancer

_QUICK: Final = ("--set", "min_step_s=1", "--set", "settle_s=0.5", "--set", "guard_for_s=1", "--set", "twin=false")
_GUARD: Final = ("--set", "guards.metrics=[{metric: errors, allowance: 0.02}]", "--set", "guards.min_requests=50")
_ENDS: Final = ("succeeded", "rolled-back", "failed-infra")
_PATIENCE_S: Final = 60.0

STRICT: Final = '''
import numpy as np

class Strict:
    """Trees that are fussier than they should be: a tenth of the rows makes them fail."""
    inputs = {"X": ("FP32", [-1, 30])}
    outputs = {"label": ("INT64", [-1]), "probabilities": ("FP32", [-1, 2])}

    def predict(self, X):
        if (X[:, 0] > 19).any():
            raise ValueError("a radius above 19 was never seen in training")
        return {"label": np.ones(len(X), np.int64), "probabilities": np.full((len(X), 2), 0.5, np.float32)}
'''


def roll_out() -> None:
    """Promote trees that are as good, turn back a class that fails, and go back to the first."""
    register_more()
    with serving("cancer@stable", environment=PLACES, control=True) as server:
        with Asking(server) as asking:
            begin(server, "2", "--steps", "20,50,100")
            follow(server, "succeeded")
            begin(server, "3", "--steps", "50,100")
            follow(server, "rolled-back")
            undo(server)
        say("asked", f"{asking.told.total()} times while that went on: {dict(sorted(asking.told.items()))}")
        require(not asking.told["lost"], "requests were lost")
        stop(server)


def register_more() -> None:
    """Version 2: more trees. Version 3: a Python class that fails for some rows."""
    title("Two more versions of cancer")
    rows, labels = load_breast_cancer(return_X_y=True)
    trees: lightgbm.Booster = lightgbm.LGBMClassifier(n_estimators=60, verbose=-1).fit(rows, labels).booster_
    trees.save_model(PLACE / "more.txt")
    (PLACE / "strict.py").write_text(STRICT, encoding="utf-8")
    for file in ("more.txt", "strict.py"):
        told = run("import", str(PLACE / file), "--name", "cancer", "--why", "the next one")
        require(told.returncode == 0, told.stderr)
        say("registered", told.stdout.splitlines()[0])


def begin(server: Running, version: str, *more: str) -> None:
    """Start a rollout as a person would."""
    title(f"taxiway rollout start cancer --to {version} {' '.join(more)}")
    words = ("--to", version, *more, *_QUICK, *_GUARD, "--control", server.control)
    told = run("rollout", "start", "cancer", *words)
    require(told.returncode == 0, told.stderr)


def follow(server: Running, end: str) -> None:
    """Say each phase that it goes through; it must end so."""
    told: dict[str, Any] = {}
    said = ""
    until = time.monotonic() + _PATIENCE_S
    while told.get("phase") not in _ENDS:
        require(time.monotonic() < until, f"it takes too long: {told}")
        _, text = fetch(f"{server.control}/v1/rollouts")
        status = json.loads(fetch(f"{server.control}/v1/rollouts/{json.loads(text)['rollouts'][0]['id']}")[1])
        told = status["rollout"]
        shares = ", ".join(f"{arm} {share * 100:g} %" for arm, share in status["weights"].items())
        if (line := f"{shares}: {told['reason'][:100]}") != said:
            say(told["phase"], line)
            said = line
        time.sleep(0.1)
    require(told["phase"] == end, f"it {told['phase']}, and should have {end}: {told['reason']}")


def undo(server: Running) -> None:
    """Back to version 1."""
    title("taxiway rollout undo cancer")
    told = run("rollout", "undo", "cancer", "--why", "the demo is over", "--control", server.control)
    require(told.returncode == 0, told.stderr)
    follow(server, "succeeded")


class Asking:
    """Somebody who asks all the time; what came of it, by the version that answered."""

    def __init__(self, server: Running) -> None:
        self.told: Counter[str] = Counter()
        self._address = urlsplit(server.http).netloc
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        rows = load_breast_cancer().data.astype(np.float32)
        line = http.client.HTTPConnection(self._address, timeout=20)
        place = 0
        while not self._over.is_set():
            place = (place + 1) % len(rows)
            tensor = {"name": "X", "shape": [1, 30], "datatype": "FP32", "data": rows[place].tolist()}
            line.request("POST", "/v2/models/cancer/infer", json.dumps({"inputs": [tensor]}))
            answer = line.getresponse()
            document = json.loads(answer.read())
            if answer.status == 200:
                self.told[f"version {document['model_version']}"] += 1
            else:
                self.told["failed by version 3" if "radius" in document["error"] else "lost"] += 1
            time.sleep(0.004)
        line.close()
