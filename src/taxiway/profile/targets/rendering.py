"""Requests as bytes: an HTTP head before a body, and the body's tensors in JSON or binary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from taxiway.core.errors import InvalidArgument
from taxiway.core.tensors import Datatype
from taxiway.profile.generating.job import Shot
from taxiway.profile.targets.asking import Address

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
_RESERVED: Final = ("content-length", "transfer-encoding", "connection", "host")


def http_shot(address: Address, path: str, body: bytes, headers: Mapping[str, str]) -> Shot:
    """A POST of `body`.

    Raises:
        InvalidArgument: a header cannot be sent.
    """
    head = [f"POST {path} HTTP/1.1", f"Host: {address.host_header}", f"Content-Length: {len(body)}"]
    for name, value in headers.items():
        check_header(name, value)
        head.append(f"{name}: {value}")
    return Shot("\r\n".join([*head, "", ""]).encode("latin-1") + body)


def check_header(name: str, value: str) -> None:
    """Of HTTP, RFC 9110.

    Raises:
        InvalidArgument: it is one that we write ourselves, its name is none, or its value has other characters.
    """
    if name.lower() in _RESERVED:
        raise InvalidArgument(f"header {name!r} cannot be given", hint="leave it out: we write it", name=name)
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
        raise InvalidArgument(
            f"header {name!r} cannot be given: it is {value!r}, and HTTP has letters, digits and -._~ in names, and "
            "one line of Latin-1 in values",
            hint="percent-encode or base64 what is beyond that, as its reader expects",
            name=name,
        )


def json_body(inputs: Sequence[Mapping[str, Any]]) -> bytes:
    """The v2 request with these inputs in JSON."""
    return orjson.dumps({"inputs": list(inputs)})


def binary_body(inputs: Sequence[Mapping[str, Any]]) -> tuple[bytes, int]:
    """The v2 request with these inputs as binary tensors, and the length of its JSON.

    Raises:
        InvalidArgument: an input's data is not of its datatype and shape.
    """
    raw = [raw_tensor(one) for one in inputs]
    told = [
        {key: one[key] for key in ("name", "shape", "datatype")} | {"parameters": {"binary_data_size": len(data)}}
        for one, data in zip(inputs, raw, strict=True)
    ]
    head = orjson.dumps({"inputs": told, "parameters": {"binary_data_output": True}})
    return head + b"".join(raw), len(head)


def raw_tensor(tensor: Mapping[str, Any]) -> bytes:
    """The bytes of a tensor that is told in JSON, little-endian; of BYTES each with its length before it.

    Raises:
        InvalidArgument: the data is not of the datatype and shape.
    """
    datatype = Datatype.by_name(str(tensor.get("datatype")))
    if datatype is None or datatype is Datatype.BF16:
        raise InvalidArgument(f"datatype {tensor.get('datatype')!r} has no form in JSON", hint="as FP32 or INT64")
    try:
        if datatype is Datatype.BYTES:
            words = [str(word).encode() for word in np.asarray(tensor["data"], object).ravel()]
            return b"".join(len(word).to_bytes(4, "little") + word for word in words)
        return np.asarray(tensor["data"]).astype(datatype.numpy_dtype).reshape(tensor["shape"]).tobytes()
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"input {tensor.get('name')!r} is not {datatype.wire_name} of shape {tensor.get('shape')}: {error}",
            hint="give name, datatype, shape and data, as a v2 request has them",
        ) from None
