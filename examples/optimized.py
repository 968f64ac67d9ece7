"""The demo's fourth act: a registered network made faster under a promise, and its latency measured under load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from examples.stage import require, say, title
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

PLACE: Final = Path("build/demo-optimize").absolute()
PLACES: Final = {"XDG_DATA_HOME": str(PLACE / "data"), "XDG_CACHE_HOME": str(PLACE / "cache")}
ALLOWED: Final = "2%"


def optimize_and_profile() -> None:
    """Register a network, optimize it on data that it has not learnt from, and put the variant under load."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    train()
    run("import", str(PLACE / "digits.onnx"), "--name", "digits", "--why", "the demo's network")
    title(f"taxiway optimize digits:1 --data calib.npz --max-drop {ALLOWED}")
    words = ("digits:1", "--data", str(PLACE / "calib.npz"), "--output-tensor", "label", "--max-drop", ALLOWED)
    told = json.loads(run("optimize", *words, "--report", str(PLACE / "report.html"), "--output", "json").stdout)
    variant = told["recommended"]
    require(bool(variant), f"no variant keeps the promise: {told['outcome']}")
    best = next(one for one in told["trials"] if one["recipe"] and one["fate"] == "recommended")
    verdict = best["verdict"]
    say(variant, f"{best['speed']:.2f} times as fast, {told['baseline']['size'] / best['size']:.2f} times smaller")
    say(
        "promise",
        f"{verdict['answer']}: at most {verdict['upper']:.2%} of accuracy lost, on {verdict['samples']} samples",
    )
    say("report", str((PLACE / "report.html").relative_to(Path.cwd())))
    require(verdict["answer"] == "kept", "it was recommended without a proof")
    profile(next(one["place"] for one in told["delivered"] if one["name"] == variant))


def train() -> None:
    """A network on the first digits; the others are for `taxiway optimize`."""
    rows, labels = load_digits(return_X_y=True)
    rows = (rows / 16.0).astype(np.float32)
    network = MLPClassifier((512, 512), tol=0.02, random_state=0).fit(rows[:600], labels[:600])
    exported = to_onnx(network, rows[:1], options={"zipmap": False})
    (PLACE / "digits.onnx").write_bytes(exported.SerializeToString())
    np.savez(PLACE / "calib.npz", X=rows[600:], label=labels[600:])


def profile(place: str) -> None:
    """Two seconds of an open loop; what may not be believed says so itself, and is not held against a busy machine."""
    title(f"taxiway profile {place} --rate 300")
    words = (place, "--rate", "300", "--duration", "2s", "--warm-up", "500ms", "--json", str(PLACE / "profile.json"))
    done = run("profile", *words, may_end_with=(0, 7))
    told: dict[str, Any] = json.loads((PLACE / "profile.json").read_text(encoding="utf-8"))
    for line in done.stdout.splitlines()[:9]:
        say("", line)
    require(bool(told), "the profile is empty")


def run(*words: str, may_end_with: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """One verb, with the demo's own places."""
    command = [sys.executable, "-m", "taxiway", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | PLACES)
    require(done.returncode in may_end_with, f"taxiway {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return done
