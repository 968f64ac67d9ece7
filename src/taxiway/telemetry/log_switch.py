"""The log of a running process in the words of Triton's logging extension: told as it is, and changed.

`log_format` ISO8601 is what the log was configured to be, JSON or text: both write such times. `default` is the form
of Triton's own log. Whatever is changed lasts until the process ends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from taxiway.core.errors import FailedPrecondition, InvalidArgument, MalformedRequest, Unsupported
from taxiway.telemetry.logs import StructuredHandler, structured_handler

_LEVELS = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
_FORMATS = ("default", "ISO8601")
_MAX_VERBOSE = (1 << 31) - 1


class LogSwitch:
    """Reads and changes what this process logs.

    Verbose lines are those of level debug: from `log_verbose_level` 1 on they are written.
    """

    def __init__(self) -> None:
        self._format: Literal["default", "ISO8601"] = "ISO8601"
        self._verbose = 0

    def words(self) -> dict[str, str | bool | int]:
        """The settings, in Triton's order."""
        root = logging.getLogger()
        handler = structured_handler()
        silenced = frozenset[int]() if handler is None else handler.silenced
        written = {key: level >= root.level and level not in silenced for key, level in _LEVELS.items()}
        verbose = max(1, self._verbose) if root.level <= logging.DEBUG else 0
        return {"log_file": "", **written, "log_verbose_level": verbose, "log_format": self._format}

    def words_after(self, words: Mapping[str, Any]) -> dict[str, str | bool | int]:
        """All settings after this change, so that `change` makes them so anywhere.

        Raises:
            MalformedRequest, InvalidArgument, Unsupported: as `change`.
        """
        given = {key: _checked(key, value) for key, value in words.items() if value is not None}
        told = {**self.words(), **given}
        del told["log_file"]
        return told

    def change(self, words: Mapping[str, Any]) -> None:
        """Change what `words` says, or nothing; a null changes nothing.

        Raises:
            MalformedRequest: a value of the wrong type.
            InvalidArgument: a key or value that is none.
            Unsupported: a file to write to.
            FailedPrecondition: the logs of this process are not ours: it was not started as `taxiway serve`.
        """
        given = {key: _checked(key, value) for key, value in words.items() if value is not None}
        handler = structured_handler()
        if handler is None:
            raise FailedPrecondition(
                "the logs of this process are configured by the program around it", hint="change them there"
            )
        if given:
            self._apply(handler, {**self.words(), **given})

    def _apply(self, handler: StructuredHandler, words: Mapping[str, Any]) -> None:
        self._verbose = words["log_verbose_level"]
        self._format = words["log_format"]
        handler.write_as("triton" if self._format == "default" else handler.form)
        handler.silenced = frozenset(level for key, level in _LEVELS.items() if not words[key])
        written = [level for key, level in _LEVELS.items() if words[key]]
        lowest = logging.DEBUG if self._verbose else min(written, default=logging.CRITICAL)
        logging.getLogger().setLevel(lowest)


def _checked(key: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    if key == "log_file":
        raise Unsupported(
            "log file location can not be updated through network protocol", hint="redirect standard error instead"
        )
    if key in _LEVELS:
        return _of_type(key, value, bool, "true or false")
    if key == "log_verbose_level":
        level = _of_type(key, value, int, "a number")
        if not 0 <= level <= _MAX_VERBOSE:
            raise MalformedRequest(f"'{key}' is {level}; it must be from 0 to {_MAX_VERBOSE}")
        return level
    if key == "log_format":
        form = _of_type(key, value, str, "a string")
        if form not in _FORMATS:
            raise InvalidArgument(
                f"invalid argument for --log_format, got: {form[:40]}", hint=f"the formats are {', '.join(_FORMATS)}"
            )
        return form
    known = ", ".join(("log_file", *_LEVELS, "log_verbose_level", "log_format"))
    raise InvalidArgument(f"unknown log setting '{key}'", hint=f"the keys are {known}")


def _of_type(key: str, value: Any, kind: type, words: str) -> Any:  # noqa: ANN401
    if value.__class__ is not kind:
        raise MalformedRequest(f"'{key}' is {str(value)[:40]!r}; it must be {words}")
    return value
