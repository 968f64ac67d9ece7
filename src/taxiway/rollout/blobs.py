"""Evidence as bytes: JSON that keeps the order of its members and every bit of its floats, made small by zlib.

The order matters: sums over arms are taken in it, and a verdict that is computed anew must be the same to the bit.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Final, Self, TypeVar

import msgspec

from taxiway.core.errors import InvalidArgument, JournalBroken
from taxiway.registry.canonical import digest_of
from taxiway.rollout.chain import HINT

Kind = TypeVar("Kind")

_QUICK: Final = 1
"""zlib's level: what is gathered is written at each look, and its names repeat enough for any level."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A value as it is stored.

    Attributes:
        digest: of its JSON.
        size: bytes of its JSON.
    """

    digest: str
    size: int
    blob: bytes

    @classmethod
    def of(cls, value: object) -> Self:
        """Pack plain data or structs.

        Raises:
            InvalidArgument: JSON cannot hold it: a NaN, an infinity.
        """
        try:
            text = json.dumps(msgspec.to_builtins(value, str_keys=True), separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"evidence cannot be kept as JSON: {error}") from None
        return cls(digest_of(text), len(text), zlib.compress(text.encode(), _QUICK))


def unpack(blob: bytes, kind: type[Kind], digest: str = "") -> Kind:
    """What was packed.

    Raises:
        JournalBroken: it is not what was stored.
    """
    try:
        text = zlib.decompress(blob)
        if digest and digest_of(text.decode()) != digest:
            raise JournalBroken(f"the evidence {digest} was changed after it was written", hint=HINT, digest=digest)
        return msgspec.json.decode(text, type=kind)
    except (zlib.error, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise JournalBroken(f"evidence {digest} cannot be read: {error}", hint=HINT, digest=digest) from None
