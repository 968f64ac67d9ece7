"""What all sections of settings share: their base, and the types of their values."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from taxiway.core.errors import InvalidArgument
from taxiway.core.refs import ModelRef

Port = Annotated[int, Field(ge=0, le=65535)]
Host = Annotated[str, Field(min_length=1, max_length=255)]
Count = Annotated[int, Field(ge=1, le=1 << 40)]
CountOrNone = Annotated[int, Field(ge=0, le=1 << 40)]
Bytes = Annotated[int, Field(ge=1, le=1 << 50)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Milliseconds = Annotated[float, Field(ge=0, le=3_600_000)]
Threads = Annotated[int, Field(ge=0, le=4096)]
Rows = Annotated[int, Field(ge=0, le=(1 << 31) - 1)]  # 32 bits in config.pbtxt
SocketPath = Annotated[str, Field(max_length=100)]  # sockaddr_un holds 108 bytes
FileName = Annotated[str, Field(max_length=4096)]
Digest = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{64}$")]


def broken_rule(key: str, rule: str) -> PydanticCustomError:
    """A rule between fields that is broken; `key` is the dotted field to name, relative to the section."""
    escaped = rule.replace("{", "{{").replace("}", "}}")  # pydantic formats the message
    return PydanticCustomError("rule", escaped, {"key": key})


def _as_text(value: object) -> object:
    """ONNX Runtime takes options as text; YAML reads `device_id: 0` as a number."""
    return str(value) if isinstance(value, bool | int | float) else value


OptionText = Annotated[str, BeforeValidator(_as_text)]


def checked_ref(text: str, *, versions: bool) -> str:
    """A model's name, or (if `versions`) one version of it."""
    rule = "must be a model's name" + (", or name:3 for one version of it" if versions else "")
    try:
        ref = ModelRef.parse(text)
    except InvalidArgument as error:
        raise PydanticCustomError("rule", f"{rule}; {error.hint}") from None
    if ref.variant or ref.alias or (ref.version and not versions):
        raise PydanticCustomError("rule", rule)
    return text


class Section(BaseModel):
    """What all sections share: frozen, unknown keys refused, no NaN, no true/false where a number belongs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_elsewhere(cls, value: object, info: ValidationInfo) -> object:
        """Pydantic would read `port: true` as 1."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation is not bool:
            raise PydanticCustomError("rule", "must not be true or false")
        return value
