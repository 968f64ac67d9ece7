"""A server process that tells its callers apart: how it starts, what it says and writes, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support import onnx_models
from tests.support.certificates import Authority, swap_link
from tests.support.raw_http import PATIENCE_S, wait_until

CURL = shutil.which("curl")
PORTS = ("--http.port", 0, "--metrics.port", 0, "--grpc.port", 0, "--control.port", 0)
ASKED = '{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    return folder


def _taxiway(*words: object) -> list[str]:
    return [sys.executable, "-m", "taxiway", *map(str, words)]


def _told(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_taxiway(*words), capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@contextmanager
def _serving(log: Path, *words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the front door's address; what it logs goes to `log`."""
    command = _taxiway(
        "serve",
        *PORTS,
        "--no-grpc.enabled",
        "--no-control.enabled",
        "--limits.drain-delay-s",
        0,
        *words,
        "--log.format",
        "json",
    )
    with log.open("w") as file, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().rsplit(maxsplit=1)[-1]
        finally:
            process.kill()


def _curl(*words: object) -> str:
    command = ["curl", "-s", "--max-time", "20", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0


def test_broken_files_stop_the_start_and_say_where(models: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys:\n- name: a\n  sha256: short\n  scopes: [everything]\n")
    told = _told("serve", models, *PORTS, "--auth.keys-file", keys)
    assert told.returncode == 2
    assert f"{keys}:3:3: keys[0].sha256" in told.stderr
    assert f"{keys}:4:12: keys[0].scopes[0] = 'everything'" in told.stderr
    assert "Traceback" not in told.stderr

    certificate = tmp_path / "tls.crt"
    told = _told("serve", models, *PORTS, "--tls.certificate", certificate, "--tls.key", keys)
    assert told.returncode == 2
    assert f"tls.certificate = '{certificate}': cannot be read: No such file or directory" in told.stderr
    assert f"tls.key = '{keys}': holds no private key in PEM" in told.stderr
    assert "Traceback" not in told.stderr


def test_beyond_loopback_nobody_is_served_unasked(models: Path) -> None:
    told = _told("serve", models, *PORTS, "--http.host", "0.0.0.0")  # noqa: S104
    assert told.returncode == 2
    assert "auth.keys_file" in told.stderr


@pytest.mark.skipif(CURL is None, reason="curl is not installed (Debian: apt-get install curl)")
def test_from_a_new_key_to_a_clean_end(models: Path, tmp_path: Path) -> None:
    """The commands that docs/security.md tells of, on every kind of line at once."""
    keys, door, log = tmp_path / "keys.yaml", tmp_path / "http.sock", tmp_path / "log"
    authority = Authority(tmp_path / "ca.pem")
    live = tmp_path / "live"
    for name in ("one", "two"):
        authority.issue(tmp_path / name)
    live.symlink_to(tmp_path / "one")
    key = _told("keys", "new", "shop", "--scope", "infer", "--model", "dou*", "--file", keys).stdout.strip()
    words = ("--auth.keys-file", keys, "--tls.certificate", live / "tls.crt", "--tls.key", live / "tls.key")
    with _serving(log, models, *words, "--http.unix-socket", door, "--log.access") as (process, url):
        asking = ("--cacert", authority.path, "-d", ASKED, f"{url}/v2/models/double/infer")
        assert url.startswith("https://127.0.0.1:")
        assert json.loads(_curl("-H", f"X-API-Key: {key}", *asking))["outputs"][0]["data"] == [2, 4]
        assert json.loads(_curl(*asking))["code"] == "unauthenticated"
        plain = ("--unix-socket", door, "http://localhost/v2/models/double/infer", "-d", ASKED)
        for _ in range(20):
            assert "outputs" in _curl("-H", f"Authorization: Bearer {key}", *plain)
        swap_link(live, tmp_path / "two")
        wait_until(lambda: any(line["event"] == "reloaded" for line in _lines(log)), "the certificate is read again")
        assert json.loads(_curl("--cacert", authority.path, f"{url}/v2/health/ready")) == {"ready": True}
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert not door.exists()
    access = [line for line in _lines(log) if line["event"] == "request"]
    assert [(line["peer"] == "unix", line["status"], line.get("caller")) for line in access] == [
        (False, 200, "shop"),
        (False, 401, None),
        *[(True, 200, "shop")] * 20,
        (False, 200, None),
    ]
    assert key not in log.read_text()


def test_a_socket_that_a_killed_server_left_is_taken_over(models: Path, tmp_path: Path) -> None:
    door = tmp_path / "http.sock"
    with _serving(tmp_path / "log", models, "--http.unix-socket", door) as (process, _):
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
        wait_until(lambda: not _listens(door), "its workers have followed it")
        assert door.exists()
    with _serving(tmp_path / "log", models, "--http.unix-socket", door) as (process, url):
        assert url.startswith("http://")
        told = _told("serve", models, *PORTS, "--http.unix-socket", door)
        assert told.returncode == 4
        assert "another process listens on it" in told.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert not door.exists()


def test_handshakes_that_fail_are_in_our_log_or_in_none(models: Path, tmp_path: Path) -> None:
    """grpcio would write a line of its own for each, in its own form, as many as anybody likes."""
    pair = Authority(tmp_path / "ca.pem").issue(tmp_path / "server")
    words = ("--tls.certificate", pair.certificate, "--tls.key", pair.key, "--grpc.enabled")
    with _serving(tmp_path / "log", models, *words) as (process, url):
        assert process.stdout is not None
        _, grpc = process.stdout.readline(), process.stdout.readline().rsplit(maxsplit=1)[-1]
        for address in (url, grpc):
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), PATIENCE_S) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while plain.recv(4096):
                    pass
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    failed = [line for line in _lines(tmp_path / "log") if "handshake" in str(line).lower()]
    assert [(line["event"], line["reason"]) for line in failed] == [("handshake_failed", "http request")]
