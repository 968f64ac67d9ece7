"""Servers of OpenAI's protocol: chat and plain completions, whose answers come token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson

from taxiway.core.errors import TaxiwayError
from taxiway.profile.generating.job import Door, Shot
from taxiway.profile.phases import Counters
from taxiway.profile.requests import Request
from taxiway.profile.targets.asking import Address
from taxiway.profile.targets.http_target import HttpTarget
from taxiway.profile.workload import Workload

_CHAT: Final = "/chat/completions"
_PLAIN: Final = "/completions"
_INPUT_TOKENS: Final = 128
_OUTPUT_TOKENS: Final = 64
_WORDS: Final = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school")
"""Each is one token in the usual vocabularies, more or less."""
_MADE_UP: Final = 16


def is_completions_path(path: str) -> bool:
    """Whether it is OpenAI's."""
    return path.endswith(_PLAIN)


class OpenAiTarget(HttpTarget):
    """What is behind `http://host:port/v1/chat/completions` or `/v1/completions`; see `Target`.

    Answers are streamed, unless a body of the workload says `"stream": false` in every request.

    Args:
        model: asked for in requests that name none; empty for the first that the server lists.
    """

    def __init__(self, address: Address, headers: Mapping[str, str], model: str = "") -> None:
        super().__init__(address, headers, "")
        self._asked = model
        self._chat = address.path.endswith(_CHAT)

    async def open(self) -> None:
        """Ask which models there are, unless we know."""
        await super().open()
        if self._asked:
            return
        base = self._address.path.removesuffix(_CHAT if self._chat else _PLAIN)
        try:
            listed = await self._asker.get(f"{base}/models")
            self._asked = str(listed["data"][0]["id"])
        except (TaxiwayError, KeyError, IndexError, TypeError) as error:
            if isinstance(error, TaxiwayError) and error.code == "target-unavailable":
                raise
            self._asked = "default"

    @property
    def door(self) -> Door:
        """Events are read as such; an answer that is none of them has no tokens."""
        return _with_events(super().door)

    async def counters(self) -> Counters | None:
        """It has none."""
        return None

    def render(self, workload: Workload | None) -> list[Shot]:
        """The body of each request; what it leaves open is made up by its lengths."""
        requests = workload.requests if workload is not None else [Request() for _ in range(_MADE_UP)]
        return [self._post(orjson.dumps(self._body(one, number)), one.headers) for number, one in enumerate(requests)]

    def _body(self, request: Request, number: int) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._asked, "stream": True, **(request.body or {})}
        if body["stream"] is True:
            body.setdefault("stream_options", {"include_usage": True})
        if "messages" not in body and "prompt" not in body:
            prompt = _prompt(request.input_tokens or _INPUT_TOKENS, number)
            body |= {"messages": [{"role": "user", "content": prompt}]} if self._chat else {"prompt": prompt}
            body.setdefault("max_tokens", request.output_tokens or _OUTPUT_TOKENS)
        return body


def _with_events(door: Door) -> Door:
    return Door(door.host, door.port, door.tls, events=True)


def _prompt(tokens: int, seed: int) -> str:
    """About so many tokens, and different from those of other seeds from the first on: no cache helps."""
    words = np.random.default_rng(seed).choice(len(_WORDS), tokens)
    return " ".join(_WORDS[word] for word in words)
