"""The profiler against a real Triton: every wire that both speak, with its statistics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.oracle_triton import OracleUnavailable, TritonServer, ensure_triton

from taxiway.profile.arrivals import Constant
from taxiway.profile.outcome import Profile
from taxiway.profile.plan import Plan
from taxiway.profile.running import run_profile
from taxiway.profile.targets.finding import find_target
from taxiway.profile.wishes import Wishes

CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
instance_group { kind: KIND_CPU }
"""
CODE = """
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb.InferenceResponse([pb.Tensor("y", pb.get_input_tensor_by_name(one, "x").as_numpy() * 2)])
            for one in requests
        ]
"""


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    try:
        install = ensure_triton()
    except OracleUnavailable as reason:
        pytest.skip(f"no Triton: {reason}")
    repository = tmp_path_factory.mktemp("repository")
    version = repository / "doubler" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(CODE)
    (version.parent / "config.pbtxt").write_text(f'name: "doubler"\n{CONFIG}')
    log: Path = tmp_path_factory.mktemp("log") / "triton.log"
    with TritonServer(install, repository, log=log) as server:
        yield server


@pytest.mark.parametrize("wire", ["http", "binary", "grpc"])
def test_triton_is_measured(triton: TritonServer, wire: str) -> None:
    word = f"grpc://{triton.grpc_url}/doubler" if wire == "grpc" else f"{triton.http_url}/v2/models/doubler"

    async def run() -> Profile:
        target = find_target(word, Wishes(binary=wire == "binary"))
        await target.open()
        return await run_profile(Plan(Constant(), 1.0, 0.5, warm_up_s=0.0, concurrency=2), target)

    profile = asyncio.run(run())
    assert profile.errors == {}, profile.examples
    assert profile.answered > 10
    assert profile.phases is not None
    assert profile.phases.requests >= profile.answered
    assert 0 < profile.phases.by_phase["compute_infer"] <= profile.phases.server_ms
    assert profile.usage is None or profile.usage.processes >= 1
