"""The demo's third act: one version after another rolled out while it is asked, and a bad one turned back."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import lightgbm
import numpy as np
import tritonclient.http as triton
from examples.registered import PLACE, PLACES, run
from examples.stage import Running, require, say, serving, stop, title
from sklearn.datasets import load_breast_cancer

_QUICK: Final = ("--set", "min_step_s=1", "--set", "settle_s=0.2", "--set", "guard_for_s=1")
_GUARD: Final = ("--set", "guards.metrics=[{metric: errors, margin: 0.5, absolute_floor: 0.02}]")
_RATE: Final = 400.0


def roll_out() -> None:
    """Promote trees that are as good, turn back those that fail, and undo."""
    register_more()
    with serving("cancer@stable", environment=PLACES, control=True) as server:
        with Asking(server) as asking:
            promote_the_good(server, asking)
            turn_back_the_failing(server, asking)
            undo(server, asking)
        require(not asking.lost, f"requests were lost: {asking.lost[:3]}")
        say("asked", f"{sum(asking.answers.values())} times: {dict(sorted(asking.answers.items()))}; none was lost")
        stop(server)
    title("taxiway why cancer@stable")
    print("".join(f"  {line}\n" for line in run("why", "cancer@stable").stdout.splitlines()[:8]))
