"""Small models in Python, and what runs them in processes of their own."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from tests.support.engines import NoModels

from taxiway.config.autocomplete import autocomplete
from taxiway.config.model_config import new_config
from taxiway.config.model_spec import build_spec
from taxiway.core.clock import SystemClock
from taxiway.server.execution.processes.executor import ProcessExecutor
from taxiway.server.execution.processes.model import HostedModel
from taxiway.server.execution.processes.plan import LaunchPlan, RespawnPlan

POISONABLE = """
class Model:
    inputs = {"x": ("INT64", [-1, 1])}
    outputs = {"y": ("INT64", [-1, 1])}

    def predict(self, x):
        if (x == 99).any():
            raise ValueError("poison")
        return {"y": x * 10}
"""
"""As `onnx_models.poisonable`: ten times what it is given, and an exception for 99."""

MORTAL = """
import os, signal, time

class Model:
    inputs = {"x": ("INT64", [-1, 1])}
    outputs = {"y": ("INT64", [-1, 1])}

    def predict(self, x):
        if (x == 99).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return {"y": x * 10}
"""
"""99 kills its process."""


USUAL = RespawnPlan()


def launch_plan(folder: Path, code: str, *, instances: int = 1, respawn: RespawnPlan = USUAL) -> LaunchPlan:
    """How to start a class in the file `folder/1/predictor.py`, which is written."""
    file = folder / "1" / "predictor.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    return LaunchPlan(
        "class", "model", 1, folder, file, "{}", {}, sys.executable, instances, arena_bytes=64 << 20, respawn=respawn
    )


def hosted_executor(
    folder: Path,
    code: str,
    loop: asyncio.AbstractEventLoop,
    *,
    instances: int = 1,
    respawn: RespawnPlan = USUAL,
    memory_bytes: int = 0,
) -> ProcessExecutor:
    """Processes that run a class, opened and ready."""
    plan = launch_plan(folder, code, instances=instances, respawn=respawn)
    model = HostedModel(replace(plan, memory_bytes=memory_bytes))
    config = new_config()
    config.max_batch_size = 64
    config.backend = "class"
    model.learn(build_spec(autocomplete(config, model.inputs, model.outputs, "model"), folder))
    return model.spread(instances, loop, SystemClock(), NoModels())
