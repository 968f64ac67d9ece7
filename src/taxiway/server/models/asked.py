"""What is meant by a name that is to be served, and who may ask for it."""

from __future__ import annotations

from taxiway.config.problems import suggest
from taxiway.config.settings import ModelsSettings
from taxiway.core.errors import FailedPrecondition, InvalidArgument
from taxiway.server.models.repository import Look, check_look, check_overrides


def asked_at_start(settings: ModelsSettings, look: Look) -> list[str]:
    """The models to load at start, by name.

    Raises:
        InvalidConfig, InvalidArgument: what lies at the paths is not as it should be, or not what is named.
    """
    control, asked = settings.control, settings.load
    check_look(look, may_be_empty=control != "none")
    names = sorted(look.models)
    if control == "none":
        check_overrides(settings.overrides, names)
    if control != "explicit" or "*" in asked:
        return names
    for name in asked:
        if name not in look.models:
            raise InvalidArgument(
                f"models.load names {name!r}, which does not lie at the paths{suggest(name, names)}",
                hint=f"the models there are {', '.join(names) or 'none'}",
            )
    return sorted(set(asked))


def check_on_demand(settings: ModelsSettings) -> None:
    """Refuse to load and unload on demand, unless that is how models come and go.

    Raises:
        FailedPrecondition: it is not (`models.control`).
    """
    if settings.control == "poll":
        raise FailedPrecondition(
            "explicit model load / unload is not allowed if polling is enabled",
            hint="change the files in models.paths, or start `taxiway serve` with --models.control explicit",
        )
    if settings.control == "none":
        raise FailedPrecondition(
            "explicit model load / unload is not allowed: models are loaded when the server starts",
            hint="start `taxiway serve` with --models.control explicit",
        )
