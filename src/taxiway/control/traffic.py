"""`TrafficPort` to every data-plane process: asked through the supervisor, which asks them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import msgspec

from taxiway.core.errors import Unavailable
from taxiway.core.traffic import Companion, Report, Swap, SwapOutcome, Traffic
from taxiway.server.channel import Channel, Gone
from taxiway.server.fleet import Lasting

_ASK_S = 10.0
"""How long the data plane may take to say something, or to change who gets traffic."""
_LOAD_S = 900.0
"""How long it may take to load a version, measure and warm it."""
COMPANIONS, TRAFFIC = "companions", "traffic"
"""What lasts, as the supervisor keeps it for processes that start later."""

_T = TypeVar("_T")


class ChannelTraffic:
    """`TrafficPort` through the supervisor at the other end of `channel`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def stage(self, companion: Companion) -> None:
        """Have every process load it. See `TrafficPort`."""
        await self._ask("traffic_stage", _plain(companion), Lasting(COMPANIONS, companion.key), _LOAD_S)

    async def release(self, key: str) -> None:
        """Have every process let it go. See `TrafficPort`."""
        await self._ask("traffic_release", {"key": key}, Lasting(COMPANIONS, key), _LOAD_S)

    async def set_traffic(self, traffic: Traffic) -> None:
        """Have every process split requests so. See `TrafficPort`."""
        await self._ask("traffic_set", _plain(traffic), Lasting(TRAFFIC, traffic.service), _ASK_S)

    async def swap(self, swap: Swap) -> SwapOutcome:
        """Have every process exchange one version for another; held and shed are summed up. See `TrafficPort`."""
        lasting = Lasting(COMPANIONS, swap.companion.key)
        answers = await self._ask("traffic_swap", _plain(swap), lasting, _LOAD_S)
        outcomes = [_typed(answer, SwapOutcome) for answer in answers]
        return SwapOutcome(
            swapped=all(one.swapped for one in outcomes),
            held=sum(one.held for one in outcomes),
            shed=sum(one.shed for one in outcomes),
            took_s=max(one.took_s for one in outcomes),
            problem=next((one.problem for one in outcomes if one.problem), ""),
        )

    async def report(self, service: str) -> list[Report]:
        """What every process counted. See `TrafficPort`."""
        answers = await self._ask("traffic_report", {"service": service}, None, _ASK_S)
        return [_typed(answer, Report) for answer in answers if answer is not None]

    async def versions(self, service: str) -> Mapping[int, bool]:
        """Ready only where every process has it ready. See `TrafficPort`."""
        answers: list[Mapping[str, bool]] = await self._ask("traffic_versions", {"service": service}, None, _ASK_S)
        told: dict[int, bool] = {}
        for answer in answers:
            for number, ready in answer.items():
                told[int(number)] = told.get(int(number), True) and ready
        return told

    async def _ask(self, verb: str, words: Mapping[str, Any], lasting: Lasting | None, timeout_s: float) -> list[Any]:
        kept = None if lasting is None else asdict(lasting)
        try:
            answers: list[Any] = await self._channel.ask(
                "fleet", {"verb": verb, "words": words, "lasting": kept}, timeout_s
            )
        except Gone:
            raise Unavailable("the server is gone", hint="start it again") from None
        except TimeoutError:
            raise Unavailable(
                f"the data plane did not answer {verb} in {timeout_s:g} s", hint="the server's log tells what it does"
            ) from None
        return answers


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    """Plain data; bytes stay bytes, which the channel carries as they are."""
    told: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(bytes,))
    return told


def _typed(answer: object, kind: type[_T]) -> _T:
    return msgspec.convert(answer, kind)
