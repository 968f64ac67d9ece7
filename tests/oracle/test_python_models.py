"""Real Triton and taxiway serve the same repository of Python models, unchanged, with equal answers.

Equal here is equal: statuses, bodies, the texts of errors down to the lines of the model's code, bytes of tensors, and
every message of a stream. What is meant to differ is named, with both behaviours, at the end.

pytest tests/oracle/test_python_models.py                              a few of each kind
pytest tests/oracle/test_python_models.py --oracle-examples=5000       the full run
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from google.protobuf import text_format
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from tests.oracle.compare import NO_ANSWER
from tests.oracle.python_asks import FORMS, KINDS, PythonAsk, text
from tests.oracle.python_models import write_python_repository
from tests.oracle.replies import reply_type
from tests.oracle.requests import Request
from tests.oracle.servers import Clients, RestartedTriton, TaxiwayServer
from tests.oracle.words import error_class
from tools.oracle_triton import TritonServer

if TYPE_CHECKING:
    from tools.oracle_triton import TritonInstall

Outcome = tuple[Any, ...]
MOST_TOLD: Final = 5
OF_ENSEMBLES: Final = ("sequence_id", "sequence_start", "sequence_end")
"""Triton tells the callers of an ensemble, as parameters, that their request was in no sequence."""
NO_SEQUENCE: Final = [("sequence_id", 0), ("sequence_start", False), ("sequence_end", False)]
FROM_A_MODEL: Final = ("Failed to process the request(s)", "said ", "just an error", "between", "last")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for both."""
    return write_python_repository(tmp_path_factory.mktemp("python-models"))


@pytest.fixture(scope="module")
def triton(
    triton_install: TritonInstall, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestartedTriton]:
    """Real Triton on it; its Python backend dies of a request now and then, and then there is another."""

    def start(*models: str) -> TritonServer:
        log = tmp_path_factory.mktemp("python-triton") / "log.txt"
        return TritonServer(triton_install, repository, models=models, log=log)

    server = RestartedTriton(start)
    yield server
    server.close()


@pytest.fixture(scope="module")
def taxiway(triton: RestartedTriton, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """Taxiway on it; only where there is a Triton."""
    log = tmp_path_factory.mktemp("python-taxiway") / "log.txt"
    with TaxiwayServer(repository, log) as server:
        clients = Clients(server.http_port, server.grpc_port)
        yield clients
        clients.close()


def _outcome(clients: Clients | RestartedTriton, ask: PythonAsk, form: str) -> Outcome:
    """What a server answers, as something to be compared."""
    if form in ("json", "binary"):
        answer = clients.ask(ask.over_http(binary=form == "binary"))
        length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
        head = answer.body[:length]
        document: Any = json.loads(head, object_pairs_hook=_without_sequence) if head.startswith(b"{") else head
        kind = answer.headers.get("content-type") if answer.status != NO_ANSWER else answer.note
        if answer.status >= http.client.BAD_REQUEST and len(document) == 1:
            kind, document = "", _meaning(document[0][1])  # Triton calls some of its errors text: deviations.toml
        return answer.status, kind, document, answer.body[length:]
    call = ask.over_grpc(stream=form == "stream")
    reply = clients.call(call)
    messages: list[Any] = [reply_type(call.rpc).FromString(message) for message in reply.messages]
    for message in messages:
        if form == "stream" and message.error_message:
            message.error_message = _meaning(message.error_message)
        told = message.infer_response if form == "stream" else message
        for name in OF_ENSEMBLES:
            told.parameters.pop(name, None)
    return reply.code, _meaning(reply.details), [text_format.MessageToString(message) for message in messages]


def _without_sequence(members: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """An object as a list, without what Triton adds to answers of ensembles."""
    return [(name, value) for name, value in members if name != "parameters" or value != NO_SEQUENCE]


def _meaning(error: str) -> str:
    """A model's own errors word by word; the server's, as in the other comparisons, by what they mean."""
    return error if error.startswith(FROM_A_MODEL) else error_class(error)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("form", FORMS)
def test_python_models_are_served_alike(
    triton: RestartedTriton, taxiway: Clients, form: str, report: list[str], pytestconfig: pytest.Config
) -> None:
    each = max(8, pytestconfig.getoption("--oracle-examples") // (len(KINDS) * len(FORMS)))
    outcomes: Counter[str] = Counter()
    different: list[str] = []
    seen: set[PythonAsk] = set()

    def compare(ask: PythonAsk) -> None:
        if ask in seen:
            return
        seen.add(ask)
        deaths = triton.deaths
        left = _outcome(triton, ask, form)
        if triton.deaths > deaths:  # one that kills it again is told as a difference
            left = _outcome(triton, ask, form)
        right = _outcome(taxiway, ask, form)
        outcomes[str(left[0])] += 1
        if repr(left) != repr(right):  # as text: NaN is like itself
            different.append(f"{ask}\n  triton:  {left}\n  taxiway: {right}")

    for place, strategy in enumerate(KINDS.values()):
        _visit(strategy, each, pytestconfig.getoption("--oracle-seed") + place, compare)

    told = ", ".join(f"{code}: {number}" for code, number in sorted(outcomes.items()))
    report.append(f"oracle: Python models, {form}: {len(seen)} different requests compared; Triton answered {told}")
    if triton.deaths:
        report.append(f"oracle: real Triton has died {triton.deaths} times of requests for Python models")
    assert not different, "\n\n".join([f"{len(different)} differ", *different[:MOST_TOLD]])


def _visit(strategy: st.SearchStrategy[PythonAsk], number: int, start: int, visit: Any) -> None:
    @seed(start)
    @settings(settings.get_profile("oracle"), max_examples=number)
    @given(strategy)
    def each(ask: PythonAsk) -> None:
        visit(ask)

    each()


@pytest.mark.parametrize("path", ["completed", "add_sub", "repeat"])
def test_their_metadata_is_alike(triton: RestartedTriton, taxiway: Clients, path: str) -> None:
    left, right = (clients.ask(Request("GET", f"/v2/models/{path}")) for clients in (triton, taxiway))

    assert (left.status, left.body) == (right.status, right.body)


def test_a_second_answer_of_a_model_that_answers_once_is_an_error_and_not_appended(
    triton: RestartedTriton, taxiway: Clients
) -> None:
    ask = PythonAsk("failing", (text("WHAT", "sender twice"),)).over_http(binary=False)

    broken, whole = triton.ask(ask), taxiway.ask(ask)

    assert broken.status == whole.status == 500
    assert b'"first"' in broken.body  # the body that came first, and then another one
    assert json.loads(whole.body)["error"].startswith("Failed to process the request(s) for model 'failing_0'")
