"""The demo's second act: models taken into a registry, a file that is refused, and what is served by name."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import lightgbm
import numpy as np
import tritonclient.http as triton
from examples.stage import require, say, serving, stop, title
from sklearn.datasets import load_breast_cancer

PLACE: Final = Path("build/demo-registry").absolute()
PLACES: Final = {"XDG_DATA_HOME": str(PLACE / "data"), "XDG_CACHE_HOME": str(PLACE / "cache")}
CANARY: Final = PLACE / "the-pickle-was-run"

WORDS: Final = '''
import os
import numpy as np

class WordCounter:
    """Counts words; one word kills its process."""
    inputs = {"text": ("BYTES", [-1, 1])}
    outputs = {"words": ("INT64", [-1, 1])}

    def predict(self, text):
        if any(b"abracadabra" in row[0] for row in text):
            os.abort()
        return {"words": np.array([[len(row[0].split())] for row in text])}
'''


class Malicious:
    """A pickle that leaves a file behind if anybody loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


def take_in_and_serve() -> None:
    """Import two models, refuse a third, serve both by name, survive a crash, and say why they are there."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    trees = import_trees()
    import_class()
    refuse_a_pickle()
    with serving("cancer@stable", "words", environment=PLACES) as server:
        with triton.InferenceServerClient(urlsplit(server.http).netloc) as client:
            ask_trees(client, trees)
            survive_a_crash(client)
        stop(server)
    title("taxiway why cancer@stable")
    print("".join(f"  {line}\n" for line in run("why", "cancer@stable").stdout.splitlines()[:8]))


def import_trees() -> lightgbm.Booster:
    """LightGBM's own file: recognised, scanned, converted to ONNX because it is proven to answer the same."""
    title("taxiway import cancer.txt --alias stable")
    rows, labels = load_breast_cancer(return_X_y=True)
    trees: lightgbm.Booster = lightgbm.LGBMClassifier(n_estimators=30, verbose=-1).fit(rows, labels).booster_
    trees.save_model(PLACE / "cancer.txt")
    told = run("import", str(PLACE / "cancer.txt"), "--alias", "stable", "--why", "the first trees")
    require(told.returncode == 0, told.stderr)
    for line in told.stdout.splitlines():
        print(f"  {line}")
    return trees


def import_class() -> None:
    """A plain Python class."""
    title("taxiway import words.py")
    (PLACE / "words.py").write_text(WORDS, encoding="utf-8")
    told = run("import", str(PLACE / "words.py"), "--why", "counts words")
    require(told.returncode == 0, told.stderr)
    say("registered", told.stdout.splitlines()[0])


def refuse_a_pickle() -> None:
    """A file that would run code is refused, says which, and did not run."""
    title("taxiway import surprise.pkl")
    (PLACE / "surprise.pkl").write_bytes(pickle.dumps(Malicious()))
    told = run("import", str(PLACE / "surprise.pkl"), "--why", "somebody sent it")
    say("refused", told.stderr.splitlines()[0][:150])
    require(told.returncode != 0, "a malicious pickle was imported")
    require("system" in told.stderr, f"the refusal does not say what it would run: {told.stderr}")
    require(not CANARY.exists(), "the pickle was run")


def ask_trees(client: Any, trees: lightgbm.Booster) -> None:  # noqa: ANN401 - tritonclient is not typed
    """Every row, compared with what LightGBM itself says."""
    title("Ask the trees, and LightGBM itself")
    rows = load_breast_cancer().data.astype(np.float32)
    question = triton.InferInput("X", list(rows.shape), "FP32")
    question.set_data_from_numpy(rows)
    served = client.infer("cancer", [question]).as_numpy("probabilities")[:, 1]
    worst = float(np.max(np.abs(served - trees.predict(rows))))
    say("compared", f"{len(rows)} probabilities, the largest difference is {worst:.1e}")
    require(worst < 1e-5, "what is served is not what LightGBM says")


def survive_a_crash(client: Any) -> None:  # noqa: ANN401 - tritonclient is not typed
    """A request that kills the process of its model fails alone; the next one is answered by another process."""
    title("A request that kills its model")
    say("words", str(count_words(client, b"to be or not to be")))
    try:
        count_words(client, b"abracadabra")
    except triton.InferenceServerException as problem:
        say("HTTP 500", str(problem.message())[:150])
    else:
        require(False, "a process that died gave an answer")
    began = time.monotonic()
    counted = count_words(client, b"and life goes on")
    say("words", f"{counted}, by the next process, {(time.monotonic() - began) * 1000:.0f} ms later")
    require(counted == 4, f"it counted {counted} words")


def count_words(client: Any, text: bytes) -> int:  # noqa: ANN401 - tritonclient is not typed
    """What the Python class says of a text."""
    question = triton.InferInput("text", [1, 1], "BYTES")
    question.set_data_from_numpy(np.array([[text]], object))
    return int(client.infer("words", [question]).as_numpy("words")[0, 0])


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A `taxiway` command, in a registry of the demo's own."""
    command = [sys.executable, "-m", "taxiway", *words]
    return subprocess.run(command, env={**os.environ, **PLACES}, capture_output=True, text=True, check=False)
