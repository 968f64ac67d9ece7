from __future__ import annotations

from pathlib import Path

import pytest

from taxiway.telemetry.host import HostSampler, build_point

MEMINFO = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n"


def _write(proc: Path, stat: str, meminfo: str = MEMINFO) -> None:
    (proc / "stat").write_text(stat)
    (proc / "meminfo").write_text(meminfo)


def _values(sampler: HostSampler) -> dict[str, float]:
    return {point.family.name: point.value for point in sampler.points()}  # type: ignore[misc]  # gauges


def test_utilization_is_the_busy_share_since_the_call_before(tmp_path: Path) -> None:
    sampler = HostSampler(tmp_path)
    _write(tmp_path, "cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1 1\n")
    assert _values(sampler)["nv_cpu_utilization"] == pytest.approx(0.2)
    _write(tmp_path, "cpu  60 0 10 110 20 0 0 0 99 0\n")
    assert _values(sampler)["nv_cpu_utilization"] == pytest.approx(0.5)
    assert _values(sampler)["nv_cpu_utilization"] == pytest.approx(0.5), "no tick has passed"


def test_memory_is_in_bytes_and_used_is_what_is_not_available(tmp_path: Path) -> None:
    _write(tmp_path, "cpu 1 1 1 1\n")
    values = _values(HostSampler(tmp_path))
    assert values["nv_cpu_memory_total_bytes"] == 1_024_000
    assert values["nv_cpu_memory_used_bytes"] == 614_400


@pytest.mark.parametrize("stat", ["", "intr 1 2\n", "cpu a b c d\n", "cpu 1\n"])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, stat: str) -> None:
    assert _values(HostSampler(tmp_path)) == {}
    _write(tmp_path, stat, "MemTotal: 5 kB\n")
    assert _values(HostSampler(tmp_path)) == {}


def test_this_machine_can_be_read() -> None:
    values = _values(HostSampler())
    assert 0 <= values["nv_cpu_utilization"] <= 1
    assert 0 < values["nv_cpu_memory_used_bytes"] < values["nv_cpu_memory_total_bytes"]


def test_the_build_names_its_version() -> None:
    point = build_point("1.2.3")
    assert point.labels[0] == "1.2.3"
    assert point.value == 1
