"""Lines of a model for the log of the server, each of a level that the model chooses."""

from __future__ import annotations

import enum
from typing import ClassVar

from taxiway.runtimes.hosted.frames import Said
from taxiway.runtimes.hosted.triton.session import here


class LogLevel(enum.IntEnum):
    """Triton's levels."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    VERBOSE = 3


_LEVELS = {LogLevel.INFO: "info", LogLevel.WARNING: "warning", LogLevel.ERROR: "error", LogLevel.VERBOSE: "debug"}


class Logger:
    """Triton's Logger; everything of it is static."""

    INFO: ClassVar = LogLevel.INFO
    WARNING: ClassVar = LogLevel.WARNING
    ERROR: ClassVar = LogLevel.ERROR
    VERBOSE: ClassVar = LogLevel.VERBOSE

    @staticmethod
    def log(message: str, level: LogLevel = LogLevel.INFO) -> None:
        """A line of this level."""
        here().lines.mailbox.send(Said(_LEVELS[LogLevel(level)], str(message)))

    @staticmethod
    def log_info(message: str) -> None:
        """Something that an operator wants to have happened."""
        Logger.log(message, LogLevel.INFO)

    @staticmethod
    def log_warn(message: str) -> None:
        """Something that an operator should look at."""
        Logger.log(message, LogLevel.WARNING)

    @staticmethod
    def log_error(message: str) -> None:
        """Something that is broken."""
        Logger.log(message, LogLevel.ERROR)

    @staticmethod
    def log_verbose(message: str) -> None:
        """Of use to whoever hunts a defect."""
        Logger.log(message, LogLevel.VERBOSE)


setattr(Logger, "LogLevel", LogLevel)  # noqa: B010 - where models find it; within the class it would hide the type
