"""What is read of a real GPU; skipped where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.support.cuda import BYTES, cuda

from taxiway.telemetry.gpu.nvml import GpusUnavailableError, Nvml
from taxiway.telemetry.gpu.reading import GpuReading


@pytest.fixture
def session() -> Iterator[Nvml]:
    try:
        found = Nvml()
    except GpusUnavailableError as problem:
        pytest.skip(f"there is no GPU here: {problem}")
    yield found
    found.close()


def test_what_it_tells_is_plausible_and_follows_what_it_does(session: Nvml) -> None:
    with cuda() as device:
        session.read()
        device.work(2.0)
        busy = session.read()[0]
    check(busy)
    assert busy.processes.get(os.getpid(), BYTES) >= BYTES


def check(busy: GpuReading) -> None:
    """A GPU that has written to its memory since the last reading."""
    values = busy.values
    assert busy.uuid.startswith("GPU-")
    assert 0 < values["memory_used"] <= values["memory_total"]
    assert values["memory_used"] >= BYTES
    assert 10 < values["power"] < 2000
    assert 10 < values["temperature"] < 110
    assert 1e8 < values["sm_clock"] < 5e9
    assert 0 <= values["utilization"] <= 1
    if "sm" in values:  # Hopper and later
        assert 0.2 < values["sm"] <= 1
        assert 0.2 < values["dram"] <= 1
        assert values["tensor"] < 0.1, "nothing was multiplied"
