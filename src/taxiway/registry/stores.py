"""Which store a URL means."""

from __future__ import annotations

from pathlib import Path

from taxiway.registry.blobs import BlobStore
from taxiway.registry.directory_blobs import DirectoryBlobs


def open_store(url: str) -> BlobStore:
    """A directory (a path, or file://), or whatever fsspec has for the URL.

    Raises:
        InvalidArgument: nobody knows the URL.
    """
    if "://" not in url or url.startswith("file://"):
        return DirectoryBlobs(Path(url.removeprefix("file://")))
    from taxiway.registry.fsspec_blobs import FsspecBlobs  # noqa: PLC0415 - who has a directory need not wait for it

    return FsspecBlobs(url)
