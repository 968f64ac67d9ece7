"""A real Triton 2.51.0, to compare with and to measure against.

In: a cache folder, a Triton model repository whose models use the `python` backend.
Out: a running server on loopback, or `OracleUnavailable` with the reason.
Never: a dependency of taxiway itself. Only tests, benchmarks and people who ask for it come here, so this
module needs nothing but the standard library.

NVIDIA's `nvidia-pytriton` wheel carries the server binary that NVIDIA builds, its Python backend and its
response cache. `ensure_triton` installs that wheel into a virtual environment of its own (it pins numpy below
2), lays the server out as the binary expects it and stamps the result. `TritonServer` runs it.

    python -m tools.oracle_triton          # provision, then print where everything is
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

TRITON_VERSION: Final = "2.51.0"
REQUIREMENTS: Final = ("nvidia-pytriton==0.7.0", "onnxruntime==1.32.0", "numpy<2")
"""onnxruntime 1.32 still loads with numpy 1.26, so both sides of a comparison can run the same one."""

DEFAULT_CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "triton"
STAMP: Final = "stamp.json"
LAYOUT: Final = 1
"""Raise this when the layout below changes, so that older installs are not taken for current ones."""

INSTALL_TIMEOUT_S: Final = 900.0
READY_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.05
START_ATTEMPTS: Final = 3
ENVIRONMENT_NOT_INHERITED: Final = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONSTARTUP")


class OracleUnavailable(RuntimeError):
    """Real Triton cannot be had on this machine; the message says why."""


@dataclasses.dataclass(frozen=True)
class TritonInstall:
    """Where one provisioned Triton lies, and the versions it was built from."""

    root: Path
    library_path: str
    versions: Mapping[str, str]

    @property
    def server(self) -> Path:
        """The `tritonserver` binary."""
        return self.root / "server" / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """The folder for `--backend-directory`; only `python` is there."""
        return self.root / "server" / "backends"

    @property
    def caches(self) -> Path:
        """The folder for `--cache-directory`; only `local` is there."""
        return self.root / "server" / "caches"

    @property
    def python(self) -> Path:
        """The interpreter whose packages (numpy, onnxruntime) a `model.py` sees."""
        return self.root / "venv" / "bin" / "python"

    def environment(self) -> dict[str, str]:
        """The environment to start the server in.

        The stub process finds its packages through the first `python` on PATH, hence the environment's `bin`
        in front, and links against libpython, hence LD_LIBRARY_PATH.
        """
        inherited = {k: v for k, v in os.environ.items() if k not in ENVIRONMENT_NOT_INHERITED}
        path = os.pathsep.join([str(self.python.parent), inherited.get("PATH", os.defpath)])
        return inherited | {"PATH": path, "LD_LIBRARY_PATH": self.library_path}


def ensure_triton(cache: Path = DEFAULT_CACHE) -> TritonInstall:
    """Return the Triton in `cache`, provisioning it first where it is missing.

    Safe to call at any time and from several processes: a lock admits one builder, the build happens in a
    temporary folder beside its destination, and only a complete install is renamed into place.
    """
    _check_platform()
    cache.mkdir(parents=True, exist_ok=True)
    destination = cache.resolve() / _install_name()
    if (found := _load(destination)) is not None:
        return found
    with _exclusive(cache / ".lock"):
        if (found := _load(destination)) is not None:
            return found
        _provision(destination)
    if (found := _load(destination)) is None:
        raise OracleUnavailable(f"the Triton just provisioned in {destination} is incomplete")
    return found


def _check_platform() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise OracleUnavailable(f"nvidia-pytriton has no wheel for {sys.platform} on {platform.machine()}")
    if _libpython_folder() is None:
        raise OracleUnavailable("this Python has no shared libpython, which Triton's Python backend needs")


def _libpython_folder() -> Path | None:
    """The folder of the shared libpython that the running interpreter was built with, if it was."""
    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if not folder or not name or ".so" not in name:
        return None
    candidates = (Path(folder), Path(folder) / (sysconfig.get_config_var("MULTIARCH") or ""))
    return next((c for c in candidates if (c / name).exists()), None)


def _install_name() -> str:
    """A folder name that changes with anything the install depends on."""
    recipe = json.dumps([LAYOUT, REQUIREMENTS, sys.base_prefix, platform.python_version()])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return f"triton-{TRITON_VERSION}-py{sys.version_info.major}.{sys.version_info.minor}-{digest}"


def _load(root: Path) -> TritonInstall | None:
    try:
        stamp = json.loads((root / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    libpython = _libpython_folder()
    libraries = [root / "server" / "libs", *([libpython] if libpython else [])]
    return TritonInstall(root, os.pathsep.join(map(str, libraries)), stamp["versions"])


@contextlib.contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    with lock.open("a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _provision(destination: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=destination.parent) as temporary:
        building = Path(temporary) / "install"
        _install_packages(building / "venv")
        _lay_out_server(building)
        versions = _installed_versions(building / "venv" / "bin" / "python")
        stamp = {"triton": TRITON_VERSION, "python": platform.python_version(), "versions": versions}
        (building / STAMP).write_text(json.dumps(stamp, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(destination, ignore_errors=True)
        building.rename(destination)


def _install_packages(venv: Path) -> None:
    _run([sys.executable, "-m", "venv", str(venv)])
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *REQUIREMENTS])


def _lay_out_server(building: Path) -> None:
    """Move the wheel's server out, and put the stub of this Python where the backend looks for it."""
    packages = _site_packages(building / "venv")
    server, version = building / "server", f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        shutil.move(packages / "pytriton" / "tritonserver", server)
        shutil.move(packages / "nvidia_pytriton.libs", server / "libs")
        stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
        shutil.copy2(stub, server / "backends" / "python")
        shutil.rmtree(server / "python_backend_stubs")
    except OSError as error:
        raise OracleUnavailable(f"nvidia-pytriton carries no server for Python {version}: {error}") from error
    (server / "bin" / "tritonserver").chmod(0o755)
    _run([str(building / "venv" / "bin" / "python"), "-c", "import numpy, onnxruntime"])


def _site_packages(venv: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(venv), "platbase": str(venv)}))


def _installed_versions(python: Path) -> dict[str, str]:
    listed = _run([str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"])
    packages: list[dict[str, str]] = json.loads(listed)
    return {package["name"]: package["version"] for package in packages}


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OracleUnavailable(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        tail = " | ".join(done.stderr.strip().splitlines()[-3:])
        raise OracleUnavailable(f"{' '.join(command)} ended with {done.returncode}: {tail}")
    return done.stdout


class TritonServer:
    """A real Triton serving one repository on loopback, for as long as the `with` block lasts.

    Stopping one that has loaded models takes it ten seconds; after `stop_timeout_s` it is killed.
    """

    def __init__(
        self,
        install: TritonInstall,
        repository: Path,
        *,
        models: Sequence[str] = ("*",),
        log: Path | None = None,
        extra_args: Sequence[str] = (),
        ready_timeout_s: float = READY_TIMEOUT_S,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self.install = install
        self.repository = repository
        self.log = log if log is not None else _new_log(install)
        self._models = tuple(models)
        self._extra_args = tuple(extra_args)
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = (0, 0, 0)
        self._shm_prefix = f"triton_oracle_{uuid.uuid4().hex[:12]}_"

    @property
    def http_port(self) -> int:
        """The port that answers `/v2`."""
        return self._ports[0]

    @property
    def grpc_port(self) -> int:
        """The port that answers gRPC."""
        return self._ports[1]

    @property
    def metrics_port(self) -> int:
        """The port that answers `/metrics`."""
        return self._ports[2]

    @property
    def http_url(self) -> str:
        """Where `/v2` is, without a trailing slash."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        """The gRPC target, `host:port`."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """The Prometheus page."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def ended_within(self, seconds: float) -> int | None:
        """The exit status (negative: the signal) if the server is gone within that time, else None."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    @property
    def pid(self) -> int:
        """The process of the server itself; each model instance has a stub process below it."""
        if self._process is None:
            raise RuntimeError("Triton is not running; enter the `with` block first")
        return self._process.pid

    def __enter__(self) -> Self:
        for attempt in range(1, START_ATTEMPTS + 1):
            self._ports = _free_ports()
            self._process = self._spawn()
            try:
                self._wait_ready(self._process)
            except OracleUnavailable:
                self._stop()
                if attempt == START_ATTEMPTS or not self._lost_a_port():
                    raise
            except BaseException:
                self._stop()
                raise
            else:
                return self
        raise AssertionError("unreachable: the last attempt returns or raises")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _command(self) -> list[str]:
        http, grpc, metrics = self._ports
        return [
            str(self.install.server),
            f"--model-repository={self.repository}",
            f"--backend-directory={self.install.backends}",
            f"--cache-directory={self.install.caches}",
            "--cache-config=local,size=1048576",
            "--http-address=127.0.0.1",
            f"--http-port={http}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={grpc}",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={metrics}",
            "--allow-gpu-metrics=false",
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in self._models),
            "--exit-timeout-secs=10",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            *self._extra_args,
        ]

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the server in a session of its own, so that a stop can reach its stub processes too."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.install.environment(),
                start_new_session=True,
            )

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return once the server answers ready; its end, or the timeout, is `OracleUnavailable`."""
        deadline = time.monotonic() + self._ready_timeout_s
        while not _is_ready(self.http_port):
            with contextlib.suppress(subprocess.TimeoutExpired):
                ended = process.wait(timeout=POLL_S)
                raise OracleUnavailable(f"Triton ended with {ended} while it started; its log is {self.log}")
            if time.monotonic() > deadline:
                waited = f"{self._ready_timeout_s:g} s"
                raise OracleUnavailable(f"Triton was not ready within {waited}; its log is {self.log}")

    def _lost_a_port(self) -> bool:
        """Whether the start failed because somebody took one of the ports found free."""
        text = self.log.read_text(encoding="utf-8", errors="replace").lower()
        return "already in use" in text or "failed to start http service" in text or "unable to bind" in text

    def _stop(self) -> None:
        """Ask, wait, and only then kill the whole process group, so that no stub outlives the server."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=self._stop_timeout_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for region in Path("/dev/shm").glob(f"{self._shm_prefix}*"):  # noqa: S108 (a crash leaves them behind)
            region.unlink(missing_ok=True)


def _new_log(install: TritonInstall) -> Path:
    logs = install.root.parent / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="triton-", suffix=".log", dir=logs)
    os.close(handle)
    return Path(name)


def _free_ports() -> tuple[int, int, int]:
    """Three ports free on loopback; held together while they are chosen, so they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        http, grpc, metrics = (int(one.getsockname()[1]) for one in sockets)
        return http, grpc, metrics


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _describe(install: TritonInstall) -> dict[str, Any]:
    return {
        "triton": TRITON_VERSION,
        "server": str(install.server),
        "backends": str(install.backends),
        "caches": str(install.caches),
        "python": str(install.python),
        "library_path": install.library_path,
        "onnxruntime": install.versions["onnxruntime"],
        "numpy": install.versions["numpy"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Provision Triton and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m tools.oracle_triton", description="Provision a Triton.")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder to provision into")
    options = parser.parse_args(arguments)
    try:
        install = ensure_triton(options.cache)
    except OracleUnavailable as error:
        print(f"real Triton cannot be had: {error}", file=sys.stderr)
        return 1
    print(json.dumps(_describe(install), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
