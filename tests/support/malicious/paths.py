"""Paths, links and names that lead out of the model."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from onnx import TensorProto, helper
from tests.support.malicious.case import Case
from tests.support.malicious.making import (
    hugging_face,
    mar,
    tarred,
    write,
)

from taxiway.core.errors import (
    MalformedArtifact,
    UnsafeArtifact,
    UnsafePath,
)


def external_model(directory: Path, location: str, *, offset: int = 0, length: int = 16, size: int | None = 16) -> Path:
    """An ONNX model whose four numbers lie in another file."""
    weight = TensorProto(name="w", dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    io_ = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", io_[:1], io_[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if size is not None:
        write(directory / "weights.bin", b"\0" * size)
    return write(directory / "model.onnx", model.SerializeToString())


def _external(name: str, location: str, error: type[UnsafeArtifact], rule: str, offset: int = 0) -> Case:
    return Case(
        f"onnx-{name}",
        lambda directory, canary: external_model(directory, location, offset=offset),
        lambda directory: external_model(directory, "weights.bin"),
        error,
        rule,
    )


def linked(directory: Path, target: str) -> Path:
    model = hugging_face(directory, {})
    (model / "tokenizer.json").symlink_to(target)
    return model


def piped(directory: Path) -> Path:
    model = hugging_face(directory, {})
    os.mkfifo(model / "vocab.txt")
    return model


def mar_with(name: str, mode: int = 0) -> Callable[[Path, Path], Path]:
    """A TorchServe archive with one more member of this name and Unix mode."""

    def build(directory: Path, canary: Path) -> Path:
        path = write(directory / "model.mar", mar([]))
        with zipfile.ZipFile(path, "a") as archive:
            member = zipfile.ZipInfo(name.format(canary=canary))
            member.external_attr = mode << 16
            archive.writestr(member, b"/etc/passwd")
        return path

    return build


def plain_mar(directory: Path) -> Path:
    return write(directory / "model.mar", mar([("notes.txt", b"/etc/passwd")]))


def tar_in_mar(kind: bytes, name: str, link: str = "") -> Callable[[Path, Path], Path]:
    """A tar in a TorchServe archive, with a member of this kind."""

    def build(directory: Path, canary: Path) -> Path:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member)
        return write(directory / "model.mar", mar([("w.tar", buffer.getvalue())]))

    return build


def tar_twin(directory: Path) -> Path:
    return write(directory / "model.mar", mar([("w.tar", tarred([("a/b.txt", b"hello")]))]))


def cases() -> Iterator[Case]:
    yield _external("traversal", "../../../../etc/passwd", UnsafePath, "external-data-path")
    yield _external("absolute", "/etc/passwd", UnsafePath, "external-data-path")
    yield _external("hidden-traversal", "weights/../../secret", UnsafePath, "external-data-path")
    yield _external("missing", "gone.bin", MalformedArtifact, "external-data-missing")
    yield _external("beyond-end", "weights.bin", MalformedArtifact, "external-data-span", offset=1 << 40)
    yield Case(
        "onnx-external-link",
        lambda directory, canary: _link_beside(external_model(directory, "weights.bin", size=None), "/etc/passwd"),
        lambda directory: external_model(directory, "weights.bin"),
        UnsafePath,
        "link",
    )
    yield Case(
        "directory-link-out",
        lambda directory, canary: linked(directory, "/etc/passwd"),
        lambda directory: linked(directory, "config.json"),
        UnsafePath,
        "link",
    )
    yield Case(
        "directory-fifo",
        lambda directory, canary: piped(directory),
        lambda d: hugging_face(d, {}),
        UnsafePath,
        "plain-file",
    )
    yield Case("zip-slip", mar_with("../../{canary}"), plain_mar, UnsafePath, "zip-slip")
    yield Case("zip-absolute", mar_with("{canary}"), plain_mar, UnsafePath, "zip-slip")
    yield Case("zip-drive", mar_with("C:/windows/x"), plain_mar, UnsafePath, "zip-slip")
    yield Case("zip-backslash", mar_with("..\\..\\x"), plain_mar, UnsafePath, "name")
    yield Case("zip-control-characters", mar_with("a\x1b[2Jb.txt"), plain_mar, UnsafePath, "name")
    yield Case("zip-link", mar_with("link", 0o120777), plain_mar, UnsafePath, "plain-file")
    yield Case("zip-device", mar_with("device", 0o060666), plain_mar, UnsafePath, "plain-file")
    yield Case("tar-slip", tar_in_mar(tarfile.REGTYPE, "../../x"), tar_twin, UnsafePath, "zip-slip")
    yield Case("tar-link", tar_in_mar(tarfile.SYMTYPE, "a", "/etc/passwd"), tar_twin, UnsafePath, "plain-file")
    yield Case("tar-hard-link", tar_in_mar(tarfile.LNKTYPE, "a", "/etc/passwd"), tar_twin, UnsafePath, "plain-file")
    yield Case("tar-device", tar_in_mar(tarfile.CHRTYPE, "a"), tar_twin, UnsafePath, "plain-file")


def _link_beside(model: Path, target: str) -> Path:
    (model.parent / "weights.bin").symlink_to(target)
    return model
