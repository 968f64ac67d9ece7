"""Archives: names that lead out, members that are no files, bombs; and then what is in them, one by one."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from taxiway.core.errors import MalformedArtifact, OversizedArtifact, ScanFailed, UnsafePath
from taxiway.intake.limits import Limits
from taxiway.intake.scan import skops
from taxiway.intake.scan.content import Kind, identify
from taxiway.intake.scan.exported import scan_program
from taxiway.intake.scan.look import Look
from taxiway.intake.scan.torch_archives import EXPORT, SCRIPT, Layout, layout_of, scan_script
from taxiway.intake.staging import check_name

ScanInner = Callable[[Look], None]

_ENCRYPTED = 0x1
_HEAD_BYTES = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def scan_zip(look: Look, scan_inner: ScanInner) -> None:
    """Check a zip archive's directory, then look at each member.

    Raises:
        UnsafeArtifact: of the family that the broken rule belongs to.
    """
    with opened_zip(look.at, look.shown) as archive:
        members = archive.infolist()
        check_zip(members, look.shown, look.limits)
        look.shared.count_members(len(members), look.shown)
        _check_size_together(members, look)
        layout = layout_of([member.filename for member in members])
        if skops.is_skops(archive):
            skops.scan_schema(look, archive)
        for member in members:
            if not member.is_dir():
                _scan_member(look, archive, member, layout, scan_inner)


@contextmanager
def opened_zip(at: Path, shown: str) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose errors are ours."""
    try:
        with zipfile.ZipFile(at) as archive:
            yield archive
    except (
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        OSError,
        NotImplementedError,
        ValueError,
    ) as problem:
        raise MalformedArtifact(
            f"{shown} is a broken zip archive: {problem}", hint="copy it again", file=shown, rule="zip"
        ) from problem


def check_zip(members: list[zipfile.ZipInfo], shown: str, limits: Limits) -> None:
    """Everything that the directory of a zip archive tells, before a byte is unpacked.

    Raises:
        UnsafePath, OversizedArtifact, MalformedArtifact: a rule is broken.
    """
    _check_count(len(members), shown, limits)
    seen: set[str] = set()
    for member in members:
        name = check_member_name(member.orig_filename, shown)
        where = f"{shown}!{name}"
        if name.rstrip("/") in seen:
            raise MalformedArtifact(f"{where} is there twice", file=where, rule="duplicate-name")
        seen.add(name.rstrip("/"))
        if member.flag_bits & _ENCRYPTED:
            raise ScanFailed(f"{where} is encrypted, so nobody can look at it", file=where, rule="encrypted")
        if member.compress_type not in _METHODS:
            rule = f"is packed by a method (number {member.compress_type}) that is not read here"
            raise ScanFailed(f"{where} {rule}", file=where, rule="zip-method")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafePath(f"{where} is a link or a device, not a file", file=where, rule="plain-file")
        _check_ratio(member.file_size, member.compress_size, where, limits)
    total = sum(member.file_size for member in members)
    if total > limits.max_unpacked_bytes:
        rule = f"says that it unpacks to {total} bytes, more than max_unpacked_bytes ({limits.max_unpacked_bytes})"
        raise OversizedArtifact(f"{shown} {rule}", file=shown, rule="max_unpacked_bytes")
    _check_overlap(members, shown)


def _check_size_together(members: list[zipfile.ZipInfo], look: Look) -> None:
    """A thousand members that are each just small enough are a bomb too; and nothing lies before the first.

    Readers do not agree on where an archive begins that has something before it, and so not on what is in it.
    """
    total = sum(member.file_size for member in members)
    _check_ratio(total, look.at.stat().st_size, look.shown, look.limits)
    if members and min(member.header_offset for member in members) != 0:
        raise MalformedArtifact(
            f"{look.shown} is a zip archive with something before its first member",
            hint="pack it again",
            file=look.shown,
            rule="two-formats",
        )


def refuse_hidden_zip(look: Look, kind: str) -> None:
    """Refuse another file with a zip archive at its end, which some readers see in its place.

    Raises:
        MalformedArtifact: it is both.
    """
    try:
        with zipfile.ZipFile(look.at) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, OverflowError, struct.error):
        return
    if names:
        raise MalformedArtifact(
            f"{look.shown} is {kind} and a zip archive at once: readers would not agree on what is in it",
            hint="save the model again",
            file=look.shown,
            rule="two-formats",
        )


def _check_tail(look: Look, end: int) -> None:
    """Nothing but zeros follows the last member of a tar archive: what does is seen by other readers only."""
    with look.at.open("rb") as file:
        file.seek(end)
        while chunk := file.read(_HEAD_BYTES):
            if chunk.strip(b"\0"):
                raise MalformedArtifact(
                    f"{look.shown} goes on after the end of its tar archive",
                    hint="pack it again",
                    file=look.shown,
                    rule="two-formats",
                )


def _check_overlap(members: list[zipfile.ZipInfo], shown: str) -> None:
    """Two members from the same bytes: how forty kilobytes become five gigabytes."""
    end = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        if member.header_offset < end:
            where = f"{shown}!{member.filename}"
            raise MalformedArtifact(f"{where} overlaps the member before it", file=where, rule="overlap")
        end = member.header_offset + 30 + member.compress_size


def _scan_member(
    look: Look, archive: zipfile.ZipFile, member: zipfile.ZipInfo, layout: Layout | None, scan_inner: ScanInner
) -> None:
    if layout is not None and layout.is_raw(member.filename) and _is_bare(archive, member):
        return  # numbers, perhaps gigabytes of them: not unpacked for a look
    with archive.open(member) as packed:
        at = look.unpack(packed, f"{look.shown}!{member.filename}", member.file_size)
    inner = look.inner(member.filename, at, None if layout is None else layout.reader)
    if layout is EXPORT and member.filename.lower().endswith(".json"):  # torch finds them in any case
        scan_program(inner)
    if layout is SCRIPT and member.filename.lower().endswith(".py"):
        scan_script(inner)
    _scan_unpacked(inner, scan_inner)


def _scan_unpacked(look: Look, scan_inner: ScanInner) -> None:
    """Look at what was unpacked, and keep it no longer than anybody asks for it."""
    scan_inner(look)
    if all(found.at != look.at for found in look.shared.pickles):
        look.at.unlink()


def _is_bare(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether what should be bare numbers does not begin as something that a reader would rather unpickle."""
    with archive.open(member) as packed:
        return identify(packed.read(_HEAD_BYTES)) not in (Kind.PICKLE, Kind.ZIP, Kind.TAR)


def scan_tar(look: Look, scan_inner: ScanInner) -> None:
    """Check a tar archive's members, and look at each.

    Raises:
        UnsafeArtifact: of the family that the broken rule belongs to.
    """
    try:
        with tarfile.open(look.at, "r:") as archive:
            seen: set[str] = set()
            for count, member in enumerate(archive, 1):
                _check_count(count, look.shown, look.limits)
                look.shared.count_members(1, look.shown)
                name = check_member_name(member.name, look.shown)
                where = f"{look.shown}!{name}"
                if name in seen:
                    raise MalformedArtifact(f"{where} is there twice", file=where, rule="duplicate-name")
                seen.add(name)
                if not (member.isreg() or member.isdir()):
                    raise UnsafePath(f"{where} is a link or a device, not a file", file=where, rule="plain-file")
                packed = archive.extractfile(member) if member.isreg() else None
                if packed is not None:
                    at = look.unpack(packed, where, member.size)
                    _scan_unpacked(look.inner(name, at), scan_inner)
            _check_tail(look, archive.offset)
    except (tarfile.TarError, EOFError, OSError) as problem:
        raise MalformedArtifact(
            f"{look.shown} is a broken tar archive: {problem}", hint="copy it again", file=look.shown, rule="tar"
        ) from problem


def scan_compressed(look: Look, scan_inner: ScanInner) -> None:
    """Unpack what one of Python's own methods packed, and look at that.

    Raises:
        ScanFailed: packed by something else.
        OversizedArtifact: a bomb.
        MalformedArtifact: broken.
    """
    with look.at.open("rb") as file:
        packed = unpacker(file)
        if packed is None:
            raise ScanFailed(
                f"{look.shown} is packed by a method that is not read here, so nobody can look at it",
                hint=f"unpack it first, or say --trust {look.owner.digest}",
                file=look.shown,
                rule="compression",
            )
        at_most = max(look.limits.ratio_from_bytes, look.at.stat().st_size * look.limits.max_ratio)
        try:
            at = look.unpack(packed, look.shown, at_most)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as problem:
            raise MalformedArtifact(
                f"{look.shown} cannot be unpacked: {problem}", hint="copy it again", file=look.shown, rule="compression"
            ) from problem
    _scan_unpacked(look.inner("unpacked", at), scan_inner)


def unpacker(file: IO[bytes]) -> IO[bytes] | None:
    """A reader of what is packed in `file`; None if its method is not one of Python's own."""
    head = file.read(16)
    file.seek(0)
    if head[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if head[:3] == b"BZh":
        return bz2.BZ2File(file)
    if head[:5] == b"\xfd7zXZ" or head[:1] == b"\x5d":
        return lzma.LZMAFile(file)
    if head[:1] and head[0] & 0x0F == 8 and (head[0] << 8 | head[1]) % 31 == 0:
        return cast("IO[bytes]", io.BufferedReader(_Zlib(file)))
    return None


class _Zlib(io.RawIOBase):
    """A zlib stream as a file, which the standard library has for every method but this."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._engine = zlib.decompressobj()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """As many bytes as fit, 0 at the end. One stream may follow another, as joblib reads them."""
        while packed := self._engine.unconsumed_tail or self._engine.unused_data or self._file.read(65536):
            if self._engine.eof:
                self._engine = zlib.decompressobj()
            made = self._engine.decompress(packed, len(buffer))
            if made:
                buffer[: len(made)] = made
                return len(made)
        if not self._engine.eof:
            raise EOFError("it ends in the middle")
        return 0


def check_member_name(name: str, shown: str) -> str:
    """A member's name, if unpacking it writes below the place it is unpacked to.

    Raises:
        UnsafePath: it leads out, or is no plain name.
    """
    where = f"{shown}!{ascii(name)[1:-1]}"
    check_name(where, name)
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or (len(parts[0]) > 1 and parts[0][1] == ":"):
        raise UnsafePath(
            f"{where} would be written outside of the place it is unpacked to",
            hint="pack it again with relative names",
            file=where,
            rule="zip-slip",
        )
    return name


def _check_count(count: int, shown: str, limits: Limits) -> None:
    if count > limits.max_members:
        rule = f"has more members than max_members ({limits.max_members})"
        raise OversizedArtifact(f"{shown} {rule}", file=shown, rule="max_members")


def _check_ratio(size: int, packed: int, where: str, limits: Limits) -> None:
    if size > limits.ratio_from_bytes and size > max(packed, 1) * limits.max_ratio:
        rule = f"unpacks {packed} bytes to {size}, more than max_ratio ({limits.max_ratio}) times as many"
        raise OversizedArtifact(f"{where} {rule}", file=where, rule="max_ratio")
