"""Which target a word on the command line means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from taxiway.core.errors import InvalidArgument
from taxiway.profile.targets.asking import Address
from taxiway.profile.targets.inputs import Shapes
from taxiway.profile.targets.oip_http import MODEL_PATH, OipHttpTarget
from taxiway.profile.targets.target import Target


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is wanted of a target besides its address.

    Attributes:
        headers: of every request.
        binary: tensors as binary data, where the protocol has that.
        shapes: of inputs that are made up.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    binary: bool = False
    shapes: Shapes = field(default_factory=dict)


def find_target(word: str, wishes: Wishes) -> Target:
    """The target at this URL.

    Raises:
        InvalidArgument: no protocol has such a path.
    """
    address = Address.parse(word)
    if MODEL_PATH.fullmatch(address.path):
        return OipHttpTarget(address, wishes.headers, binary=wishes.binary, shapes=wishes.shapes)
    raise InvalidArgument(f"{word!r} has no path of a known protocol", hint="as http://127.0.0.1:8000/v2/models/fraud")
