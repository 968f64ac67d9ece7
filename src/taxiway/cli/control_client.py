"""How a verb asks the control process: plain HTTP with JSON, and its errors as ours."""

from __future__ import annotations

import functools
import getpass
import http.client
import json
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from taxiway.cli.options import load_from
from taxiway.config.settings import Settings
from taxiway.core.errors import InternalError, Unavailable, error_from_data

_TIMEOUT_S = 60.0
_MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class ControlClient:
    """One control process.

    Attributes:
        url: of its API, without a slash at the end.
        key: the API key to show; empty: none.
        authority: PEM file of the authority to believe, beside the system's; empty: none.
        actor: who asks.
        what: it is called when it cannot be reached.
    """

    url: str
    key: str
    authority: str
    actor: str
    what: str = "the control process"

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """What it says about `path`.

        Raises:
            TaxiwayError: its refusal, as it is.
            Unavailable: it cannot be reached.
            InternalError: what it says cannot be read.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Have it do something, once: a repeated try of the same call carries the same `idempotency_key`.

        Raises:
            TaxiwayError: its refusal, as it is.
            Unavailable: it cannot be reached.
            InternalError: what it says cannot be read.
        """
        said = {"idempotency_key": str(uuid.uuid4()), "actor": self.actor, **words}
        return self._ask("POST", path, json.dumps(said).encode())

    def send(self, method: str, path: str, body: bytes) -> Any:  # noqa: ANN401 - JSON
        """Have it take these very bytes.

        Raises:
            TaxiwayError: its refusal, as it is.
            Unavailable: it cannot be reached.
            InternalError: what it says cannot be read.
        """
        return self._ask(method, path, body)

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:  # noqa: ANN401 - JSON
        request = urllib.request.Request(f"{self.url}{path}", data=body, method=method)  # noqa: S310 - http(s), see below
        request.add_header("Content-Type", "application/json")
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._tls()) as answer:  # noqa: S310
                said = answer.read(_MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as refusal:
            raise _told(refusal) from None
        except (OSError, ValueError, http.client.HTTPException) as problem:
            raise Unavailable(
                f"{self.what} at {self.url} cannot be reached: {getattr(problem, 'reason', problem)}",
                hint="`taxiway serve` starts it and prints its address; --control URL names another",
            ) from None
        return self._read(path, said)

    def _read(self, path: str, said: bytes) -> Any:  # noqa: ANN401 - JSON
        if len(said) > _MAX_ANSWER_BYTES:
            raise InternalError(
                f"{self.url}{path} answered with more than {_MAX_ANSWER_BYTES >> 20} MiB, which is not read"
            )
        try:
            return json.loads(said) if said else None
        except ValueError:
            start = said[:200].decode("utf-8", "replace")
            raise InternalError(
                f"{self.url}{path} did not answer in JSON: {start}", hint=f"is {self.what} there, and no other server?"
            ) from None

    def _tls(self) -> ssl.SSLContext | None:
        if not self.url.startswith("https:"):
            return None
        context = ssl.create_default_context()
        if self.authority:
            context.load_verify_locations(self.authority)
        return context


def _told(refusal: urllib.error.HTTPError) -> Exception:
    """The control process's own error; whoever else answers there is named."""
    text = refusal.read(1 << 20)
    try:
        said = json.loads(text)
        return error_from_data(
            {"message": said["error"], "code": said["code"], "hint": said.get("hint", ""), "facts": {}}
        )
    except (ValueError, KeyError, TypeError):
        start = text[:200].decode("utf-8", "replace")
        return InternalError(
            f"{refusal.url} answered {refusal.code}, and not as the control process does: {start}",
            hint="--control URL names the control process; `taxiway serve` prints its address",
        )


def with_control(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that find the control process to a verb; it is given a client first."""

    @click.option("--control", "url", metavar="URL", default="", help="Its address. [default: as the settings say]")
    @click.option("--key", metavar="KEY", envvar="TAXIWAY_API_KEY", default="", help="The API key (TAXIWAY_API_KEY).")
    @click.option("--ca", "authority", default="", metavar="FILE", help="PEM file of an authority to believe.")
    @click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="TAXIWAY_CONFIG",
        help="Settings in YAML (also TAXIWAY_CONFIG).",
    )
    @functools.wraps(function)
    def run(url: str, key: str, authority: str, config_file: Path | None, **values: Any) -> Any:  # noqa: ANN401
        settings = load_from(config_file, {}).settings
        address = (url or _url_of(settings)).rstrip("/")
        if not address.startswith(("http://", "https://")):
            raise click.BadParameter(f"{address!r} is no URL of http or https", param_hint="--control")
        actor = settings.registry.actor or getpass.getuser()
        return function(ControlClient(address, key, authority, actor), **values)

    run.__doc__ = function.__doc__
    return run


def http_url_of(settings: Settings) -> str:
    """Where a server of these settings is asked for answers."""
    return _url(settings, settings.http.host, settings.http.port)


def _url_of(settings: Settings) -> str:
    return _url(settings, settings.control.host, settings.control.port)


def _url(settings: Settings, host: str, port: int) -> str:
    scheme = "https" if settings.tls.certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
