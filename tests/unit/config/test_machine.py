"""What the cgroup grants, read from files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taxiway.config import machine


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "0::/kube/pod\n"
V1 = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        (V2, {}, None),
        (V2, {"kube/pod/cpu.max": "max 100000"}, None),
        (V2, {"kube/pod/cpu.max": "150000 100000"}, 1.5),
        (V2, {"kube/pod/cpu.max": "max 100000", "kube/cpu.max": "200000 100000"}, 2.0),
        (V2, {"kube/pod/cpu.max": "400000 100000", "kube/cpu.max": "200000 100000"}, 2.0),
        (V2, {"cpu.max": "50000 100000"}, 0.5),  # the mount is our own group
        (V2, {"kube/pod/cpu.max": "nonsense"}, None),
        (V2, {"kube/pod/cpu.max": "0 0"}, None),
        (V1, {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1"}, None),
        (
            V1,
            {
                "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            },
            3.0,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
        ("0::/../../other\n", {"cpu.max": "100000 100000"}, 1.0),
        ("0::/..\n", {"../cpu.max": "100000 100000"}, None),
        ("", {"cpu.max": "100000 100000"}, None),
        ("garbage", {}, None),
    ],
)
def test_cpu_quota(tmp_path: Path, membership: str, files: dict[str, str], quota: float | None) -> None:
    root = write(tmp_path / "cgroup", files)
    me = tmp_path / "self"
    me.write_text(membership)
    assert machine.cpu_quota(root, me) == quota


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        (V2, {}, None),
        (V2, {"kube/pod/memory.max": "max"}, None),
        (V2, {"kube/pod/memory.max": "1048576\n"}, 1048576),
        (V2, {"kube/pod/memory.max": "1048576", "kube/memory.max": "4096"}, 4096),
        (V1, {"memory/docker/abc/memory.limit_in_bytes": "9223372036854771712"}, None),
        (V1, {"memory/docker/abc/memory.limit_in_bytes": "8192"}, 8192),
        (V1, {"memory/memory.limit_in_bytes": "8192"}, 8192),
    ],
)
def test_memory_quota(tmp_path: Path, membership: str, files: dict[str, str], limit: int | None) -> None:
    root = write(tmp_path / "cgroup", files)
    me = tmp_path / "self"
    me.write_text(membership)
    assert machine.memory_quota_bytes(root, me) == limit


@pytest.mark.parametrize(
    ("quota", "affinity", "cpus"),
    [("max 100000", 8, 8), ("150000 100000", 8, 2), ("900000 100000", 4, 4), ("10000 100000", 4, 1)],
)
def test_available_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, affinity: int, cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(affinity)))
    me = tmp_path / "self"
    me.write_text("0::/\n")
    assert machine.available_cpus(write(tmp_path / "cgroup", {"cpu.max": quota}), me) == cpus


def test_memory_limit_is_the_machines_where_nothing_limits_it(tmp_path: Path) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.memory_limit_bytes(tmp_path, tmp_path / "none") == physical
    me = tmp_path / "self"
    me.write_text("0::/\n")
    assert machine.memory_limit_bytes(write(tmp_path / "cgroup", {"memory.max": "4096"}), me) == 4096


def test_this_machine_answers() -> None:
    assert machine.available_cpus() >= 1
    assert machine.memory_limit_bytes() > 0


@pytest.mark.parametrize("module", ["machine", "model_config", "autocomplete", "model_spec", "model_defaults"])
def test_pydantic_is_not_imported(module: str) -> None:
    code = f"import sys, taxiway.config.{module}; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
