"""Both servers of the comparison, started once per session, and a client that sends requests as they are."""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest
from hypothesis import HealthCheck, Phase, settings
from tests.oracle.compare import (
    DEVIATIONS,
    NO_ANSWER,
    Answer,
    Deviation,
    Exchange,
    differences,
    load_deviations,
)
from tests.oracle.models import write_repositories
from tests.oracle.requests import Request
from tools.oracle_triton import OracleUnavailable, TritonInstall, TritonServer, ensure_triton

ROOT: Final = DEVIATIONS.parent
ANSWER_TIMEOUT_S: Final = 10.0
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.05

REPORT: Final = pytest.StashKey[list[str]]()

# Nothing is shrunk or remembered: the smallest request of each kind of difference is reported instead, and the
# same seed gives the same requests on every machine.
settings.register_profile(
    "oracle",
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The size of the run, its seed, and whom to compare."""
    group = parser.getgroup("oracle", "real Triton against taxiway")
    group.addoption("--oracle-examples", type=int, default=400, help="how many different requests to compare")
    group.addoption("--oracle-seed", type=int, default=0, help="another seed, other requests")
    group.addoption(
        "--oracle-against",
        choices=["taxiway", "triton"],
        default="taxiway",
        help="`triton` compares two real ones: the comparer's own noise",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make room for what the summary prints."""
    config.stash[REPORT] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many requests were compared, passed or failed."""
    for line in config.stash.get(REPORT, []):
        terminalreporter.write_line(line)


class Client:
    """Sends requests as they are over one kept connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, request: Request) -> Answer:
        """The answer; a connection that turns out to be closed is replaced once."""
        fresh = self._connection is None
        try:
            return self._exchange(request)
        except (ConnectionError, http.client.HTTPException) as error:
            self.close()
            return Answer(NO_ANSWER, note=type(error).__name__) if fresh else self.ask(request)
        except TimeoutError:
            self.close()
            return Answer(NO_ANSWER, note="no answer in time")

    def _exchange(self, request: Request) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_TIMEOUT_S)
        connection = self._connection
        chunked = ("Transfer-Encoding", "chunked") in request.headers
        connection.putrequest(request.method, request.path, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        if not chunked and (request.body or request.method in {"POST", "PUT", "PATCH"}):
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body, encode_chunked=chunked)
        with connection.getresponse() as response:
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())

    def close(self) -> None:
        """Forget the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class TaxiwayServer:
    """`taxiway serve --compat triton` for one repository, for as long as the `with` block lasts."""

    def __init__(self, repository: Path, log: Path) -> None:
        self._repository = repository
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.http_port = 0

    def __enter__(self) -> Self:
        self.http_port, metrics = _free_ports()
        command = [sys.executable, "-m", "taxiway", "serve", str(self._repository), "--compat", "triton"]
        command += ["--http.port", str(self.http_port), "--metrics.port", str(metrics), "--grpc.port", "0"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        try:
            self._wait_ready(self._process)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        client, deadline = Client(self.http_port), time.monotonic() + START_TIMEOUT_S
        while client.ask(Request("GET", "/v2/health/ready")).status != http.client.OK:
            with contextlib.suppress(subprocess.TimeoutExpired):
                ended = process.wait(timeout=POLL_S)
                said = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
                pytest.fail(f"taxiway ended with {ended} while it started:\n{said}", pytrace=False)
            if time.monotonic() > deadline:
                pytest.fail(f"taxiway was not ready within {START_TIMEOUT_S:g} s", pytrace=False)
        client.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class RestartedTriton:
    """A real Triton that is started again when a request has killed it."""

    def __init__(self, start: Callable[..., TritonServer], *models: str) -> None:
        self._start = functools.partial(start, *(models or ("*",)))
        self._stack = contextlib.ExitStack()
        self._open()

    def _open(self) -> None:
        self._server = self._stack.enter_context(self._start())
        self._client = Client(self._server.http_port)

    def ask(self, request: Request) -> Answer:
        """The answer; a death is told in its note, and the next request finds another server."""
        answer = self._client.ask(request)
        if answer.status != NO_ANSWER:
            return answer
        self._client.close()
        ended = self._server.ended_within(1.0)
        if ended is None:
            return answer
        print(f"real Triton died ({ended}) of {request}", file=sys.stderr)
        self.close()
        self._open()
        return Answer(NO_ANSWER, note=f"the server died: {ended}")

    def close(self) -> None:
        """Stop the server."""
        self._client.close()
        self._stack.close()


class Pair:
    """The two servers under comparison."""

    def __init__(self, triton: RestartedTriton, other: Client | RestartedTriton) -> None:
        self._triton = triton
        self._other = other

    def exchange(self, request: Request) -> Exchange:
        """Ask both, one after the other, and compare."""
        triton, taxiway = self._triton.ask(request), self._other.ask(request)
        return Exchange(request, triton, taxiway, tuple(differences(request, triton, taxiway)))

    def with_mortal(self, start: Callable[..., TritonServer], model: str) -> Pair:
        """The same other, and a real Triton of its own with one model, which a request may break."""
        return Pair(RestartedTriton(start, model), self._other)

    def close(self) -> None:
        """Stop the real Triton."""
        self._triton.close()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(two.getsockname()[1])


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> list[str]:
    """Lines for the end of the run."""
    return pytestconfig.stash[REPORT]


@pytest.fixture(scope="session")
def deviations() -> tuple[Deviation, ...]:
    """Every declared deviation."""
    return load_deviations(DEVIATIONS)


@pytest.fixture(scope="session")
def triton_install() -> TritonInstall:
    """A real Triton, or a skip that says why there is none."""
    try:
        return ensure_triton()
    except OracleUnavailable as error:
        pytest.skip(f"real Triton cannot be had: {error}")


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The models, for taxiway and for Triton."""
    return write_repositories(tmp_path_factory.mktemp("oracle"))


@pytest.fixture(scope="session")
def start_triton(
    triton_install: TritonInstall, repositories: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., TritonServer]:
    """What starts one more real Triton on the models that are named, `*` for all of the suite's."""
    logs = tmp_path_factory.mktemp("triton-logs")

    def start(*models: str) -> TritonServer:
        log = logs / f"{time.monotonic_ns()}.log"
        return TritonServer(triton_install, repositories[1], models=models, log=log)

    return start


@pytest.fixture(scope="session")
def other(
    pytestconfig: pytest.Config,
    start_triton: Callable[..., TritonServer],
    repositories: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Client | RestartedTriton]:
    """Whom real Triton is compared with: taxiway, or another real Triton when asked for."""
    if pytestconfig.getoption("--oracle-against") == "triton":
        second = RestartedTriton(start_triton)
        yield second
        second.close()
        return
    with TaxiwayServer(repositories[0], tmp_path_factory.mktemp("taxiway-logs") / "serve.log") as server:
        client = Client(server.http_port)
        yield client
        client.close()


@pytest.fixture(scope="session")
def pair(start_triton: Callable[..., TritonServer], other: Client | RestartedTriton) -> Iterator[Pair]:
    """Real Triton and the other, ready to be asked."""
    triton = RestartedTriton(start_triton)
    yield Pair(triton, other)
    triton.close()
