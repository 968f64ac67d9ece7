"""Unary calls of decoupled models: their answers are collected, and the only one is the answer."""

from __future__ import annotations

from taxiway.core.errors import NotOneAnswer, TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest, Responder
from taxiway.server.entrance import Entrance
from taxiway.server.wire.asks import Choices


class OnlyAnswer:
    """Waits for all answers to one request before whoever words the only one; a second one ends the request.

    Args:
        responder: is told the only answer, or why there is none.
        entrance: through which the request came.
        model: its name, for the error.
    """

    __slots__ = ("_entrance", "_kept", "_model", "_responder")

    def __init__(self, responder: Responder, entrance: Entrance, model: str) -> None:
        self._responder = responder
        self._entrance = entrance
        self._model = model
        self._kept: BatchResult | TaxiwayError | None = None

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """Keep the first; at the second the model need not go on."""
        if self._kept is None:
            self._kept = answer
            return
        error = self._not_one("several answers")
        self._entrance.withdraw(request, error)
        self._responder.reject(request, error)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """All answers have come."""
        kept = self._kept
        if not result.names:
            if kept is None:
                self._responder.reject(request, self._not_one("no answer"))
            elif isinstance(kept, TaxiwayError):
                self._responder.reject(request, kept)
            else:
                self._responder.resolve(request, kept, 0, kept.rows)
        elif kept is None:
            self._responder.resolve(request, result, start, stop)
        else:
            self._responder.reject(request, self._not_one("several answers"))

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """There is no further answer, and this is why."""
        self._responder.reject(request, error)

    def _not_one(self, gave: str) -> NotOneAnswer:
        return NotOneAnswer(
            f"model '{self._model}' gave {gave} to one request, and this call carries exactly one",
            hint=f"POST /v2/models/{self._model}/infer_stream, or the gRPC call ModelStreamInfer, carries any number",
        )


def told_outputs(choices: Choices, result: BatchResult) -> Choices:
    """Those of the outputs asked for that this answer has, in the order in which its model gave them."""
    arrays, notes = result.arrays, result.notes
    if notes is None or notes.order is None:
        return tuple([choice for choice in choices if arrays[choice.index] is not None])
    by_index = {choice.index: choice for choice in choices}
    return tuple([by_index[index] for index in notes.order if index in by_index])
