"""The server's certificate, its key and the authorities of its clients: read, checked, and read again when changed.

Whoever makes a connection takes what is in force at that moment; a connection keeps what it was made with. A new
context has new keys for session tickets too, so no session outlives the authority that vouched for it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taxiway.config.changes import sign
from taxiway.config.problems import Problem, invalid_config
from taxiway.config.settings import TlsSettings
from taxiway.core.errors import InvalidConfig, TaxiwayError
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.tls")
_MAX_FILE_BYTES = 1 << 20
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secret and authenticated. Those of TLS 1.3 are all good, and not chosen here."""
_HINT = "see `taxiway config explain tls`"


@dataclass(frozen=True, slots=True, eq=False)
class TlsMaterial:
    """What connections are made with at one moment; replaced whole. `client_ca` is None if clients show nothing."""

    context: ssl.SSLContext
    certificate: bytes
    key: bytes
    client_ca: bytes | None


class TlsFiles:
    """The files that `tls.*` names. `reload` may be called from any thread.

    Raises:
        InvalidConfig: a file cannot be read, is not what it should be, or does not belong to the others.
    """

    what = "tls"

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._paths = [Path(name) for name in (settings.certificate, settings.key, settings.client_ca) if name]
        self._signature = sign(self._paths)
        self._reloads = 0
        self._failed_reloads = 0
        self.material = load_material(settings)
        """What is in force."""

    def reload(self) -> None:
        """Read the files again if they changed and hold still.

        Never raises for what is in them: what does not fit together leaves what is in force, and is logged.
        """
        signature = sign(self._paths)
        if signature == self._signature:
            return
        material: TlsMaterial | None = None
        problem: TaxiwayError | None = None
        try:
            material = load_material(self._settings)
        except InvalidConfig as error:
            problem = error
        if sign(self._paths) != signature:
            return  # somebody is at it: what was read may be half of one and half of the other
        self._signature = signature
        if material is not None:
            self.material = material
            self._reloads += 1
            _log.info("reloaded", setting="tls", path=self._settings.certificate)
        elif problem is not None:
            self._failed_reloads += 1
            _log.error("reload_failed", setting="tls", path=self._settings.certificate, reason=problem.message)

    def points(self) -> Iterator[Point]:
        """Every series of these files."""
        yield Point(names.RELOADS, (self.what, "taken"), self._reloads)
        yield Point(names.RELOADS, (self.what, "refused"), self._failed_reloads)


def load_material(settings: TlsSettings) -> TlsMaterial:
    """Read the files and see that they fit together.

    Raises:
        InvalidConfig: they do not; every file that cannot be read is told.
    """
    problems: list[Problem] = []
    certificate = _read("certificate", settings.certificate, problems)
    key = _read("key", settings.key, problems)
    client_ca = _read("client_ca", settings.client_ca, problems) if settings.client_ca else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if not problems:
        _load_pair(context, settings, key, problems)
    if not problems and client_ca is not None:
        _load_client_ca(context, settings, problems)
    if problems:
        raise invalid_config("the TLS setting", problems, hint=_HINT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    return TlsMaterial(context, certificate, key, client_ca)


def _read(key: str, name: str, problems: list[Problem]) -> bytes:
    try:
        with Path(name).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        problems.append(_problem(key, name, f"cannot be read: {reason}"))
        return b""
    if len(content) > _MAX_FILE_BYTES:
        problems.append(_problem(key, name, f"must be at most {_MAX_FILE_BYTES} bytes"))
    wanted, what = (b"PRIVATE KEY", "private key") if key == "key" else (b"CERTIFICATE", "certificate")
    if b"-----BEGIN " not in content or wanted not in content:
        problems.append(_problem(key, name, f"holds no {what} in PEM"))
    return content


def _load_pair(context: ssl.SSLContext, settings: TlsSettings, key: bytes, problems: list[Problem]) -> None:
    if b"ENCRYPTED" in key:
        problems.append(_problem("key", settings.key, "is encrypted; a key without a passphrase is needed"))
        return
    try:
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ValueError) as problem:  # ssl.SSLError is an OSError
        reason = getattr(problem, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            problems.append(_problem("key", settings.key, f"is not the key of tls.certificate {settings.certificate}"))
        elif _holds_certificates(settings.certificate):
            problems.append(_problem("key", settings.key, f"cannot be used: {_told(problem)}"))
        else:
            problems.append(_problem("certificate", settings.certificate, f"cannot be used: {_told(problem)}"))


def _holds_certificates(name: str) -> bool:
    """Whether OpenSSL can read them: it does not say which of the two files it could not."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=name)
    except (OSError, ValueError):
        return False
    return True


def _load_client_ca(context: ssl.SSLContext, settings: TlsSettings, problems: list[Problem]) -> None:
    try:
        context.load_verify_locations(cafile=settings.client_ca)
    except (OSError, ValueError) as problem:
        problems.append(_problem("client_ca", settings.client_ca, f"cannot be used: {_told(problem)}"))
        return
    context.verify_mode = ssl.CERT_REQUIRED


def _told(problem: Exception) -> str:
    reason = getattr(problem, "reason", None) or getattr(problem, "strerror", None) or str(problem)
    return str(reason).replace("_", " ").lower()


def _problem(key: str, name: str, rule: str) -> Problem:
    return Problem(f"tls.{key}", name, rule, name)
