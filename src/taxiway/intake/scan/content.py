"""What kind of bytes a file holds, told by the bytes alone; a name can say anything."""

from __future__ import annotations

import enum
import io
import zlib

from taxiway.core.errors import UnsafeArtifact
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import Buffer
from taxiway.intake.read import protobuf
from taxiway.intake.read.pickles import Stream, read_stream


class Kind(enum.Enum):
    """What a file holds."""

    EMPTY = "an empty file"
    PICKLE = "a pickle"
    NPY = "a NumPy array"
    ZIP = "a zip archive"
    TAR = "a tar archive"
    COMPRESSED = "compressed bytes"
    ONNX = "an ONNX model"
    SAFETENSORS = "safetensors"
    GGUF = "GGUF"
    PLAN = "a TensorRT plan"
    CATBOOST = "a CatBoost model"
    UBJSON = "binary JSON"
    SENTENCEPIECE = "a SentencePiece vocabulary"
    IMAGE = "an image"
    TEXT = "text"
    NATIVE = "native code"
    HDF5 = "HDF5"
    UNKNOWN = "bytes of no kind that is known here"


_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"GGUF", Kind.GGUF),
    (b"ftrt", Kind.PLAN),
    (b"ptrt", Kind.PLAN),
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    (b"\x93NUMPY", Kind.NPY),
    (b"CBM1", Kind.CATBOOST),
    (b"\x7fELF", Kind.NATIVE),
    (b"MZ", Kind.NATIVE),
    (b"\xcf\xfa\xed\xfe", Kind.NATIVE),
    (b"\x89HDF", Kind.HDF5),
    (b"\x1f\x8b", Kind.COMPRESSED),
    (b"BZh", Kind.COMPRESSED),
    (b"\xfd7zXZ", Kind.COMPRESSED),
    (b"\x28\xb5\x2f\xfd", Kind.COMPRESSED),
    (b"\x04\x22\x4d\x18", Kind.COMPRESSED),
    (b"7z\xbc\xaf\x27\x1c", Kind.COMPRESSED),
    (b"Rar!", Kind.COMPRESSED),
    (b"ZF", Kind.COMPRESSED),  # joblib's own, before 2016
    (b"\x89PNG\r\n", Kind.IMAGE),
    (b"\xff\xd8\xff", Kind.IMAGE),
    (b"GIF8", Kind.IMAGE),
)

_SNIFF_OPS = 200_000
_SNIFF_BYTES = 1 << 20
_ONNX_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
_ONNX_MAX_TOP_FIELDS = 10_000


def identify(data: Buffer) -> Kind:
    """The kind of a file's content: a pickle, if it can be read as one and as something else too."""
    if not data:
        return Kind.EMPTY
    kind = _kind_of(data)
    # A header of GGUF or an image can be an opcode and its argument; no unpickler goes on from a zip's.
    return Kind.PICKLE if kind not in (Kind.PICKLE, Kind.ZIP) and _calls_something(data) else kind


def _kind_of(data: Buffer) -> Kind:
    head = data[:_SNIFF_BYTES]
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if _is_tar(head):
        return Kind.TAR
    if _is_safetensors(head):
        return Kind.SAFETENSORS
    if is_pickle(data):
        return Kind.PICKLE
    if _is_onnx(data):
        return Kind.ONNX
    return _text_or_rarer(head)


def is_pickle(data: Buffer) -> bool:
    """Whether `pickle.load` would do something with it, even if it gives up later."""
    stream = _sniffed(data)
    return stream.is_pickle or (data[:1] == b"\x80" and stream.ops >= 3) or stream.ops >= _SNIFF_OPS


def _calls_something(data: Buffer) -> bool:
    return _sniffed(data).acts


def _sniffed(data: Buffer) -> Stream:
    source = io.BytesIO(data) if isinstance(data, bytes) else data
    source.seek(0)
    return read_stream(source, _SNIFF_OPS)


def _is_tar(head: bytes) -> bool:
    """By its mark, or by the checksum of its first member, as the oldest tars have no mark."""
    if head[257:262] == b"ustar":
        return True
    block = head[:512]
    if len(block) < 512 or not block[0]:
        return False
    try:
        said = int(block[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return False
    return said == sum(block[:148]) + 8 * 32 + sum(block[156:])


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of length and the beginning of a JSON object; whether the length is true is the scan's to say."""
    return head[8:9] == b"{" and any(byte < 9 or byte > 126 for byte in head[:8])


def _is_onnx(data: Buffer) -> bool:
    """Whether its outermost fields are those of a ModelProto and hold a version and a graph."""
    seen: set[int] = set()
    try:
        for count, (number, wire, _) in enumerate(protobuf.Reader(data, "", DEFAULT_LIMITS).root().fields()):
            if number not in _ONNX_FIELDS or count > _ONNX_MAX_TOP_FIELDS:
                return False
            if wire != (protobuf.VARINT if number in (1, 5) else protobuf.LENGTH):
                return False
            seen.add(number)
    except UnsafeArtifact:
        return False
    return 7 in seen and bool(seen & {1, 8})


def _text_or_rarer(head: bytes) -> Kind:
    if _is_zlib(head) or head[:5] == b"\x5d\0\0\x80\0" or (head[:1] == b"\x5d" and head[5:13] == b"\xff" * 8):
        return Kind.COMPRESSED
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind.IMAGE
    if head[:1] == b"{" and head[1:2] in (b"i", b"U", b"l", b"L", b"I", b"$", b"#"):
        return Kind.UBJSON
    if is_text(head):
        return Kind.TEXT
    if head[:1] == b"\n" and head[2:3] == b"\n" and b"\x15" in head[4:64]:
        return Kind.SENTENCEPIECE
    return Kind.UNKNOWN


def _is_zlib(head: bytes) -> bool:
    """A zlib header that also unpacks: two bytes alone are too easily met."""
    if len(head) < 6 or head[0] & 0x0F != 8 or head[0] >> 4 > 7 or (head[0] << 8 | head[1]) % 31:
        return False
    try:
        return bool(zlib.decompressobj().decompress(head, 64))
    except zlib.error:
        return False


def is_text(head: bytes) -> bool:
    """Whether it is UTF-8 without control characters that no text has."""
    cut = head if len(head) < _SNIFF_BYTES else head[: head.rfind(b"\n") + 1 or -4]
    try:
        text = cut.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        if problem.start < len(cut) - 4:
            return False
        text = cut[: problem.start].decode("utf-8-sig")
    return not any(ord(char) < 32 and char not in "\t\n\r\f\x1b" for char in text)
