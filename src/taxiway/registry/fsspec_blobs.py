"""Blobs in an object store, or whatever else fsspec can reach: s3://, gs://, az://, sftp://, memory://.

An object store shows an upload only once it is complete, so nothing is renamed. Where a store does show half of one
(sftp), its size gives it away, and the next writer of the same bytes writes it anew.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import fsspec

from taxiway.core.errors import DataLoss, InvalidArgument, RegistryUnavailable
from taxiway.registry.blobs import CHUNK_BYTES, Opener, blob_path
from taxiway.registry.nouns import StoredFile

_FLAT: Final = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"))
"""Stores without folders: to make one there is to make a bucket, for whoever mistypes its name."""


class FsspecBlobs:
    """A place in a file system of fsspec's. Credentials are the store's own business: its driver looks for them."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InvalidArgument(
                f"registry.blobs = {url!r} cannot be opened: {error}",
                hint="name a directory, or install the store's driver: pip install 'taxiway[s3]', gcsfs or adlfs",
            ) from error

    @contextlib.contextmanager
    def stage(self, open_: Opener) -> Iterator[_StagedUpload]:
        """Read once to hash; `publish` reads again to upload, so that nothing large is written twice."""
        digest, size = hashlib.sha256(), 0
        with open_() as source:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        file = StoredFile(digest.hexdigest(), size)
        yield _StagedUpload(file, open_, self)

    def create(self, sha256: str) -> Any:  # noqa: ANN401 - each driver's own file
        """A new object to write to, which is not there before its `commit`."""
        path, protocols = self._path(sha256), self._files.protocol
        if not _FLAT.intersection([protocols] if isinstance(protocols, str) else protocols):
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        return self._files.open(path, "wb", autocommit=False)

    def size_of(self, sha256: str) -> int | None:
        """The object's size."""
        with _reaching(self.url):
            try:
                return int(self._files.info(self._path(sha256))["size"])
            except FileNotFoundError:
                return None

    def chunks(self, sha256: str) -> Iterator[bytes]:
        """The object's bytes."""
        if self.size_of(sha256) is None:
            raise FileNotFoundError(sha256)
        with _reaching(self.url), self._files.open(self._path(sha256), "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def delete(self, sha256: str) -> None:
        """Delete the object."""
        with _reaching(self.url), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(sha256))

    def stored(self) -> Iterator[StoredFile]:
        """Every object, in order of its digest."""
        with _reaching(self.url):
            found = self._files.find(f"{self._root}/sha256", detail=True)
            for path in sorted(found):
                yield StoredFile(path.rpartition("/")[2], int(found[path]["size"]))

    def sweep(self) -> int:
        """Nothing is set aside here; what an object store keeps of a cut upload, its own rules expire."""
        return 0

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{blob_path(sha256)}"


@contextlib.contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Drivers tell of a network in trouble by errors of their own, most of them OSError."""
    try:
        yield
    except OSError as error:
        raise RegistryUnavailable(
            f"the blobs in {url} cannot be reached: {error}",
            hint="check registry.blobs, the network, and the credentials that its driver looks for",
        ) from error


@dataclass(frozen=True, slots=True)
class _StagedUpload:
    file: StoredFile
    open_: Opener
    store: FsspecBlobs

    def publish(self) -> None:
        """Upload. An upload that fails on the way is given up, where closing it would complete it."""
        with _reaching(self.store.url):
            target = self.store.create(self.file.sha256)
        try:
            self._copy(target)
            with _reaching(self.store.url):
                target.close()
                target.commit()
        except BaseException:
            target.discard()
            raise
        if self.store.size_of(self.file.sha256) != self.file.size:
            raise DataLoss(
                f"blob {self.file.sha256} did not arrive whole in {self.store.url}", hint="put the file again"
            )

    def _copy(self, target: Any) -> None:  # noqa: ANN401 - each driver's own
        digest = hashlib.sha256()
        with self.open_() as source:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                with _reaching(self.store.url):
                    target.write(chunk)
        if digest.hexdigest() != self.file.sha256:
            raise DataLoss(f"file {self.file.sha256} changed while it was read", hint="put it once it is complete")
