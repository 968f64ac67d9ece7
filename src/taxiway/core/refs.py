"""How a person names a model: `name`, `name:3`, `name:3-int8`, `name@alias`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from taxiway.core.errors import InvalidArgument

_NAME = r"[A-Za-z0-9][A-Za-z0-9._\-]{0,127}"
_REF = re.compile(
    rf"(?P<name>{_NAME})(?::(?P<version>[1-9][0-9]{{0,17}})(?:-(?P<variant>[A-Za-z0-9._]{{1,64}}))?|@(?P<alias>{_NAME}))?"
)


def is_name(text: str) -> bool:
    """Whether a model or an alias can be called so."""
    return re.fullmatch(_NAME, text) is not None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model, or one version, variant or alias of it."""

    name: str
    version: int | None = None
    variant: str | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Read a reference.

        Raises:
            InvalidArgument: `text` is none of the four forms.
        """
        match = _REF.fullmatch(text)
        if match is None:
            raise InvalidArgument(
                f"model reference {text!r} is not of the form name, name:3, name:3-int8 or name@alias",
                hint="a name begins with a letter or digit and holds letters, digits, '.', '_' and '-'",
                value=text,
            )
        version = match["version"]
        return cls(match["name"], int(version) if version else None, match["variant"], match["alias"])

    def __str__(self) -> str:
        if self.alias:
            return f"{self.name}@{self.alias}"
        tail = f":{self.version}" if self.version is not None else ""
        return f"{self.name}{tail}{'-' + self.variant if self.variant else ''}"
