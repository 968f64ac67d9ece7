"""GPUs of a real server, through NVIDIA's real binding, on a library that says what a test says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from tests.support.nvml import H100, Stub, build, needs_compiler
from tests.support.onnx_models import doubler
from tests.support.raw_http import Process, Raw, request, serve_process, wait_until

pytestmark = needs_compiler

GPU = 'gpu="0",gpu_uuid="GPU-aaaa",instance_id=""'
DCGM = (
    'gpu="0",UUID="GPU-aaaa",pci_bus_id="00000000:07:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",'
    f'Hostname="{os.uname().nodename}",DCGM_FI_DRIVER_VERSION="570.1"'
)
MIG = {
    "uuid": "MIG-1",
    "id": 5,
    "slices": 1,
    "slice_mb": 9984,
    "memory_total": 10 << 30,
    "memory_used": 2 << 30,
    "gpm5": 7.0,
}


@contextmanager
def serving(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **flags: object) -> Iterator[Process]:
    for name, value in stub.environ.items():
        monkeypatch.setenv(name, value)
    settings = {"monitoring.gpu.interval-s": 0.1, "log.level": "error", **flags}
    with serve_process(doubler(tmp_path / "double.onnx"), **settings) as server:
        yield server


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    folder = tmp_path / "nvml"
    folder.mkdir()
    return build(folder, H100)


def test_a_gpu_is_told_in_three_dialects(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(stub, tmp_path, monkeypatch) as server:
        wait_until(lambda: f"taxiway_gpu_tensor_activity_ratio{{{GPU}}}" in server.metrics(), "two samples were taken")
        told = server.metrics()
        assert told["taxiway_gpu_up"] == 1
        ours = {
            "sm_activity_ratio": 0.725,
            "tensor_activity_ratio": 0.41,
            "kernel_time_ratio": 1.0,
            "memory_used_bytes": 20 << 30,
            "power_watts": 350.5,
            "energy_joules_total": 5_000_000,
            "temperature_celsius": 56,
            "sm_clock_hertz": 1.98e9,
            "throttled": 0,
            "pcie_received_bytes_per_second": 200 << 20,
            "xid_errors_total": 0,
        }
        assert {name: told[f"taxiway_gpu_{name}{{{GPU}}}"] for name in ours} == pytest.approx(ours)
        tritons = {
            "nv_gpu_utilization": 1.0,
            "nv_gpu_memory_total_bytes": 80 << 30,
            "nv_gpu_memory_used_bytes": 20 << 30,
            "nv_gpu_power_usage": 350.5,
            "nv_gpu_power_limit": 700,
            "nv_energy_consumption": 5_000_000,
        }
        assert {name: told[f'{name}{{gpu_uuid="GPU-aaaa"}}'] for name in tritons} == pytest.approx(tritons)
        dcgm = {
            "DEV_GPU_TEMP": 56,
            "DEV_POWER_USAGE": 350.5,
            "DEV_SM_CLOCK": 1980,
            "DEV_GPU_UTIL": 100,
            "DEV_FB_USED": 20 << 10,
            "DEV_FB_FREE": 59 << 10,
            "DEV_TOTAL_ENERGY_CONSUMPTION": 5e9,
            "PROF_PIPE_TENSOR_ACTIVE": 0.41,
            "DEV_XID_ERRORS": 0,
        }
        assert {name: told[f"DCGM_FI_{name}{{{DCGM}}}"] for name in dcgm} == pytest.approx(dcgm)
        with Raw(server.metrics_address) as connection:
            accept = "Accept: application/openmetrics-text; version=1.0.0"
            body = connection.send(request("GET", "/metrics", None, accept)).reply().body.decode()
        families = {family.name: family.type for family in read_openmetrics(body)}  # type: ignore[no-untyped-call]
        assert families["nv_energy_consumption"] == "unknown"
        assert families["taxiway_gpu_energy_joules"] == "counter"


def test_what_a_device_does_not_say_is_not_zero(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {key: H100[key] for key in ("uuid", "name", "bus_id", "utilization", "memory_utilization", "temperature")}
    blank = {
        **H100,
        "uuid": "GPU-bbbb",
        "power": 0x7FFFFFF0,
        "energy": 0x7FFFFFFFFFFFFFF2,
        "gpm2": 9.2e18,
        "sm_clock": 0x7FFFFFF0,
    }
    stub.gpus = [{**old}, blank]
    stub.say()
    with serving(stub, tmp_path, monkeypatch) as server:
        wait_until(lambda: any('"GPU-bbbb"' in name and "tensor" in name for name in server.metrics()), "it is read")
        told = server.metrics()
        first = {name.partition("{")[0] for name in told if '"GPU-aaaa"' in name}
        assert "taxiway_gpu_kernel_time_ratio" in first
        assert not first & {"taxiway_gpu_power_watts", "taxiway_gpu_sm_activity_ratio", "taxiway_gpu_memory_used_bytes"}
        second = {name.partition("{")[0] for name in told if '"GPU-bbbb"' in name}
        assert "taxiway_gpu_memory_used_bytes" in second
        missing = {"taxiway_gpu_power_watts", "taxiway_gpu_energy_joules_total", "taxiway_gpu_sm_activity_ratio"}
        assert not second & {*missing, "taxiway_gpu_sm_clock_hertz", "DCGM_FI_DEV_SM_CLOCK"}


def test_instances_of_a_divided_gpu(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {key: value for key, value in H100.items() if key not in {"utilization", "memory_utilization"}}
    stub.gpus = [{**whole, "mig": 1, **{f"mig1.{key}": value for key, value in MIG.items()}}]
    stub.say()
    with serving(stub, tmp_path, monkeypatch) as server:
        own = 'gpu="0",gpu_uuid="GPU-aaaa",instance_id="5"'
        wait_until(lambda: f"taxiway_gpu_tensor_activity_ratio{{{own}}}" in server.metrics(), "it is sampled")
        told = server.metrics()
        assert told[f"taxiway_gpu_tensor_activity_ratio{{{own}}}"] == pytest.approx(0.07)
        assert told[f"taxiway_gpu_memory_used_bytes{{{own}}}"] == 2 << 30
        mig = f'{DCGM},GPU_I_PROFILE="1g.10gb",GPU_I_ID="5"'
        assert told[f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{mig}}}"] == pytest.approx(0.07)
        assert not any(name.startswith("DCGM_FI_DEV_GPU_UTIL") for name in told), "by NVIDIA's design there is none"


def test_errors_loss_and_return(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(stub, tmp_path, monkeypatch) as server:
        wait_until(lambda: server.metrics().get("taxiway_gpu_up") == 1, "it is there")
        stub.gpus[0] |= {"xids": 2, "xid": 79}
        stub.say()
        wait_until(lambda: server.metrics().get(f"taxiway_gpu_xid_errors_total{{{GPU}}}") == 2, "errors are counted")
        assert server.metrics()[f"taxiway_gpu_last_xid{{{GPU}}}"] == 79
        stub.say(lost=1)
        wait_until(lambda: server.metrics()["taxiway_gpu_up"] == 0, "it is lost")
        assert not any(name.startswith(("taxiway_gpu_power", "DCGM_", "nv_gpu")) for name in server.metrics())
        stub.gpus.append({**H100, "uuid": "GPU-cccc"})
        stub.say()
        wait_until(lambda: any('"GPU-cccc"' in name for name in server.metrics()), "it is back, and another one")
        stub.gpus.pop()
        stub.say()
        wait_until(lambda: not any('"GPU-cccc"' in name for name in server.metrics()), "one was taken away")


def test_a_driver_that_hangs_delays_no_scrape(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(stub, tmp_path, monkeypatch) as server:
        wait_until(lambda: server.metrics().get("taxiway_gpu_up") == 1, "it is there")
        stub.say(hang=1)
        wait_until(lambda: server.metrics()["taxiway_gpu_up"] == 0, "what was read is old")
        assert server.metrics()["taxiway_gpu_late_reads_total"] == 1
        stub.say()
        wait_until(lambda: server.metrics()["taxiway_gpu_up"] == 1, "it answers again")
        stub.say(hang=1)  # and the server ends all the same


def test_dcgms_names_are_left_to_dcgm_exporter(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(stub, tmp_path, monkeypatch, **{"monitoring.gpu.dcgm": False}) as server:
        wait_until(lambda: server.metrics().get("taxiway_gpu_up") == 1, "it is there")
        assert not any(name.startswith("DCGM_") for name in server.metrics())


@pytest.mark.parametrize("said", ["", "gpus=0\n"])
def test_without_gpus_nothing_is_told(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    (stub.folder / "said").write_text(said)
    with serving(stub, tmp_path, monkeypatch) as server:
        assert not [name for name in server.metrics() if "gpu" in name.lower()]
