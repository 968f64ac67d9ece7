"""A real Prometheus, and a real Alertmanager, on free ports of loopback: started for a test, gone after it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.raw_http import wait_until

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("prometheus-alertmanager") is None,
    reason="Prometheus and Alertmanager are not installed: make prometheus",
)


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str

    def ask(self, path: str, **words: str) -> Any:
        """GET of its API; the member `data` of the answer."""
        query = urllib.parse.urlencode(words)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:  # noqa: S310 - ours
            told = json.loads(answer.read())
        assert told["status"] == "success", told
        return told["data"]

    def query(self, expr: str) -> list[Any]:
        """What an instant query finds."""
        found: list[Any] = self.ask("query", query=expr)["result"]
        return found

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


def free_port() -> int:
    """One that nobody listens on now."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as found:
        return int(found.getsockname()[1])


@contextlib.contextmanager
def prometheus(folder: Path, config: dict[str, Any], *words: str) -> Iterator[Prometheus]:
    """Run one with this configuration."""
    port = free_port()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        *words,
    ]
    with _running(command, folder / "prometheus.log", f"http://127.0.0.1:{port}/-/ready"):
        yield Prometheus(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def alertmanager(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    """Run one with this configuration; its host:port."""
    port = free_port()
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus-alertmanager",
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alerts'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    with _running(command, folder / "alertmanager.log", f"http://127.0.0.1:{port}/-/ready"):
        yield f"127.0.0.1:{port}"


def scraping(target: str, interval: str = "1s", **more: Any) -> dict[str, Any]:
    """A configuration that scrapes one server."""
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "scrape_configs": [{"job_name": "taxiway", "static_configs": [{"targets": [target]}]}],
        **more,
    }


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path, ready: str) -> Iterator[None]:
    with log.open("w") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told)
        try:
            wait_until(lambda: _answers(ready, process, log), f"{command[0]} is ready")
            yield
        finally:
            process.kill()
            process.wait()


def _answers(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - ours
            return bool(answer.status == 200)
    except OSError:
        return False
