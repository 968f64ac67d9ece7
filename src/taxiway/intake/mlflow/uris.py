"""How MLflow names a model: parsed once, into what cannot be wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from taxiway.core.errors import InvalidArgument

FORMS: Final = "models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID, runs:/RUN/PATH"

_NAME = r"(?P<name>[^/:@]{1,256})"
_PATTERNS: Final = (
    re.compile(rf"models:/{_NAME}@(?P<alias>[A-Za-z0-9_\-]{{1,255}})"),
    re.compile(rf"models:/{_NAME}/(?P<version>[1-9][0-9]{{0,17}})"),
    re.compile(r"models:/(?P<model_id>m-[A-Za-z0-9]{1,64})"),
    re.compile(r"runs:/(?P<run_id>[A-Za-z0-9_\-]{1,64})/(?P<path>[^\0]{1,1000})"),
)


@dataclass(frozen=True, slots=True)
class MlflowUri:
    """One of the four forms; what it does not name is empty.

    Attributes:
        name: of a registered model.
        version, alias: one of them comes with a name.
        model_id: of a logged model, as `m-...`.
        run_id, path: an artifact of a run.
    """

    text: str
    name: str = ""
    version: str = ""
    alias: str = ""
    model_id: str = ""
    run_id: str = ""
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> MlflowUri:
        """Read a URI.

        Raises:
            InvalidArgument: it is of none of the forms.
        """
        for pattern in _PATTERNS:
            match = pattern.fullmatch(text)
            if match and ".." not in match.groupdict().get("path", "").split("/"):
                return cls(text, **match.groupdict())
        raise InvalidArgument(
            f"{text[:200]!r} names no model in MLflow",
            hint=f"write {FORMS}; a stage or 'latest' moves without anybody's knowledge, so use an alias",
            value=text[:200],
        )


def version_uri(name: str, version: str) -> str:
    """The URI that always means the same."""
    return f"models:/{name}/{version}"


def run_uri(run_id: str) -> str:
    """A run, as a lineage names it."""
    return f"mlflow:run/{run_id}"
