"""Which of a model's own tensors a name in its configuration stands for, where the two may differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

from taxiway.core.errors import InvalidModel

_NUMBERED = re.compile(r".*__(\d+)")


def match_names(side: str, names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Which place of `known` each of `names` stands for.

    Raises:
        InvalidModel: there are more names than places, or a number is none of them.
    """
    if set(names) <= set(known):
        return [known.index(name) for name in names]
    numbers = [int(found.group(1)) for name in names if (found := _NUMBERED.fullmatch(name))]
    places = numbers if len(numbers) == len(names) and len(set(numbers)) == len(names) else list(range(len(names)))
    if places and max(places) >= len(known):
        raise InvalidModel(
            f"the configuration has the {side}s {list(names)}; the model has {len(known)}: {list(known)}",
            hint=f"name each {side} as the model does, or NAME__0, NAME__1, ... by its place",
        )
    return places
