"""Tensors that a user's class declares itself."""

from __future__ import annotations

from typing import Any

from taxiway.core.errors import InvalidModel
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.frames import Declared


def declared_by(user: Any, side: str) -> list[Declared] | None:  # noqa: ANN401 - the user's own class or object
    """The attribute `inputs` or `outputs`, {"x": ("FP32", [-1, 4])}; None if there is none.

    Raises:
        InvalidModel: it names a datatype that does not exist.
    """
    told = getattr(user, side, None)
    if told is None:
        return None
    declared = []
    for name, (datatype, shape) in dict(told).items():
        if Datatype.by_name(datatype) is None:
            raise InvalidModel(f"{side}[{name!r}] has datatype {datatype!r}, which is none of the protocol's")
        declared.append(Declared(name, datatype, tuple(shape)))
    return declared
