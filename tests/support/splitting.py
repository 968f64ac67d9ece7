"""A service of two versions in one process, its traffic set as the control plane would, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.flow.serving import Answer, Server, serve
from tests.support.numbered_models import adder, version_file

from taxiway.core.traffic import Arm, ArmCounts, Report, Traffic

SERVICE = "pay"
CONFIG = "version_policy { all {} }\nmax_batch_size: 8\n"


@contextmanager
def two_versions(tmp_path: Path, **flags: object) -> Iterator[Server]:
    """Versions 1 and 2 of a model that adds its own number."""
    for number in (1, 2):
        adder(version_file(tmp_path, SERVICE, number), number)
    (tmp_path / SERVICE / "config.pbtxt").write_text(CONFIG)
    with serve(tmp_path, **flags) as server:
        yield server


def traffic(share: float, generation: int = 1, **more: Any) -> Traffic:
    """Version 2 is the candidate, with this share; version 1 has the rest."""
    arms = (Arm("control", SERVICE, 1, 1 - share), Arm("candidate", SERVICE, 2, share))
    said: dict[str, Any] = {"segment": generation, "salt": "salt", "arms": arms, "default": "control", **more}
    return Traffic(SERVICE, said.pop("rollout", "r-1"), generation, **said)


def do(server: Server, verb: str, words: Any) -> Any:
    """Have the data plane do one of its verbs."""
    work = server.plane.traffic.verbs()[verb](words)
    return asyncio.run_coroutine_threadsafe(work, server.loop).result(10)  # type: ignore[arg-type]


def set_traffic(server: Server, wanted: Traffic) -> None:
    """From when this returns."""
    do(server, "traffic_set", msgspec.to_builtins(wanted))


def report(server: Server) -> Report:
    """What the data plane has to say."""
    return msgspec.convert(do(server, "traffic_report", {"service": SERVICE}), Report)


def counts_of(told: Report) -> dict[str, ArmCounts]:
    """By arm, of the segment that came last."""
    return {counts.arm: counts for counts in sorted(told.counts, key=lambda one: one.segment)}


def infer(server: Server, headers: dict[str, str] | None = None, value: float = 10.0, **more: Any) -> Answer:
    """Ask once."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [value]}], **more}
    return server.ask("POST", f"/v2/models/{SERVICE}/infer", body, headers)


def version_of(answer: Answer) -> int:
    """Which version answered, which its answer has to say as well."""
    told = answer.json()
    version = int(told["model_version"])
    assert told["outputs"][0]["data"] == [10.0 + version]
    return version
