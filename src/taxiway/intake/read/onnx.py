"""What an ONNX file says of itself: signature, versions, external data, operator domains. Without the onnx package."""

from __future__ import annotations

from dataclasses import dataclass, field

from taxiway.core.errors import MalformedArtifact
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.limits import Limits
from taxiway.intake.nouns import Buffer
from taxiway.intake.read.protobuf import Message, Reader, Span, signed

_DATATYPES = {
    1: Datatype.FP32,
    2: Datatype.UINT8,
    3: Datatype.INT8,
    4: Datatype.UINT16,
    5: Datatype.INT16,
    6: Datatype.INT32,
    7: Datatype.INT64,
    8: Datatype.BYTES,
    9: Datatype.BOOL,
    10: Datatype.FP16,
    11: Datatype.FP64,
    12: Datatype.UINT32,
    13: Datatype.UINT64,
    16: Datatype.BF16,
}
"""TensorProto.DataType."""

_EXTERNAL = 1
"""TensorProto.DataLocation."""

_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"})
_RUNTIME_DOMAINS = frozenset(
    {"com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc"}
)


@dataclass(frozen=True, slots=True)
class External:
    """A tensor whose numbers lie in another file."""

    tensor: str
    location: str
    offset: int
    length: int | None


@dataclass(slots=True)
class OnnxFile:
    """What was read. `inputs` are without those that are constants; `unspoken` are tensors of no protocol datatype."""

    ir_version: int = 0
    producer: str = ""
    producer_version: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    unspoken: list[str] = field(default_factory=list)
    external: list[External] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    nodes: int = 0
    constants: set[str] = field(default_factory=set)

    def custom_domains(self) -> list[str]:
        """Operators that are neither ONNX's nor ONNX Runtime's, nor defined in the file itself."""
        return sorted(self.domains - _STANDARD_DOMAINS - _RUNTIME_DOMAINS - self.functions)


def read_onnx(data: Buffer, where: str, limits: Limits) -> OnnxFile:
    """Read the whole structure; tensors' numbers are stepped over.

    Raises:
        MalformedArtifact: not an ONNX model.
        OversizedArtifact: it nests or counts beyond the limits.
    """
    found = OnnxFile()
    graph: Message | None = None
    root = Reader(data, where, limits).root()
    for number, _, value in root.fields():
        match number, value:
            case 1, int():
                found.ir_version = value
            case 2, (_, _):
                found.producer = root.text(value)
            case 3, (_, _):
                found.producer_version = root.text(value)
            case 7, (_, _):
                if graph is not None:
                    raise MalformedArtifact(f"{where} has two graphs", file=where, rule="onnx-one-graph")
                graph = root.inner(value)
            case 8, (_, _):
                _read_opset(root.inner(value), found)
            case 20, (_, _):
                _read_training(root.inner(value), found)
            case 25, (_, _):
                _read_function(root.inner(value), found)
    if graph is None:
        raise MalformedArtifact(f"{where} has no graph, so it is no ONNX model", file=where, rule="onnx-graph")
    _read_graph(graph, found, outermost=True)
    found.inputs = [spec for spec in found.inputs if spec.name not in found.constants]
    return found


def _read_opset(message: Message, found: OnnxFile) -> None:
    domain, version = "", 0
    for number, _, value in message.fields():
        if number == 1 and isinstance(value, tuple):
            domain = message.text(value)
        elif number == 2 and isinstance(value, int):
            version = value
    found.opsets[domain or "ai.onnx"] = version


def _read_training(message: Message, found: OnnxFile) -> None:
    """Graphs for training: not run here, but their tensors may name files too."""
    for number, _, value in message.fields():
        if number in (1, 2) and isinstance(value, tuple):
            _read_graph(message.inner(value), found)


def _read_function(message: Message, found: OnnxFile) -> None:
    for number, _, value in message.fields():
        if number == 7 and isinstance(value, tuple):
            _read_node(message.inner(value), found)
        elif number == 10 and isinstance(value, tuple):
            found.functions.add(message.text(value))
        elif number == 11 and isinstance(value, tuple):
            _read_attribute(message.inner(value), found)


def _read_graph(message: Message, found: OnnxFile, *, outermost: bool = False) -> None:
    for number, _, value in message.fields():
        match number, value:
            case 1, (_, _):
                _read_node(message.inner(value), found)
            case 5, (_, _):
                name = _read_tensor(message.inner(value), found)
                if outermost:
                    found.constants.add(name)
            case 15, (_, _):
                _read_sparse(message.inner(value), found)
            case ((11 | 12), (_, _)) if outermost:
                _read_value(message.inner(value), found.inputs if number == 11 else found.outputs, found)


def _read_node(message: Message, found: OnnxFile) -> None:
    found.nodes += 1
    domain = ""
    for number, _, value in message.fields():
        if number == 7 and isinstance(value, tuple):
            domain = message.text(value)
        elif number == 5 and isinstance(value, tuple):
            _read_attribute(message.inner(value), found)
    found.domains.add(domain)


def _read_attribute(message: Message, found: OnnxFile) -> None:
    for number, _, value in message.fields():
        if not isinstance(value, tuple):
            continue
        if number in (5, 10):
            _read_tensor(message.inner(value), found)
        elif number in (6, 11):
            _read_graph(message.inner(value), found)
        elif number in (22, 23):
            _read_sparse(message.inner(value), found)


def _read_sparse(message: Message, found: OnnxFile) -> None:
    for number, _, value in message.fields():
        if number in (1, 2) and isinstance(value, tuple):
            _read_tensor(message.inner(value), found)


def _read_tensor(message: Message, found: OnnxFile) -> str:
    name, location, entries = "", 0, {}
    for number, _, value in message.fields():
        if number == 8 and isinstance(value, tuple):
            name = message.text(value)
        elif number == 13 and isinstance(value, tuple):
            key, text = _read_entry(message.inner(value))
            entries[key] = text
        elif number == 14 and isinstance(value, int):
            location = value
    if location == _EXTERNAL or entries:
        offset, length = (_number(entries.get(key), name, key) for key in ("offset", "length"))
        found.external.append(External(name, entries.get("location", ""), offset or 0, length))
    return name


def _number(text: str | None, tensor: str, key: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        rule = f"tensor {tensor!r}: external_data {key} is {text[:40]!r}, which is no byte count"
        raise MalformedArtifact(rule, tensor=tensor, rule="onnx-external-offset")
    return int(text)


def _read_entry(message: Message) -> tuple[str, str]:
    pair = {
        number: message.text(value)
        for number, _, value in message.fields()
        if number in (1, 2) and isinstance(value, tuple)
    }
    return pair.get(1, ""), pair.get(2, "")


def _read_value(message: Message, into: list[TensorSpec], found: OnnxFile) -> None:
    name, kind = "", None
    for number, _, value in message.fields():
        if number == 1 and isinstance(value, tuple):
            name = message.text(value)
        elif number == 2 and isinstance(value, tuple):
            kind = message.inner(value)
    tensor = None if kind is None else _tensor_type(kind)
    if tensor is None:
        found.unspoken.append(name)
    else:
        into.append(TensorSpec(name, *tensor))


def _tensor_type(message: Message) -> tuple[Datatype, tuple[int, ...]] | None:
    """Datatype and shape of a TypeProto that is a tensor."""
    for number, _, value in message.fields():
        if number != 1 or not isinstance(value, tuple):
            continue
        tensor = message.inner(value)
        datatype: Datatype | None = None
        shape: tuple[int, ...] = ()
        for inner, _, held in tensor.fields():
            if inner == 1 and isinstance(held, int):
                datatype = _DATATYPES.get(held)
            elif inner == 2 and isinstance(held, tuple):
                shape = _shape(tensor.inner(held))
        return None if datatype is None else (datatype, shape)
    return None


def _shape(message: Message) -> tuple[int, ...]:
    return tuple(_dimension(message, value) for number, _, value in message.fields() if number == 1)


def _dimension(message: Message, value: int | Span) -> int:
    if isinstance(value, tuple):
        for number, _, held in message.inner(value).fields():
            if number == 1 and isinstance(held, int):
                size = signed(held)
                return size if size > 0 else -1
    return -1
