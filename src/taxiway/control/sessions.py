"""Who has signed in with a browser: a cookie that says which key was shown, and until when, signed by a secret of ours.

It holds no key, and nothing is kept of it here: a key that is taken back, or expires, ends its sessions at once, and a
control process that is started again knows them as its predecessor did.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import struct
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from taxiway.core.clock import Clock
from taxiway.core.errors import PermissionDenied

LIFE_S: Final = 12 * 3600
HEADER: Final = "x-taxiway-console"
"""What a page of ours sends with what changes something; a form or a link elsewhere cannot."""
_NAME: Final = "taxiway_session"
_SECRET_BYTES: Final = 32
_SAFE: Final = frozenset({"GET", "HEAD"})
_BODY: Final = struct.Struct(">32sQ")


class Sessions:
    """Makes cookies, and reads them.

    Args:
        file: of the secret; made, for its owner only, when the first cookie is.
        clock: for their life.
        secure: whether the port is encrypted: then they are sent over nothing else.
    """

    def __init__(self, file: Path, clock: Clock, *, secure: bool) -> None:
        self._file = file
        self._clock = clock
        self._secure = secure
        self._secret: bytes | None = None

    def begin(self, request: Request, response: Response, key: str) -> None:
        """Have the browser say from now on that this key was shown. Blocking, once."""
        body = _BODY.pack(digest_of(key), self._now_s() + LIFE_S)
        token = base64.urlsafe_b64encode(body + self._sign(body)).decode()
        self._set(request, response, token, LIFE_S)

    def end(self, request: Request, response: Response) -> None:
        """Have the browser forget it."""
        self._set(request, response, "", 0)

    def digest(self, request: Request) -> bytes | None:
        """The SHA-256 of the key that was shown, if a page of ours calls; None: nobody has signed in.

        Raises:
            PermissionDenied: it is no page of ours that calls.
        """
        token = request.cookies.get(_name(request))
        digest = None if not token else self._read(token)
        if digest is not None:
            _check_is_ours(request)
        return digest

    def _read(self, token: str) -> bytes | None:
        try:
            told = base64.urlsafe_b64decode(token)
        except (binascii.Error, ValueError):
            return None
        body, signature = told[: _BODY.size], told[_BODY.size :]
        if len(body) != _BODY.size or not hmac.compare_digest(signature, self._sign(body)):
            return None
        digest, until_s = _BODY.unpack(body)
        return bytes(digest) if self._now_s() < until_s else None

    def _set(self, request: Request, response: Response, token: str, life_s: int) -> None:
        response.set_cookie(
            _name(request), token, max_age=life_s, path="/", secure=self._secure, httponly=True, samesite="strict"
        )

    def _sign(self, body: bytes) -> bytes:
        if self._secret is None:
            self._secret = _secret_in(self._file)
        return hmac.new(self._secret, body, hashlib.sha256).digest()

    def _now_s(self) -> int:
        return int(self._clock.now_utc().timestamp())


def digest_of(key: str) -> bytes:
    """As the keys file has it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _name(request: Request) -> str:
    """Cookies are told apart by the host and not by its port: two servers on one machine must not share one."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"{_NAME}_{port}" if port.isdigit() else _NAME


def _check_is_ours(request: Request) -> None:
    """SameSite looks at the site only: a page on another port of this machine is one of it."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or (request.method not in _SAFE and HEADER not in request.headers):
        raise PermissionDenied(
            "a page elsewhere may not use this browser's session",
            hint=f"pages of the console send {HEADER}; scripts send an API key",
            reason="scope",
        )


def _secret_in(file: Path) -> bytes:
    """What the file holds; made anew where there is none, and for this process alone where none can be made."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            known = file.read_bytes()
            return known if len(known) == _SECRET_BYTES else secrets.token_bytes(_SECRET_BYTES)
        with os.fdopen(number, "wb") as opened:
            made = secrets.token_bytes(_SECRET_BYTES)
            opened.write(made)
    except OSError:
        return secrets.token_bytes(_SECRET_BYTES)
    return made
