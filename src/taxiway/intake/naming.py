"""What a model is called: as somebody says, as it calls itself, or after its file."""

from __future__ import annotations

import re
from typing import Final

from taxiway.core.errors import InvalidArgument
from taxiway.core.refs import is_name

_RULE: Final = "a name begins with a letter or digit and holds letters, digits, '.', '_' and '-'"


def check_said(name: str, alias: str) -> None:
    """Refuse what can be neither a name nor an alias, before anything is read; empty: nothing was said.

    Raises:
        InvalidArgument: names the option.
    """
    for option, said in (("--name", name), ("--alias", alias)):
        if said and not is_name(said):
            raise InvalidArgument(
                f"{option} {said!r} is not a name", hint=f"{_RULE}; the registry counts the versions", value=said
            )


def checked_name(own: str) -> str:
    """What a model calls itself, if that can be a name here.

    Raises:
        InvalidArgument: it cannot.
    """
    if not is_name(own):
        raise InvalidArgument(
            f"the model calls itself {own!r}, which is no name here", hint="say --name NAME", value=own
        )
    return own


def model_name(text: str) -> str:
    """A model's name out of a file's: what no reference may hold becomes a dash."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:128] or "model"
