"""The comparison's options, and both servers, started once per session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from tests.oracle.deviations import DEVIATIONS, Deviation, load_deviations
from tests.oracle.lifecycle import TAXIWAY, TRITON
from tests.oracle.models import write_repositories
from tests.oracle.servers import Clients, Pair, RestartedTriton, TaxiwayServer
from tests.oracle.walking import Walker
from tools.oracle_triton import OracleUnavailable, TritonInstall, TritonServer, ensure_triton

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
    group.addoption(
        "--oracle-examples",
        type=int,
        default=400,
        help="how many different requests, and how many gRPC calls, to compare",
    )
    group.addoption("--oracle-walks", type=int, default=2, help="how many walks through loading and unloading to take")
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
) -> Iterator[Clients | RestartedTriton]:
    """Whom real Triton is compared with: taxiway, or another real Triton when asked for."""
    if pytestconfig.getoption("--oracle-against") == "triton":
        second = RestartedTriton(start_triton)
        yield second
        second.close()
        return
    with TaxiwayServer(repositories[0], tmp_path_factory.mktemp("taxiway-logs") / "serve.log") as server:
        clients = Clients(server.http_port, server.grpc_port)
        yield clients
        clients.close()


@pytest.fixture(scope="session")
def pair(start_triton: Callable[..., TritonServer], other: Clients | RestartedTriton) -> Iterator[Pair]:
    """Real Triton and the other, ready to be asked."""
    triton = RestartedTriton(start_triton)
    yield Pair(triton, other)
    triton.close()


@pytest.fixture(scope="session")
def walker(
    triton_install: TritonInstall,
    deviations: tuple[Deviation, ...],
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Walker:
    """What takes walks with fresh servers."""
    against = TRITON if pytestconfig.getoption("--oracle-against") == "triton" else TAXIWAY
    return Walker(triton_install, tmp_path_factory.mktemp("walks"), against, deviations)
