"""Certificates for tests, from authorities made on the spot, and clients that check them."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from tests.support.raw_http import Raw


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """An authority; its own certificate is at `path`."""

    def __init__(self, path: Path) -> None:
        self._ca = trustme.CA()
        self.path = path
        self._ca.cert_pem.write_to_path(path)

    def issue(self, folder: Path, *names: str) -> Pair:
        """A certificate for these names (this machine's loopback if there are none) in a folder of its own."""
        folder.mkdir(exist_ok=True, parents=True)
        issued = self._ca.issue_cert(
            *(names or ("127.0.0.1", "::1", "localhost")), common_name=names[0] if names else None
        )
        pair = Pair(folder / "tls.crt", folder / "tls.key")
        pair.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        pair.key.write_bytes(issued.private_key_pem.bytes())
        return pair

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        """A client that trusts this authority only, and shows `pair` if asked."""
        context = ssl.create_default_context(cafile=self.path)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context


def swap_link(link: Path, target: Path) -> None:
    """Let `link` name another folder, in one step: as Kubernetes changes what a pod sees of a secret."""
    beside = link.with_name(link.name + ".next")
    beside.symlink_to(target, target_is_directory=True)
    os.replace(beside, link)  # noqa: PTH105 - Path.replace would say the same of the link


class SecureRaw(Raw):
    """As `Raw`, over TLS."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, *, receive_buffer: int = 0) -> None:
        super().__init__(address, receive_buffer=receive_buffer)
        try:
            self.tls = context.wrap_socket(self.socket, server_hostname=address[0])
        except BaseException:
            self.socket.close()
            raise
        self.socket = self.tls
