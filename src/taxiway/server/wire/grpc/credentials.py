"""TLS for the gRPC port, from the files that the HTTP port uses too."""

from __future__ import annotations

import grpc

from taxiway.server.tls import TlsFiles, TlsMaterial


def credentials_of(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that follow the files: each handshake is made with what is in force at its moment."""
    fetch = _Fetcher(files)
    return grpc.dynamic_ssl_server_credentials(
        _configuration(files.material),
        fetch,  # type: ignore[arg-type] # None says that nothing changed, which the annotations leave out
        require_client_authentication=files.material.client_ca is not None,
    )


class _Fetcher:
    """Asked by grpcio at every handshake, in a thread of its own."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = files.material

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """What is in force if it is another than before, else None."""
        material = self._files.material
        if material is self._seen:
            return None
        self._seen = material
        return _configuration(material)


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.client_ca)
