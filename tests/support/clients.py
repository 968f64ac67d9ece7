"""Clients that honour HTTP/1.1 and count what becomes of each request, and the load that several of them make."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.raw_http import Raw, Reply, wait_until


@dataclass(eq=False)
class HonestClient:
    """Asks one thing after the other, by the rules of RFC 9112.

    It stops using a connection that it was told to close; a request on a used connection that ended without a byte
    of answer is asked once more on a new one; who is refused a connection goes elsewhere, and comes back only if told
    so (`returns`).

    Attributes:
        keeps: whether it keeps its connection as long as the server does.
        answered: requests answered 200.
        cut: requests on used connections that ended without an answer.
        refused: connections refused.
        reset_when_new: requests on new connections that ended without an answer.
        wrong: other answers.
    """

    address: tuple[str, int]
    question: bytes
    keeps: bool = True
    answered: int = 0
    asked: int = 0
    cut: int = 0
    refused: int = 0
    reset_when_new: int = 0
    wrong: list[Reply] = field(default_factory=list)
    _connection: Raw | None = None
    _used: bool = False

    @property
    def lost(self) -> int:
        """Requests that were not answered at all."""
        return self.cut + self.reset_when_new

    def connected(self) -> Raw:
        """Its connection, on which one request was answered."""
        self.ask()
        assert self._connection is not None
        return self._connection

    def ask(self) -> None:
        """One request."""
        try:
            connection = self._connect()
        except ConnectionRefusedError:
            self.refused += 1
            return
        except ConnectionError:  # reset before it was accepted
            self.asked += 1
            self._count_lost(used=False)
            return
        self.asked += 1
        used, self._used = self._used, True
        try:
            reply = connection.send(self.question).reply()
        except (ConnectionError, AssertionError):
            self._drop()
            self._count_lost(used=used)
            return
        if reply.status == 200:
            self.answered += 1
        else:
            self.wrong.append(reply)
        if not self.keeps or reply.headers.get("connection") == "close":
            self._drop()

    def close(self) -> None:
        """Hang up."""
        self._drop()

    def _connect(self) -> Raw:
        if self._connection is None:
            self._used = False
            self._connection = Raw(self.address)
        return self._connection

    def _count_lost(self, *, used: bool) -> None:
        if used:
            self.cut += 1
        else:
            self.reset_when_new += 1

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.socket.close()
        self._connection = None


class Load:
    """Every client asks in a thread of its own, until the block ends or it was refused."""

    def __init__(self, clients: Sequence[HonestClient]) -> None:
        self._clients = clients
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in clients]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()

    def asked(self) -> int:
        """Requests that were sent."""
        return sum(client.asked for client in self._clients)

    def wait_for_answers(self, count: int) -> None:
        """Until each client has had so many answers more, or is refused."""
        goals = [(client, client.answered + count) for client in self._clients]
        wait_until(lambda: all(client.answered >= goal or client.refused for client, goal in goals), "all are answered")

    def wait_until_all_went_elsewhere(self) -> None:
        """Until each client was refused a connection."""
        wait_until(lambda: all(client.refused for client in self._clients), "all were refused")

    def _run(self, client: HonestClient) -> None:
        while not self._stop.is_set() and not client.refused:
            client.ask()
