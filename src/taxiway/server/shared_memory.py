"""Regions of memory that clients on this machine share with the server: tensors go in and out of them, not of a socket.

A region is read and written through its file, never mapped: what is read is one private copy, which nobody changes
after it was checked, and a client that cuts a region short gets an error, where memory that is mapped would be a SIGBUS
and the end of the process.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from taxiway.core.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    Overloaded,
    RegionUnusable,
    TooLarge,
    Unsupported,
)
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.render import Point

FOLDER = "/dev/shm"  # noqa: S108 - where POSIX shared memory lies, not a place for our own files
RESERVED_PREFIXES = ("triton_python_backend_shm_region_",)
"""Keys of regions that servers make for themselves."""
_MAX_KEY_CHARS = 255
"""As long as a file's name may be."""
_MAX_NAME_CHARS = 1024
_MAX_OFFSET = (1 << 63) - 1


class Region:
    """A piece of a file under /dev/shm. It stays open until it is unregistered and no request needs it any more."""

    __slots__ = ("__weakref__", "byte_size", "fd", "key", "name", "offset")

    def __init__(self, name: str, key: str, offset: int, byte_size: int, fd: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.byte_size = byte_size
        self.fd = fd
        weakref.finalize(self, os.close, fd)

    def describe(self) -> dict[str, Any]:
        """As both protocols tell it."""
        return {"name": self.name, "key": self.key, "offset": self.offset, "byte_size": self.byte_size}


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a region that one tensor has: `byte_size` bytes from `start` on in the file."""

    region: Region
    start: int
    byte_size: int

    def read(self) -> memoryview:
        """A copy of it.

        Raises:
            InvalidArgument: it is shorter by now than it was when it was registered.
        """
        memory = memoryview(bytearray(self.byte_size))
        done = 0
        while done < self.byte_size:
            count = self._try_read(memory[done:], self.start + done)
            if not count:
                raise self._cut_short()
            done += count
        return memory

    def write(self, output: str, content: bytes | bytearray | memoryview) -> None:
        """Put the bytes of `output` at its beginning.

        Raises:
            InvalidArgument: they do not fit, or it is shorter by now than it was when it was registered.
        """
        if len(content) > self.byte_size:
            raise RegionUnusable(
                f"shared memory size specified with the request for output '{output}' ({self.byte_size} bytes) should "
                f"be at least {len(content)} bytes to hold the results",
                hint="register a larger region, or give a larger shared_memory_byte_size",
            )
        if os.fstat(self.region.fd).st_size < self.start + len(content):  # writing would make the file longer
            raise self._cut_short()
        left, at = memoryview(content), self.start
        while left:
            count = self._try_write(left, at)
            left, at = left[count:], at + count

    def _try_read(self, memory: memoryview, at: int) -> int:
        try:
            return os.preadv(self.region.fd, [memory], at)
        except OSError as problem:
            raise self._unusable(problem) from problem

    def _try_write(self, content: memoryview, at: int) -> int:
        try:
            return os.pwrite(self.region.fd, content, at)
        except OSError as problem:
            raise self._unusable(problem) from problem

    def _cut_short(self) -> InvalidArgument:
        return InvalidArgument(
            f"shared memory region '{self.region.name}' is shorter than when it was registered",
            hint="keep the size of what is registered; unregister it first",
        )

    def _unusable(self, problem: OSError) -> InvalidArgument:
        return InvalidArgument(f"shared memory region '{self.region.name}' cannot be used: {problem.strerror}")


class Regions(Protocol):
    """What is registered, in this process.

    Attributes:
        enabled: whether anything can be.
    """

    enabled: bool

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Let requests name `byte_size` bytes of `key`, from `offset` on, as `name`."""

    def unregister(self, name: str | None) -> None:
        """Forget `name`, or everything if it is None; what is not there is no error."""

    def status(self, name: str | None) -> list[dict[str, Any]]:
        """What is registered as `name`, or everything if it is None."""

    def find(self, name: str, offset: int, byte_size: int) -> Window:
        """The window of a tensor."""

    def read(self, name: str, offset: int, byte_size: int) -> memoryview:
        """A copy of an input's bytes."""

    def points(self) -> Iterator[Point]:
        """Every series."""


class SystemRegions:
    """Files under /dev/shm.

    Args:
        max_regions: registered at once (`shared_memory.max_regions`).
        max_input_bytes: of one input; as if it had been sent (`limits.max_body_bytes`).
    """

    enabled = True

    def __init__(self, max_regions: int, max_input_bytes: int) -> None:
        self._max_regions = max_regions
        self._max_input_bytes = max_input_bytes
        self._regions: dict[str, Region] = {}

    def __len__(self) -> int:
        return len(self._regions)

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Let requests name `byte_size` bytes of `key`, from `offset` on, as `name`.

        Raises:
            AlreadyExists: something is registered under this name.
            InvalidArgument: there is no such file, it is none of the kind, or it is shorter.
            Overloaded: as many are registered as may be.
        """
        if name in self._regions:
            raise AlreadyExists(
                f"shared memory region '{name}' already in manager", hint="unregister it first, or take another name"
            )
        if len(self._regions) >= self._max_regions:
            raise Overloaded(
                f"{len(self._regions)} regions are registered; shared_memory.max_regions allows {self._max_regions}",
                hint="unregister some, or raise shared_memory.max_regions",
                limit=self._max_regions,
                key="shared_memory.max_regions",
            )
        if len(name) > _MAX_NAME_CHARS:
            raise InvalidArgument(f"the region's name has {len(name)} characters; at most {_MAX_NAME_CHARS} are taken")
        fd = _open(key)
        region = Region(name, key, offset, byte_size, fd)
        if not (0 <= offset <= _MAX_OFFSET and 0 < byte_size <= os.fstat(fd).st_size - offset):
            raise InvalidArgument(
                f"failed to register shared memory region '{name}': invalid args",
                hint=f"byte_size must be over 0, and offset + byte_size at most the {os.fstat(fd).st_size} bytes there",
            )
        self._regions[name] = region

    def unregister(self, name: str | None) -> None:
        """Forget `name`, or everything if it is None. Requests under way keep what they named."""
        if name is None:
            self._regions.clear()
        else:
            self._regions.pop(name, None)

    def status(self, name: str | None) -> list[dict[str, Any]]:
        """What is registered as `name`, or everything if it is None.

        Raises:
            NotFound: nothing is.
        """
        if name is None:
            return [self._regions[name].describe() for name in sorted(self._regions)]
        region = self._regions.get(name)
        if region is None:
            raise NotFound(
                f"Unable to find system shared memory region: '{name}'",
                hint="GET /v2/systemsharedmemory/status lists those that are registered",
            )
        return [region.describe()]

    def find(self, name: str, offset: int, byte_size: int) -> Window:
        """The window of a tensor.

        Raises:
            NotFound: nothing is registered under this name.
            InvalidArgument: the window is not within the region.
        """
        region = self._regions.get(name)
        if region is None:
            raise NotFound(
                f"Unable to find shared memory region: '{name}'",
                hint="register it: POST /v2/systemsharedmemory/region/{region}/register",
            )
        if offset >= region.byte_size:
            raise InvalidArgument(f"Invalid offset for shared memory region: '{name}'")
        if not 0 < byte_size <= region.byte_size - offset:
            raise InvalidArgument(
                f"Invalid offset + byte size for shared memory region: '{name}'",
                hint=f"the region has {region.byte_size} bytes",
            )
        return Window(region, region.offset + offset, byte_size)

    def read(self, name: str, offset: int, byte_size: int) -> memoryview:
        """A copy of an input's bytes.

        Raises:
            NotFound, InvalidArgument: as `find` and `Window.read`.
            TooLarge: more than a body may have.
        """
        window = self.find(name, offset, byte_size)
        if byte_size > self._max_input_bytes:
            raise TooLarge(
                f"an input of {byte_size} bytes in shared memory; at most {self._max_input_bytes} are taken",
                hint="limits.max_body_bytes bounds it",
                limit=self._max_input_bytes,
            )
        return window.read()

    def points(self) -> Iterator[Point]:
        """How many are registered."""
        yield Point(names.SHARED_MEMORY_REGIONS, (), len(self._regions))


class NoRegions:
    """Shared memory is off: nothing can be registered, and nothing is there."""

    enabled = False

    def register(self, name: str, key: str, offset: int, byte_size: int) -> NoReturn:
        """Refuse.

        Raises:
            Unsupported: always.
        """
        del name, key, offset, byte_size
        raise _disabled()

    def unregister(self, name: str | None) -> NoReturn:
        """Refuse.

        Raises:
            Unsupported: always.
        """
        del name
        raise _disabled()

    def status(self, name: str | None) -> NoReturn:
        """Refuse.

        Raises:
            Unsupported: always.
        """
        del name
        raise _disabled()

    def find(self, name: str, offset: int, byte_size: int) -> NoReturn:
        """Find nothing.

        Raises:
            NotFound: always.
        """
        del offset, byte_size
        raise NotFound(
            f"Unable to find shared memory region: '{name}'",
            hint="send the tensor in the body: shared memory is off (--shared-memory.system turns it on)",
        )

    def read(self, name: str, offset: int, byte_size: int) -> NoReturn:
        """Find nothing.

        Raises:
            NotFound: always.
        """
        self.find(name, offset, byte_size)

    def points(self) -> Iterator[Point]:
        """None."""
        return iter(())


NO_REGIONS = NoRegions()


def refuse_cuda(name: str) -> NoReturn:
    """Refuse a region of GPU memory, which this server cannot open.

    Raises:
        Unsupported: always.
    """
    raise Unsupported(
        f"failed to register CUDA shared memory region: '{name}', GPUs not supported",
        hint="register the tensor in system shared memory",
    )


def _open(key: str) -> int:
    """The file that `key` names, as shm_open finds it, open for reading and writing.

    Raises:
        InvalidArgument: the key is reserved, names no file right in /dev/shm, or one that is not an ordinary file.
    """
    name = key.removeprefix("/")
    if name.startswith(RESERVED_PREFIXES):
        raise InvalidArgument(
            f"cannot register shared memory region '{key}': its key begins with the reserved prefix "
            f"'{RESERVED_PREFIXES[0]}'",
            hint="give the region another key",
        )
    if not name or "/" in name or "\0" in name or name in (".", "..") or len(name) > _MAX_KEY_CHARS:
        raise _cannot_open(key, "a key is the name of a file right in /dev/shm, with or without a / before it")
    try:
        fd = os.open(f"{FOLDER}/{name}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as problem:
        raise _cannot_open(key, getattr(problem, "strerror", None) or str(problem)) from problem
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _cannot_open(key, "it is not an ordinary file")
    return fd


def _cannot_open(key: str, reason: str) -> RegionUnusable:
    shown = key if len(key) <= _MAX_KEY_CHARS else f"{key[:_MAX_KEY_CHARS]}..."
    return RegionUnusable(f"Unable to open shared memory region: '{shown}'", hint=reason)


def _disabled() -> Unsupported:
    return Unsupported(
        "Client shared memory is disabled. Start the server with '--shared-memory.system' to enable.",
        hint="send tensors in the body, or start `taxiway serve` with --shared-memory.system",
    )
