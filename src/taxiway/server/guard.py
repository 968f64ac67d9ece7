"""Who may call: API keys from a file that is read again when it changes, whatever protocol a call comes by."""

from __future__ import annotations

import datetime as dt
import fnmatch
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxiway.config.changes import sign
from taxiway.config.keys import KeyEntry, Scope, read_keys
from taxiway.core.clock import Clock
from taxiway.core.errors import PermissionDenied, TaxiwayError, Unauthenticated
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.guard")
_HINT = "send `Authorization: Bearer KEY` or `X-API-Key: KEY`; `taxiway keys new` makes a key"
_MAX_KEY_CHARS = 512
ANY = "any"
"""The scope of what whoever has a key may do."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the entry of a key. `models` is None if the key is for every model."""

    name: str
    scopes: frozenset[Scope]
    models: tuple[re.Pattern[str], ...] | None
    expires: dt.datetime | None

    def may_use(self, model: str | None) -> bool:
        """Whether the key is for this model; for what concerns the whole server if it is None."""
        if self.models is None:
            return True
        return model is not None and any(pattern.fullmatch(model) for pattern in self.models)


@dataclass(frozen=True, slots=True, eq=False)
class Keyring:
    """The keys in force at one moment: replaced whole, so that who remembers it knows whether it still holds.

    Keys are found by their SHA-256. Comparing digests takes a time that tells something of digests, and nothing of
    the keys behind them: nobody can choose a key whose digest begins as another's.
    """

    callers: Mapping[bytes, Caller]
    expires: dt.datetime | None
    """When the next of them expires."""

    def find(self, key: str) -> Caller | None:
        """Who calls with this key."""
        return self.callers.get(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest())


class Guard:
    """Checks keys. `reload` may be called from any thread, everything else belongs to the event loop's.

    Args:
        path: the keys file (`auth.keys_file`).
        clock: for expiry.

    Raises:
        InvalidConfig: the file cannot be read or breaks a rule.
    """

    what = "keys"

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._signature = sign((path,))
        self._refused: Counter[str] = Counter()
        self._reloads = 0
        self._failed_reloads = 0
        self._entries: tuple[KeyEntry, ...] = ()
        self._take_up()
        self.keyring = self._cut_keyring()
        """The keys in force. A check holds for as long as this is the same object."""

    # --- asked for every call that was not checked before ----------------------------------------------

    def check(self, authorization: str | None, scope: str, model: str | None) -> Caller:
        """Who calls, if they may.

        Args:
            authorization: `Bearer KEY`; None if the call brought none.
            scope: what is asked for; `any` for what any key may do.
            model: the model it concerns; None for the whole server.

        Raises:
            Unauthenticated: no key, none that is known, or one that expired.
            PermissionDenied: the key does not reach so far.
        """
        return self._checked(lambda: self._identify(authorization), scope, model)

    def check_digest(self, digest: bytes, scope: str, model: str | None) -> Caller:
        """As `check`, of whoever proved before that the key of this SHA-256 is theirs."""
        return self._checked(lambda: self._in_force(self.keyring.callers.get(digest)), scope, model)

    def _checked(self, identify: Callable[[], Caller], scope: str, model: str | None) -> Caller:
        try:
            caller = identify()
            _check_reach(caller, scope, model)
        except TaxiwayError as error:
            self._refused[error.facts["reason"]] += 1
            raise
        return caller

    def _identify(self, authorization: str | None) -> Caller:
        if not authorization:
            raise Unauthenticated("the call needs an API key and brought none", hint=_HINT, reason="no_key")
        scheme, _, key = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated("the call's authorization is not a bearer key", hint=_HINT, reason="no_key")
        return self._in_force(self.keyring.find(key.strip()) if len(key) <= _MAX_KEY_CHARS else None)

    def _in_force(self, caller: Caller | None) -> Caller:
        if caller is None:
            raise Unauthenticated("the call's API key is not known", hint=_HINT, reason="unknown_key")
        if caller.expires is not None and self._clock.now_utc() >= caller.expires:
            raise Unauthenticated(
                f"key {caller.name!r} expired at {caller.expires.isoformat()}",
                hint="`taxiway keys new` makes another",
                reason="expired",
            )
        return caller

    # --- when the file changes --------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the file again if it changed, and forget what was remembered of keys that expired since.

        Never raises for what is in the file: what cannot be read leaves the keys that are in force, and is logged.
        """
        signature = sign((self._path,))
        if signature != self._signature:
            self._signature = signature
            self._take_up_if_right()
        elif self.keyring.expires is None or self._clock.now_utc() < self.keyring.expires:
            return
        self.keyring = self._cut_keyring()

    def _take_up_if_right(self) -> None:
        try:
            self._take_up()
        except TaxiwayError as error:
            self._failed_reloads += 1
            _log.error("reload_failed", setting="auth.keys_file", path=str(self._path), reason=error.message)
            return
        self._reloads += 1
        _log.info("reloaded", setting="auth.keys_file", path=str(self._path), count=len(self._entries))

    def _take_up(self) -> None:
        file = read_keys(self._path)
        if file.open_to_others:
            reason = "others than its owner may read or write it; `chmod 600` if that is not meant"
            _log.warning("keys_file_open", setting="auth.keys_file", path=str(self._path), reason=reason)
        self._entries = file.entries

    def _cut_keyring(self) -> Keyring:
        """Keys that expired stay in it, so that who uses one is told why it is refused."""
        now = self._clock.now_utc()
        ahead = [entry.expires for entry in self._entries if entry.expires is not None and entry.expires > now]
        callers = {bytes.fromhex(entry.sha256): _caller_of(entry) for entry in self._entries}
        return Keyring(callers, min(ahead, default=None))

    # --- told when asked --------------------------------------------------------------------------------

    def points(self) -> Iterator[Point]:
        """Every series of this guard."""
        for reason in REASONS:
            yield Point(names.AUTH_REFUSED, (reason,), self._refused[reason])
        yield Point(names.RELOADS, (self.what, "taken"), self._reloads)
        yield Point(names.RELOADS, (self.what, "refused"), self._failed_reloads)


REASONS: Sequence[str] = ("no_key", "unknown_key", "expired", "scope", "model")
"""Why a call was refused, as the metric says it."""


def bearer(key: str | None) -> str | None:
    """A key from `X-API-Key` as `Guard.check` takes it."""
    return f"Bearer {key}" if key else None


def _check_reach(caller: Caller, scope: str, model: str | None) -> None:
    if scope == ANY:
        return
    if scope not in caller.scopes:
        raise PermissionDenied(
            f"key {caller.name!r} does not have the scope {scope!r}",
            hint=f"add {scope} to its `scopes` in the keys file",
            reason="scope",
            key=caller.name,
            scope=scope,
        )
    if not caller.may_use(model):
        what = "the whole server" if model is None else f"model {model!r}"
        raise PermissionDenied(
            f"key {caller.name!r} may not use {what} (scope {scope!r})",
            hint="extend its `models` in the keys file",
            reason="model",
            key=caller.name,
            scope=scope,
            model=model,
        )


def _caller_of(entry: KeyEntry) -> Caller:
    patterns = tuple(re.compile(fnmatch.translate(glob)) for glob in entry.models)
    return Caller(entry.name, frozenset(entry.scopes), None if "*" in entry.models else patterns, entry.expires)
