"""gRPC calls that Hypothesis invents: valid ones of every form the protocol allows, and each kind of mistake.

In: the models of models.py. Out: raw calls, labelled with what they try.
Never: sequences, decoupled models, what changes the repository (lifecycle.py), or what is known to kill real Triton.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st
from tests.oracle.models import BY_NAME, MODELS, Model, Tensor
from tests.oracle.replies import SPOILT_TWICE, STREAM, Call, parsed
from tests.oracle.requests import IDS, packed, shape_of, values
from tritonclient.grpc import service_pb2

CONTENTS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The typed field of each datatype that has one."""
SAMPLE: Final[Mapping[str, Any]] = {
    "bool_contents": True,
    "int_contents": 1,
    "int64_contents": 1,
    "uint_contents": 1,
    "uint64_contents": 1,
    "fp32_contents": 1.0,
    "fp64_contents": 1.0,
    "bytes_contents": b"1",
}

NAMES: Final = ("nope", "", "ADD_SUB", "add_sub ", "add%5Fsub", "é", "a/b")
VERSIONS: Final = ("1", "2", "3", "0", "01", "+1", " 1", "1 ", "1x", "abc", "-1", "1.0", "99999999999999999999")
STRANGE: Final[Sequence[tuple[str, Any]]] = (
    ("bool_param", True),
    ("bool_param", False),
    ("int64_param", 0),
    ("int64_param", 1),
    ("int64_param", -1),
    ("int64_param", 2**62),
    ("string_param", ""),
    ("string_param", "x"),
    ("double_param", 1.5),
    ("uint64_param", 7),
    ("uint64_param", 2**64 - 1),
    ("", None),
)
"""One value of each kind of parameter, and none at all."""


@dataclasses.dataclass
class CallDraft:
    """An inference request while it is being put together, and spoilt."""

    model: Model
    message: Any
    spoil_bytes: Callable[[bytes], bytes] = bytes
    label: str = "infer valid"

    def finished(self) -> bytes:
        """The message as it goes out."""
        return self.spoil_bytes(self.message.SerializeToString(deterministic=True))

    def call(self) -> Call:
        """A call of its own."""
        return Call("ModelInfer", (self.finished(),), label=self.label)


def call_breaks_triton(message: bytes) -> bool:
    """Whether this may end real Triton 2.51.0, or be left without an answer for ever; see `breaks_triton`."""
    request: Any = parsed(service_pb2.ModelInferRequest, message)
    if request is None:
        return False
    classified = any("classification" in output.parameters for output in request.outputs)
    shapes = [list(each.shape) for each in request.inputs]
    fatal = any(each.datatype == "BYTES" for each in request.inputs) or any(0 in shape for shape in shapes)
    empty = any(shape[:1] == [0] and 0 in shape[1:] for shape in shapes)
    empty = empty or any(0 in shape and (max(shape) >= 2**31 or min(shape) < 0) for shape in shapes)
    empty = empty or any(sum(dim < 0 for dim in shape) > 1 for shape in shapes)
    overflows = any(math.prod(map(abs, shape)) >= 2**58 for shape in shapes)
    return (classified and fatal) or empty or overflows


# --- valid inference


@st.composite
def _input(draw: st.DrawFn, tensor: Tensor, batch: Sequence[int], variable: int) -> tuple[Any, list[Any]]:
    shape = [*batch, *(variable if dim < 0 else dim for dim in tensor.dims)]
    count = math.prod(shape)
    elements = draw(st.lists(values(tensor.datatype), min_size=count, max_size=count))
    entry = service_pb2.ModelInferRequest.InferInputTensor(name=tensor.name, datatype=tensor.datatype, shape=shape)
    return entry, elements


def _typed(entry: Any, elements: Sequence[Any]) -> None:
    """Give an input its elements in the typed field of its datatype."""
    encoded = [element.encode() for element in elements] if entry.datatype == "BYTES" else elements
    entry.contents.SetInParent()
    getattr(entry.contents, CONTENTS[entry.datatype]).extend(encoded)


@st.composite
def _outputs(draw: st.DrawFn, model: Model) -> list[Any]:
    entries = []
    for tensor in draw(st.lists(st.sampled_from(model.outputs), unique=True)):
        entry: Any = service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=tensor.name)
        if tensor.datatype not in ("BOOL", "FP16") and draw(st.integers(0, 3)) == 0:
            entry.parameters["classification"].int64_param = draw(st.integers(1, 5))
        if draw(st.integers(0, 5)) == 0:
            entry.parameters["binary_data"].bool_param = draw(st.booleans())
        entries.append(entry)
    return entries


def set_parameter(parameters: Any, name: str, kind: str, value: Any) -> None:
    """A parameter of that kind; without a kind it is there and holds nothing."""
    parameters[name].SetInParent()
    if kind:
        setattr(parameters[name], kind, value)


@st.composite
def call_drafts(draw: st.DrawFn) -> CallDraft:
    """A valid inference request, as yet not spoilt."""
    model = draw(st.sampled_from(MODELS))
    batch, variable = shape_of(draw, model)
    given = [draw(_input(tensor, batch, variable())) for tensor in model.inputs]
    if draw(st.integers(0, 4)) == 0:
        given.reverse()
    message: Any = service_pb2.ModelInferRequest(model_name=model.name)
    typed = all(entry.datatype in CONTENTS for entry, _ in given) and draw(st.booleans())
    for entry, elements in given:
        if typed:
            _typed(entry, elements)
        else:
            message.raw_input_contents.append(packed(entry.datatype, elements))
        message.inputs.append(entry)
    extras = draw(st.sets(st.sampled_from(["id", "outputs", "parameters", "version"])))
    if "id" in extras:
        message.id = draw(IDS)
    if "outputs" in extras:
        message.outputs.extend(draw(_outputs(model)))
    if "version" in extras:
        message.model_version = str(draw(st.sampled_from(sorted(model.graphs))))
    if "parameters" in extras:
        _good_parameters(draw, message)
    return CallDraft(model, message)


def _good_parameters(draw: st.DrawFn, message: Any) -> None:
    kinds: list[tuple[str, str, Any]] = [
        ("priority", "int64_param", draw(st.integers(0, 9))),
        ("priority", "uint64_param", draw(st.integers(0, 9))),
        ("timeout", "int64_param", draw(st.integers(10**6, 10**9))),
        ("custom", "string_param", draw(st.text(max_size=3))),
        ("custom", "int64_param", draw(st.integers(-(2**63), 2**63 - 1))),
        ("custom", "bool_param", draw(st.booleans())),
        ("triton_enable_empty_final_response", "bool_param", draw(st.booleans())),
    ]
    for each in draw(st.lists(st.sampled_from(kinds), max_size=3)):
        set_parameter(message.parameters, *each)


# --- mistakes: each takes a valid draft and spoils it

Spoil = Callable[[st.DrawFn, CallDraft], None]


def _some_input(draw: st.DrawFn, draft: CallDraft) -> Any:
    return draft.message.inputs[draw(st.integers(0, len(draft.message.inputs) - 1))]


def _drop_input(draw: st.DrawFn, draft: CallDraft) -> None:
    del draft.message.inputs[draw(st.integers(0, len(draft.message.inputs) - 1))]


def _drop_input_and_raw(draw: st.DrawFn, draft: CallDraft) -> None:
    where = draw(st.integers(0, len(draft.message.inputs) - 1))
    del draft.message.inputs[where]
    del draft.message.raw_input_contents[where : where + 1]


def _unknown_input(draw: st.DrawFn, draft: CallDraft) -> None:
    entry = draft.message.inputs.add(name="UNKNOWN", datatype="FP32", shape=[1, 4])
    if draft.message.raw_input_contents:
        draft.message.raw_input_contents.append(bytes(16))
    elif draw(st.booleans()):
        entry.contents.fp32_contents.extend([1.0] * 4)


def _rename_input(draw: st.DrawFn, draft: CallDraft) -> None:
    _some_input(draw, draft).name = draw(st.sampled_from(["UNKNOWN", "", "input0", "é"]))


def _duplicate_input(draw: st.DrawFn, draft: CallDraft) -> None:
    draft.message.inputs.add().CopyFrom(_some_input(draw, draft))
    if draft.message.raw_input_contents and draw(st.booleans()):
        draft.message.raw_input_contents.append(draft.message.raw_input_contents[0])


def _no_contents(draw: st.DrawFn, draft: CallDraft) -> None:
    _some_input(draw, draft).ClearField("contents")
    if draw(st.booleans()):
        del draft.message.raw_input_contents[:]


def _empty_contents(draw: st.DrawFn, draft: CallDraft) -> None:
    entry = _some_input(draw, draft)
    entry.ClearField("contents")
    entry.contents.SetInParent()


def _both_contents(draw: st.DrawFn, draft: CallDraft) -> None:
    if draft.message.raw_input_contents:
        _some_input(draw, draft).contents.fp32_contents.append(1.0)
    else:
        draft.message.raw_input_contents.append(draw(st.sampled_from([b"", b"1234", bytes(16)])))


def _raw_count(draw: st.DrawFn, draft: CallDraft) -> None:
    raw = draft.message.raw_input_contents
    if draw(st.booleans()):
        del raw[-1:]
    else:
        raw.append(draw(st.sampled_from([b"", b"1234", bytes(16)])))


def _typed_other(draw: st.DrawFn, draft: CallDraft) -> None:
    """Elements in the typed field of another datatype, beside the right one or instead of it."""
    entry = _some_input(draw, draft)
    if draw(st.booleans()):
        del draft.message.raw_input_contents[:]
        entry.ClearField("contents")
    field = draw(st.sampled_from(sorted(SAMPLE)))
    getattr(entry.contents, field).extend([SAMPLE[field]] * draw(st.integers(1, 3)))


def _typed_count(draw: st.DrawFn, draft: CallDraft) -> None:
    entry = _some_input(draw, draft)
    field = CONTENTS.get(entry.datatype, "fp32_contents")
    held = getattr(entry.contents, field)
    if held and draw(st.booleans()):
        del held[-1:]
    else:
        held.append(SAMPLE[field])


def _out_of_range(draw: st.DrawFn, draft: CallDraft) -> None:
    """Integers that the datatype cannot hold, in the wider field that carries it."""
    datatype = draw(st.sampled_from(["INT8", "INT16", "UINT8", "UINT16"]))
    limits = {"INT8": (-129, 128), "INT16": (-32769, 32768), "UINT8": (256, 300), "UINT16": (65536, 70000)}
    draft.model = BY_NAME[f"identity_{datatype.lower()}"]
    draft.message = service_pb2.ModelInferRequest(model_name=draft.model.name)
    entry = draft.message.inputs.add(name="INPUT0", datatype=datatype, shape=[1, 2])
    getattr(entry.contents, CONTENTS[datatype]).extend([1, draw(st.sampled_from(limits[datatype]))])


def _datatype(draw: st.DrawFn, draft: CallDraft) -> None:
    wrong = ["FP32", "INT32", "INT64", "BOOL", "BYTES", "FP16", "BF16", "UINT8", "fp32", "TYPE_FP32", "STRING", ""]
    _some_input(draw, draft).datatype = draw(st.sampled_from(wrong))


def _shape_value(draw: st.DrawFn, draft: CallDraft) -> None:
    shape = _some_input(draw, draft).shape
    shape[draw(st.integers(0, len(shape) - 1))] = draw(st.sampled_from([-1, -2, 0, 1, 2, 5, 9, 65536, 2**40]))


def _shape_rank(draw: st.DrawFn, draft: CallDraft) -> None:
    entry = _some_input(draw, draft)
    shape = list(entry.shape)
    del entry.shape[:]
    entry.shape.extend(draw(st.sampled_from([[], shape[1:], [1, *shape], [*shape, 1]])))


def _batch_everywhere(draw: st.DrawFn, draft: CallDraft) -> None:
    """A consistent batch that is too large, or none at all."""
    size = draw(st.sampled_from([0, 9, 100]))
    for where, entry in enumerate(draft.message.inputs):
        inner = math.prod(entry.shape[1:])
        entry.shape[0] = size
        if draft.message.raw_input_contents:
            draft.message.raw_input_contents[where] = bytes(size * inner * 4)
        elif draw(st.booleans()):
            field = CONTENTS[entry.datatype]
            del getattr(entry.contents, field)[:]
            getattr(entry.contents, field).extend([SAMPLE[field]] * (size * inner))


def _raw_bytes(draw: st.DrawFn, draft: CallDraft) -> None:
    raw = draft.message.raw_input_contents
    if raw:
        where = draw(st.integers(0, len(raw) - 1))
        raw[where] = draw(st.sampled_from([b"", raw[where][:-1], raw[where] + b"\0", raw[where] * 2, raw[where][4:]]))


def _bytes_lengths(draw: st.DrawFn, draft: CallDraft) -> None:
    """A raw BYTES tensor whose length prefixes are wrong, or whose text is none."""
    draft.model = BY_NAME["identity_bytes"]
    sound = packed("BYTES", ["ab", "c"])
    raws = [sound[:-1], sound[:6], sound[:3], sound + b"\0", b"\xff\xff\xff\xff", sound * 2, b"", sound]
    draft.message = service_pb2.ModelInferRequest(model_name=draft.model.name)
    draft.message.inputs.add(name="INPUT0", datatype="BYTES", shape=[1, 2])
    draft.message.raw_input_contents.append(draw(st.sampled_from([*raws, b"\1\0\0\0\xff\1\0\0\0a"])))


def _odd_booleans(draw: st.DrawFn, draft: CallDraft) -> None:
    draft.model = BY_NAME["identity_bool"]
    draft.message = service_pb2.ModelInferRequest(model_name=draft.model.name)
    draft.message.inputs.add(name="INPUT0", datatype="BOOL", shape=[1, 2])
    draft.message.raw_input_contents.append(draw(st.sampled_from([b"\1\2", b"\xff\0", b"\0\1"])))


def _parameter(draw: st.DrawFn, draft: CallDraft) -> None:
    names = [
        "custom",
        "triton_x",
        "triton_",
        "triton_enable_empty_final_response",
        "priority",
        "timeout",
        "headers",
        "",
    ]
    strange = draw(st.sampled_from(STRANGE))
    name = draw(st.sampled_from(names))
    if name == "timeout" and strange == ("int64_param", 1):
        strange = ("string_param", "1")  # a microsecond: who wins is a race
    if name in {"triton_x", "triton_"} and not strange[0]:
        strange = ("bool_param", True)  # not two mistakes
    set_parameter(draft.message.parameters, name, *strange)


def _sequence_parameter(draw: st.DrawFn, draft: CallDraft) -> None:
    """Parameters of sequences, to models that know none."""
    name = draw(st.sampled_from(["sequence_id", "sequence_start", "sequence_end"]))
    set_parameter(draft.message.parameters, name, *draw(st.sampled_from(STRANGE)))


def _region(draw: st.DrawFn, parameters: Any) -> None:
    """Parameters of shared memory; no such region is registered."""
    kinds = [("string_param", "r"), ("int64_param", 4), ("int64_param", -1), ("bool_param", True)]
    if draw(st.booleans()):
        set_parameter(parameters, "shared_memory_region", "string_param", "r")
        set_parameter(parameters, "shared_memory_byte_size", "int64_param", 4)
    for suffix in draw(st.lists(st.sampled_from(["region", "byte_size", "offset"]), max_size=2, unique=True)):
        set_parameter(parameters, f"shared_memory_{suffix}", *draw(st.sampled_from(kinds)))


def _input_parameters(draw: st.DrawFn, draft: CallDraft) -> None:
    entry = _some_input(draw, draft)
    if draw(st.booleans()):
        entry.ClearField("contents")
        del draft.message.raw_input_contents[:]
    if draw(st.booleans()):
        _region(draw, entry.parameters)
    else:
        name = draw(st.sampled_from(["custom", "binary_data_size", "classification"]))
        set_parameter(entry.parameters, name, *draw(st.sampled_from(STRANGE)))


def _some_output(draw: st.DrawFn, draft: CallDraft) -> Any:
    return draft.message.outputs.add(name=draw(st.sampled_from(draft.model.outputs)).name)


def _output_parameters(draw: st.DrawFn, draft: CallDraft) -> None:
    entry = _some_output(draw, draft)
    if draw(st.booleans()):
        _region(draw, entry.parameters)
    for name in draw(st.lists(st.sampled_from(["custom", "binary_data", "classification"]), max_size=2, unique=True)):
        set_parameter(entry.parameters, name, *draw(st.sampled_from(STRANGE)))


def _output_unknown(draw: st.DrawFn, draft: CallDraft) -> None:
    if draw(st.booleans()):
        _some_output(draw, draft)
    draft.message.outputs.add(name=draw(st.sampled_from(["UNKNOWN", "", "output0"])))


def _output_twice(draw: st.DrawFn, draft: CallDraft) -> None:
    draft.message.outputs.add().CopyFrom(_some_output(draw, draft))
    if draw(st.booleans()):
        draft.message.outputs[-1].parameters["classification"].int64_param = 1


def _name(draw: st.DrawFn, draft: CallDraft) -> None:
    draft.message.model_name = draw(st.sampled_from(NAMES))


def _version(draw: st.DrawFn, draft: CallDraft) -> None:
    draft.message.model_version = draw(st.sampled_from(VERSIONS))
    if draw(st.integers(0, 3)) == 0:
        draft.message.model_name = draw(st.sampled_from(NAMES))


def _odd_id(draw: st.DrawFn, draft: CallDraft) -> None:
    draft.message.id = draw(st.sampled_from(["a\0b", "\0", "x" * 300, "é☃", "\n"]))


def _nothing(draw: st.DrawFn, draft: CallDraft) -> None:
    draft.message = service_pb2.ModelInferRequest(model_name=draw(st.sampled_from(["", draft.model.name])))


def _damaged(draw: st.DrawFn, draft: CallDraft) -> None:
    """The bytes of the message cut, extended or changed."""
    share, byte = draw(st.integers(0, 99)), bytes([draw(st.integers(0, 255))])
    width = draw(st.sampled_from([0, 1, 1000]))

    def spoil(data: bytes) -> bytes:
        at = len(data) * share // 100
        return data[:at] + byte + data[at + width :]

    draft.spoil_bytes = spoil


SPOILS: Final[Mapping[str, Spoil]] = {
    spoil.__name__.strip("_").replace("_", "-"): spoil
    for spoil in (
        _drop_input,
        _drop_input_and_raw,
        _unknown_input,
        _rename_input,
        _duplicate_input,
        _no_contents,
        _empty_contents,
        _both_contents,
        _raw_count,
        _typed_other,
        _typed_count,
        _out_of_range,
        _datatype,
        _shape_value,
        _shape_rank,
        _batch_everywhere,
        _raw_bytes,
        _bytes_lengths,
        _odd_booleans,
        _parameter,
        _sequence_parameter,
        _input_parameters,
        _output_parameters,
        _output_unknown,
        _output_twice,
        _name,
        _version,
        _odd_id,
        _nothing,
        _damaged,
    )
}


@st.composite
def _spoilt(draw: st.DrawFn, *names: str) -> CallDraft:
    draft = draw(call_drafts())
    for name in names:
        with contextlib.suppress(IndexError, KeyError, TypeError, ValueError):  # the one before took it away
            SPOILS[name](draw, draft)
    draft.label = f"infer {' '.join(names)}" if len(names) == 1 else SPOILT_TWICE
    return draft


@st.composite
def _spoilt_twice(draw: st.DrawFn) -> CallDraft:
    """Two mistakes in one request: which of them is told depends on the order of the checks."""
    return draw(_spoilt(*draw(st.lists(st.sampled_from(sorted(SPOILS)), min_size=2, max_size=2, unique=True))))


@st.composite
def _streams(draw: st.DrawFn) -> Call:
    """Some requests on one stream, most of them valid.

    Real Triton dies (SIGSEGV, a race) of `triton_grpc_error` where requests do not wait for answers.
    """
    spoilt = st.sampled_from(sorted(SPOILS)).flatmap(_spoilt)
    drafts = draw(st.lists(st.one_of(call_drafts(), call_drafts(), spoilt), max_size=4))
    messages = tuple(draft.finished() for draft in drafts)
    metadata = draw(st.sampled_from([(), (), (), (("triton_grpc_error", "true"),), (("triton_grpc_error", "x"),)]))
    lockstep = bool(metadata) or draw(st.booleans())
    return Call(STREAM, messages, metadata, lockstep, f"stream{' in lockstep' if lockstep else ''}")


# --- everything else


def _call(rpc: str, label: str, **fields: Any) -> Call:
    message = getattr(service_pb2, f"{rpc}Request")(**fields)
    return Call(rpc, (message.SerializeToString(deterministic=True),), label=label)


@st.composite
def _about_models(draw: st.DrawFn) -> Call:
    rpc = draw(st.sampled_from(["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"]))
    name = draw(st.sampled_from([*BY_NAME, *NAMES]))
    version = draw(st.sampled_from([""] * 8 + list(VERSIONS)))
    return _call(rpc, f"about {rpc}", name=name, version=version)


@st.composite
def _about_server(draw: st.DrawFn) -> Call:
    rpc = draw(st.sampled_from(["ServerLive", "ServerReady", "ServerMetadata"]))
    noise = draw(st.sampled_from([b"", b"", b"\x0a\x01x", b"\xff"]))
    return Call(rpc, (noise,), label=f"about {rpc}")


@st.composite
def _index(draw: st.DrawFn) -> Call:
    name = draw(st.sampled_from(["", "", "x"]))
    return _call("RepositoryIndex", "index", repository_name=name, ready=draw(st.booleans()))


@st.composite
def _regions(draw: st.DrawFn) -> Call:
    """Shared memory of which there is none."""
    kind = draw(st.sampled_from(["System", "Cuda"]))
    verb = draw(st.sampled_from(["Status", "Register", "Unregister"]))
    fields: dict[str, Any] = {"name": draw(st.sampled_from(["", "r", "nope"]))}
    if verb == "Register":
        fields["byte_size"] = draw(st.sampled_from([0, 4, 2**40]))
        if kind == "System":
            fields |= {
                "key": draw(st.sampled_from(["", "/nope-taxiway", "nope/../x"])),
                "offset": draw(st.integers(0, 9)),
            }
        else:
            fields |= {"raw_handle": b"x" * 64, "device_id": draw(st.sampled_from([0, 1, -1]))}
    return _call(f"{kind}SharedMemory{verb}", f"region {verb}", **fields)


@st.composite
def _trace(draw: st.DrawFn) -> Call:
    """Trace settings, read and changed; tracing itself stays off, and so does what other models are traced with."""
    message = service_pb2.TraceSettingRequest(model_name=draw(st.sampled_from(["", "add_sub", "nope"])))
    keys = draw(st.lists(st.sampled_from(sorted(TRACE_VALUES)), max_size=1))
    for key in keys:
        setting: Any = message.settings[key]
        sound, unsound = TRACE_VALUES[key]
        usual = sound if message.model_name else sound[:1]
        setting.value.extend(draw(st.lists(st.sampled_from([*usual, *unsound]), max_size=2)))
    return Call("TraceSetting", (message.SerializeToString(deterministic=True),), label="trace")


TRACE_VALUES: Final[Mapping[str, tuple[Sequence[str], Sequence[str]]]] = {
    "trace_level": (["OFF"], []),
    "trace_rate": (["1000", "1"], ["x", ""]),
    "trace_count": (["-1", "5"], ["x", "-2"]),
    "log_frequency": (["0", "3"], ["x"]),
    "trace_file": ([""], ["x"]),
    "trace_mode": (["triton"], []),
}
"""What each setting may be, its default first, and what it may not be."""


@st.composite
def _logging(draw: st.DrawFn) -> Call:
    """Log settings, read and changed to what they are, or cannot be."""
    message = service_pb2.LogSettingsRequest()
    wrong: list[tuple[str, Any]] = [("uint32_param", 1), ("string_param", "x"), ("bool_param", True), ("", None)]
    right = {"log_verbose_level": ("uint32_param", 0), "log_file": ("string_param", "x")}
    keys = ["log_info", "log_warning", "log_error", "log_verbose_level", "log_format", "log_file"]
    chosen = draw(st.lists(st.sampled_from(keys), max_size=2, unique=True))
    for place, key in enumerate(["log_file"] if "log_file" in chosen else chosen):
        kinds = [right.get(key, ("bool_param", True))]
        if place == 0 and key != "log_file":  # which is a mistake already, and one is enough
            kinds += [kind for kind in wrong if key != "log_verbose_level" or kind[0] != "uint32_param"]
        set_parameter(message.settings, key, *draw(st.sampled_from(kinds)))
    return Call("LogSettings", (message.SerializeToString(deterministic=True),), label="logging")


def _sent(drafts: st.SearchStrategy[CallDraft]) -> st.SearchStrategy[Call]:
    calls = drafts.map(CallDraft.call)
    return calls.filter(lambda call: not call_breaks_triton(call.messages[0]))


def call_kinds() -> dict[str, tuple[int, st.SearchStrategy[Call]]]:
    """Every kind of call with its weight; see `tests.oracle.requests.kinds`."""
    streams = _streams().filter(lambda call: not any(map(call_breaks_triton, call.messages)))
    return {
        "valid": (36, _sent(call_drafts())),
        **{name: (2, _sent(_spoilt(name))) for name in SPOILS},
        "twice": (10, _sent(_spoilt_twice())),
        "stream": (14, streams),
        "models": (8, _about_models()),
        "server": (1, _about_server()),
        "index": (1, _index()),
        "regions": (2, _regions()),
        "trace": (2, _trace()),
        "logging": (2, _logging()),
    }
