"""Requests that differ from an earlier one in nothing but the numbers in their tensors, as most of a client's do.

A ModelInferRequest ends in its raw contents, and what stands before them is the same bytes from call to call. Where it
is, and the lengths are too, everything that was worked out for the earlier request holds: which version it is for, its
shapes, its outputs. Nothing is parsed and nothing is checked again.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from taxiway.core.requests import InferRequest, InputTensor
from taxiway.core.tensors import Datatype, Shape
from taxiway.server.wire.grpc.envelope import raw_places
from taxiway.server.wire.grpc.protos import Message

if TYPE_CHECKING:
    from collections.abc import Hashable

    from taxiway.server.wire.asks import Choices
    from taxiway.server.wire.grpc.infer import MessageCodec

_KEPT: Final = 256
_KEPT_LENGTHS: Final = 4096
_MAX_HEAD_BYTES: Final = 2048


class Familiar(NamedTuple):
    """What an earlier request turned out to be.

    Attributes:
        tensors: by position in the model, shape and place of each input's content; None where one was left out.
        joints: what must stand between two contents: the next one's tag and length, and where.
    """

    codec: MessageCodec
    model: str
    version: str
    rows: int
    bucket: Hashable
    outputs: tuple[int, ...] | None
    choices: Choices | None
    tensors: tuple[tuple[Shape, int, int] | None, ...]
    joints: tuple[tuple[int, int, bytes], ...]

    def fits(self, body: bytes) -> bool:
        """Whether the contents of `body`, whose beginning and length are known, stand where they stood."""
        return all(body[start:stop] == joint for start, stop, joint in self.joints)

    def inputs(self, body: bytes) -> list[InputTensor | None]:
        """The inputs of a request that fits."""
        view = memoryview(body)
        return [
            None if tensor is None else InputTensor(view[tensor[1] : tensor[2]], tensor[0]) for tensor in self.tensors
        ]


class Familiars:
    """Those of one port, until the routes change."""

    def __init__(self) -> None:
        self._lengths: set[int] = set()
        self._cuts: dict[int, int] = {}
        """By the length of a request: where its first content began, the last time."""
        self._by_head: dict[tuple[int, bytes], Familiar] = {}

    def find(self, body: bytes) -> Familiar | None:
        """What an earlier request like this one turned out to be."""
        length = len(body)
        cut = self._cuts.get(length)
        if cut is None:
            return None
        known = self._by_head.get((length, body[:cut]))
        return known if known is not None and (not known.joints or known.fits(body)) else None

    def remember(
        self, body: bytes, message: Message, codec: MessageCodec, request: InferRequest, choices: Choices | None
    ) -> None:
        """Keep what `body` turned out to be, if it is of a kind that comes again."""
        if message.id or message.parameters or any(entry.parameters for entry in message.outputs):
            return
        if not message.inputs or not self._came_before(len(body)):
            return
        places = raw_places(body)
        if places is None or len(places) != len(message.inputs) or places[0][0] > _MAX_HEAD_BYTES:
            return
        known = self._describe(body, message, codec, request, choices, places)
        if known is None:
            return
        if len(self._by_head) >= _KEPT:
            self.forget()
        self._cuts[len(body)] = places[0][0]
        self._by_head[len(body), body[: places[0][0]]] = known

    def _came_before(self, length: int) -> bool:
        """Requests of no length twice are not worth describing."""
        if length in self._lengths:
            return True
        if len(self._lengths) >= _KEPT_LENGTHS:
            self._lengths.clear()
        self._lengths.add(length)
        return False

    def forget(self) -> None:
        """The routes are others, or too much is kept."""
        self._cuts.clear()
        self._by_head.clear()

    @staticmethod
    def _describe(
        body: bytes,
        message: Message,
        codec: MessageCodec,
        request: InferRequest,
        choices: Choices | None,
        places: list[tuple[int, int]],
    ) -> Familiar | None:
        """None if an input's content has to be looked at: texts have lengths of their own, booleans a rule.

        None, too, if the model may answer several times: such a request is more than its tensors.
        """
        if not codec.answers_once:
            return None
        signature = codec.signature
        tensors: list[tuple[Shape, int, int] | None] = [None] * len(signature.inputs)
        for entry, (start, stop) in zip(message.inputs, places, strict=True):
            position = signature.positions[entry.name]
            tensor = request.inputs[position]
            if tensor is None or signature.inputs[position].datatype in (Datatype.BYTES, Datatype.BOOL):
                return None
            tensors[position] = (tensor.shape, start, stop)
        joints = [(before[1], after[0]) for before, after in itertools.pairwise(places)]
        return Familiar(
            codec,
            message.model_name,
            message.model_version,
            request.rows,
            request.bucket,
            request.outputs,
            choices,
            tuple(tensors),
            tuple((start, stop, body[start:stop]) for start, stop in joints),
        )
