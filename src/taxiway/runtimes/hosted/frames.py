"""What the data plane and a model process say to each other over their socket.

A frame is its length (4 bytes, little-endian) and a message in MessagePack, tagged by what it is. Tensors are not in
it: it says where they lie in the arena of its direction.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgspec

from taxiway.core.errors import InvalidArgument
from taxiway.runtimes.hosted.arena import Block

MAX_FRAME_BYTES = 16 << 20
"""Decoded, a hostile frame takes many times its bytes; an honest one is that long only for what its callers say."""
_LENGTH = struct.Struct("<I")


class Laid(NamedTuple):
    """A tensor in an arena; `offset` counts from the arena's start, `datatype` is the protocol's name."""

    datatype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class Declared(NamedTuple):
    """A tensor that a model declares: its whole shape, -1 where free."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


class Place(NamedTuple):
    """A request's place in a sequence."""

    id: int | str
    starts: bool
    ends: bool


class Asked(NamedTuple):
    """One request of a run.

    Attributes:
        flag: the byte of the arena that is 1 while somebody waits for it, and 2 once nobody does.
        inputs: in the order the model was opened with; None for one that was left out.
        outputs: names of those wanted; None for all.
    """

    flag: int
    inputs: tuple[Laid | None, ...]
    outputs: tuple[str, ...] | None
    id: str | None
    priority: int
    timeout_us: int
    parameters: dict[str, Any] | None
    sequence: Place | None


class Frame(msgspec.Struct, array_like=True, tag=True, omit_defaults=True):
    """The root of all messages."""


# --- to the model process ------------------------------------------------------------------------------


class Open(Frame, tag="open"):
    """Load the model. Answered by Opened or Failed.

    Attributes:
        backend: whose model it is (config/backends.py).
        directory: the model's, which holds its versions.
        file: the version's file, or directory.
        config: Triton's configuration as JSON.
        trusted: SHA-256 digests of the pickles that may be loaded.
        kind: CPU or GPU; device: which one.
        options: the configuration's parameters.
    """

    backend: str
    name: str
    version: int
    directory: str
    file: str
    config: str
    instance: str
    kind: str = "CPU"
    device: int = 0
    trusted: tuple[str, ...] = ()
    options: dict[str, str] = {}
    compat: str = "strict"
    """Whether errors tell where in the model's code they arose: `triton` has them do so."""


class Learn(Frame, tag="learn"):
    """What the tensors of the completed configuration are called: runs name them by their place in these."""

    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...]
    batches: bool
    decoupled: bool
    max_merged: int
    """Requests of a decoupled model that may be executed together."""
    stateful: bool = False
    """Whether requests are steps of sequences: what failed together is then not tried again apart."""


class Run(Frame, tag="run"):
    """Run these requests together. Answered by Ran, or by any number of Piece and then Ran if it is decoupled.

    Attributes:
        mark: the byte of the arena that is 1, and 2 from the moment at which the model is given the requests.
    """

    id: int
    block: Block
    mark: int
    rows: int
    requests: tuple[Asked, ...]


class CallAnswer(Frame, tag="call-answer"):
    """An answer to CallOut; `final` is the last."""

    call: int
    block: Block | None
    names: tuple[str, ...] = ()
    tensors: tuple[Laid, ...] = ()
    error: dict[str, Any] | None = None
    final: bool = True
    parameters: dict[str, Any] | None = None


class Close(Frame, tag="close"):
    """Finalize the model and end."""


# --- from the model process ----------------------------------------------------------------------------


class Opened(Frame, tag="opened"):
    """It is loaded. `config` is the completed configuration if the model completes it; tensors if it declares them."""

    config: str | None = None
    inputs: tuple[Declared, ...] | None = None
    outputs: tuple[Declared, ...] | None = None
    batches: bool = True
    """Whether the first dimension of what it declares counts rows."""


class Failed(Frame, tag="failed"):
    """It could not be loaded."""

    error: dict[str, Any]


class Part(NamedTuple):
    """What one request of a run is answered: its outputs by place, or an error.

    Attributes:
        order: places of the outputs that there are, as the model gave them; None: all of them, in the model's order,
            with a row for each of the request's.
        parameters: of the answer.
    """

    tensors: tuple[Laid | None, ...]
    error: dict[str, Any] | None
    order: tuple[int, ...] | None = None
    parameters: dict[str, Any] | None = None


class Ran(Frame, tag="ran"):
    """A run is over.

    Attributes:
        whole: the outputs by place, of all rows; None if the requests are answered by `parts` each, or were by pieces
            and there is no last one.
        started_ns, merged_ns, computed_ns, finished_ns: monotonic: the frame was read, the model was called, it
            returned, its outputs were laid down.
    """

    id: int
    block: Block | None
    started_ns: int
    merged_ns: int
    computed_ns: int
    finished_ns: int
    whole: tuple[Laid | None, ...] | None = None
    parts: tuple[Part, ...] | None = None


class Piece(Frame, tag="piece"):
    """One of several answers to the only request of a run; more follow, or Ran with the last one or without."""

    id: int
    block: Block | None
    part: Part


class CallOut(Frame, tag="call-out"):
    """The model asks another one.

    Attributes:
        run, request: for which request of which run it asks; -1 where it does not say.
        names: of the tensors.
    """

    call: int
    run: int
    request: int
    block: Block | None
    model: str
    version: str | None
    names: tuple[str, ...]
    tensors: tuple[Laid, ...]
    outputs: tuple[str, ...] | None
    id: str | None = None
    priority: int = 0
    timeout_us: int = 0
    parameters: dict[str, Any] | None = None
    sequence: Place | None = None


class CallBack(Frame, tag="call-back"):
    """Nobody waits for this call any more."""

    call: int


class Metric(Frame, tag="metric"):
    """A model's own metric has moved: `kind` counter, gauge or histogram.

    Attributes:
        act: create, add, set, observe or remove.
        buckets: of a histogram: the upper bounds but the last, which is infinity.
    """

    name: str
    kind: str
    description: str
    labels: dict[str, str]
    act: str
    value: float = 0.0
    buckets: tuple[float, ...] = ()


class Said(Frame, tag="said"):
    """A line for the log, of the level that the model chose."""

    level: str
    text: str


ToChild = Open | Learn | Run | CallAnswer | Close
FromChild = Opened | Failed | Ran | Piece | CallOut | CallBack | Metric | Said

_ENCODER = msgspec.msgpack.Encoder(enc_hook=str)
decode_to_child = msgspec.msgpack.Decoder(ToChild).decode
decode_from_child = msgspec.msgpack.Decoder(FromChild).decode


def encode(frame: Frame) -> bytes:
    """A frame as it is sent.

    Raises:
        InvalidArgument: what somebody put into it is too long, or cannot be said.
    """
    try:
        body = _ENCODER.encode(frame)
    except (OverflowError, UnicodeEncodeError) as problem:
        raise InvalidArgument(f"what is to be told between the model and its server cannot be: {problem}") from problem
    if len(body) > MAX_FRAME_BYTES:
        raise InvalidArgument(
            f"ids, parameters and error texts take {len(body)} bytes, and may take {MAX_FRAME_BYTES} of one run",
            hint="put what is large into a tensor",
        )
    return _LENGTH.pack(len(body)) + body


class FrameSplitter:
    """Cuts what comes from a socket into the bodies of frames.

    Raises:
        ValueError: a frame says that it is longer than any may be.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        """The begin of a frame, and whatever of it has come."""
        self._wanted = 0
        """Bytes that `_rest` has to hold before it is worth looking at again."""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        frames = []
        position, end = 0, len(data)
        while position < end:
            stop = position + 4
            if stop <= end:
                (length,) = _LENGTH.unpack_from(data, position)
                if length > MAX_FRAME_BYTES:
                    raise ValueError(f"a frame of {length} bytes")
                stop += length
            if stop > end:
                self._rest += data[position:]
                self._wanted = stop - position
                break
            frames.append(data[position + 4 : stop])
            position = stop
        return frames
