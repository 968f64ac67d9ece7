"""Files of each format, made byte by byte, so that they can be made wrong."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

Tensors = dict[str, tuple[str, list[int], tuple[int, int]]]
"""Name -> dtype, shape, offsets."""


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def zipped_items(items: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in items:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def tarred(items: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in items:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def mar(items: list[tuple[str, bytes]]) -> bytes:
    """A TorchServe archive with these files beside a handler."""
    manifest = {"model": {"modelName": "m", "handler": "handler.py", "serializedFile": "w.bin", "modelVersion": "1.0"}}
    head = [
        ("MAR-INF/MANIFEST.json", json.dumps(manifest).encode()),
        ("handler.py", b"def handle(d, c):\n    return d\n"),
    ]
    return zipped_items([*head, *items])


def npy_of_objects(pickled: bytes) -> bytes:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled


def torch_saved(pickled: bytes) -> bytes:
    return zipped_items([("archive/data.pkl", pickled), ("archive/version", b"3\n"), ("archive/data/0", b"\0" * 16)], 0)


def torch_tar(pickled: bytes) -> bytes:
    """torch.save of before 2017."""
    return tarred([("sys_info", pickle.dumps({})), ("pickle", pickled), ("storages", pickle.dumps(1))])


def torch_legacy(pickled: bytes) -> bytes:
    """torch.save of before 1.6: magic, protocol, system, then the object, one pickle after the other."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(one, 2) for one in head) + pickled


def torch_script(pickled: bytes, code: bytes = b"class M(Module):\n  def forward(self, x):\n    return x\n") -> bytes:
    """The layout of torch.jit.save."""
    items = [
        ("m/data.pkl", pickled),
        ("m/constants.pkl", pickle.dumps((), 2)),
        ("m/code/__torch__.py", code),
        ("m/version", b"3\n"),
        ("m/data/0", b"\0\0\x80?"),
    ]
    return zipped_items(items, 0)


def torch_export(weight: bytes) -> bytes:
    """The layout of torch.export.save."""
    program = json.dumps({"schema_version": {"major": 8, "minor": 5}, "graph_module": {}}).encode()
    items = [
        ("m/archive_format", b"pt2"),
        ("m/models/model.json", program),
        ("m/data/weights/weight_0", weight),
    ]
    return zipped_items(items, 0)


def skops_archive(kind: str, module: str, loader: str) -> bytes:
    schema = {
        "__class__": kind, "__module__": module, "__loader__": loader,
        "content": {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode", "content": {}},
        "protocol": 2, "_skops_version": "0.12.0",
    }  # fmt: skip
    return zipped_items([("schema.json", json.dumps(schema).encode())])


def mlflow_model(directory: Path, pickled: bytes) -> Path:
    model = directory / "mlflow"
    model.mkdir()
    write(
        model / "MLmodel",
        b"flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\nmlflow_version: 3.1.0\n",
    )
    write(model / "python_model.pkl", pickled)
    return model


def hugging_face(directory: Path, files: dict[str, bytes]) -> Path:
    """A directory with configuration, weights and these files."""
    model = directory / "hf"
    model.mkdir()
    write(model / "config.json", json.dumps({"model_type": "bert", "architectures": ["BertModel"]}).encode())
    write(model / "model.safetensors", safetensors({"a": ("F32", [2], (0, 8))}, 8))
    for name, data in files.items():
        write(model / name, data)
    return model


def triton(directory: Path, config: str) -> Path:
    model = directory / "adder"
    (model / "1").mkdir(parents=True)
    write(model / "1" / "model.py", b"class TritonPythonModel:\n    pass\n")
    write(model / "config.pbtxt", f'backend: "python"\n{config}'.encode())
    return model


def field(number: int, data: bytes) -> bytes:
    """A field of protobuf that has a length."""
    size, length = len(data), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def safetensors(
    tensors: Tensors,
    size: int,
    *,
    header: bytes | None = None,
    says: int | None = None,
) -> bytes:
    """A safetensors file; `header` and `says` stand for what the tensors would make of them."""
    if header is None:
        rows = {name: {"dtype": d, "shape": s, "data_offsets": list(o)} for name, (d, s, o) in tensors.items()}
        header = json.dumps(rows).encode()
    return struct.pack("<Q", len(header) if says is None else says) + header + b"\0" * size


def gguf(*, tensors: int = 1, pairs: int = 1, key_bytes: int | None = None, offset: int = 0, kind: int = 0) -> bytes:
    """A GGUF file with one key and one tensor of eight numbers."""
    key, name = b"general.architecture", b"w"
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs)
    head += struct.pack("<Q", len(key) if key_bytes is None else key_bytes) + key
    head += struct.pack("<IQ", 8, 5) + b"llama"
    head += struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 8, kind, offset)
    return head + b"\0" * (-len(head) % 32) + b"\0" * 32
