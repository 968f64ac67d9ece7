"""Where bytes lie under their own digest. A store knows nothing of models; keeping.py decides what stays in it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Protocol

from taxiway.core.errors import DataLoss
from taxiway.registry.nouns import StoredFile

CHUNK_BYTES: Final = 1 << 20

Opener = Callable[[], contextlib.AbstractContextManager[BinaryIO]]
"""Opens the bytes to be stored, from their beginning, as often as it is called."""


class Staged(Protocol):
    """Bytes that were read and hashed, and are not in the store yet."""

    @property
    def file(self) -> StoredFile:
        """Their digest and size."""

    def publish(self) -> None:
        """Put them there: whole or not at all, and to stay after a power cut."""


class BlobStore(Protocol):
    """A directory or an object store."""

    url: str

    def stage(self, open_: Opener) -> contextlib.AbstractContextManager[Staged]:
        """Read and hash; what was not published at the end of the block is thrown away."""

    def size_of(self, sha256: str) -> int | None:
        """How many bytes are stored under this digest; None: nothing is."""

    def chunks(self, sha256: str) -> Iterator[bytes]:
        """The bytes as they lie there, unverified; FileNotFoundError if they do not."""

    def delete(self, sha256: str) -> None:
        """Take it away; it need not be there."""

    def stored(self) -> Iterator[StoredFile]:
        """Everything that lies there."""

    def sweep(self) -> int:
        """Delete what writers that were killed left half written; returns how many files."""


def verified_chunks(store: BlobStore, file: StoredFile) -> Iterator[bytes]:
    """The bytes of a blob. The last chunk comes only once all of them proved to be the right ones.

    Raises:
        DataLoss: it is gone, or is not what its name says.
    """
    digest, size, held = hashlib.sha256(), 0, b""
    try:
        for chunk in store.chunks(file.sha256):
            digest.update(chunk)
            size += len(chunk)
            if held:
                yield held
            held = chunk
    except FileNotFoundError:
        raise DataLoss(
            f"blob {file.sha256} is gone from {store.url}", hint=_HINT, sha256=file.sha256, found=None
        ) from None
    if size != file.size or digest.hexdigest() != file.sha256:
        raise DataLoss(
            f"blob {file.sha256} in {store.url} is damaged: it is {size} bytes of SHA-256 {digest.hexdigest()}",
            hint=_HINT,
            sha256=file.sha256,
            found=digest.hexdigest(),
        )
    yield held


_HINT: Final = "`taxiway registry verify` names every blob that is damaged; import the model again, or restore a backup"


def blob_path(sha256: str) -> str:
    """Where a blob lies below the store's root: at most 256 folders."""
    return f"sha256/{sha256[:2]}/{sha256}"
