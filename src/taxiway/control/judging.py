"""The judge for others: verdicts on counts that whoever moves the traffic has gathered, and on rollouts of ours.

`POST /v1/judge` takes evidence (rollout/nouns.py: segments of weights and tallies by arm) and guards, and answers with
the verdict; it keeps nothing. Argo Rollouts asks it by a `web` metric:

    provider: {web: {method: POST, url: http://taxiway:8003/v1/judge, jsonPath: "{$.outcome}", jsonBody: {...}}}
    successCondition: result == "pass"
    failureCondition: result == "fail"

`POST /v1/flagger` is a webhook of Flagger's whose `metadata` names a rollout: 200 if its verdict is pass, or with
`inconclusive: continue` if it is not fail; 409 with the reason otherwise.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.control.callers import Callers
from taxiway.core.errors import InvalidArgument, MalformedJson, VerdictFailed, VerdictInconclusive
from taxiway.rollout.analysis import judge
from taxiway.rollout.journal import Journal
from taxiway.rollout.nouns import Evidence
from taxiway.rollout.office import RolloutOffice, checked_plan


def judge_routes(callers: Callers, office: RolloutOffice, journal: Journal) -> list[BaseRoute]:
    """Both."""
    judging = _Judging(callers, office, journal)
    return [
        Route("/v1/judge", judging.judge, methods=["POST"]),
        Route("/v1/flagger", judging.flagger, methods=["POST"]),
    ]


class _Judging:
    def __init__(self, callers: Callers, office: RolloutOffice, journal: Journal) -> None:
        self._callers = callers
        self._office = office
        self._journal = journal

    async def judge(self, request: Request) -> Response:
        """A verdict on the evidence in the body."""
        self._callers.check(request, "read", None)
        words = await _words(request)
        plan = checked_plan({"to": "1", "guards": words.get("guards", {}), "units": words.get("units", ["api-key"])})
        evidence = _evidence(words.get("evidence"))
        arms = words.get("arms", ["candidate"])
        if not isinstance(arms, list) or not all(isinstance(arm, str) for arm in arms) or not arms:
            raise InvalidArgument(f"arms = {arms!r}: must be a list of names", hint='as ["candidate"]')
        verdict = await asyncio.to_thread(judge, evidence, _dumped(plan), arms)
        return Response(orjson.dumps(msgspec.to_builtins(verdict)), media_type="application/json")

    async def flagger(self, request: Request) -> Response:
        """Whether the rollout that the webhook's metadata names may go on.

        Raises:
            VerdictFailed, VerdictInconclusive: it may not.
        """
        metadata = (await _words(request)).get("metadata") or {}
        rollout_id = metadata.get("rollout") if isinstance(metadata, dict) else None
        if not isinstance(rollout_id, str):
            raise InvalidArgument("metadata.rollout is missing", hint="the webhook's metadata names a rollout's id")
        rollout = await asyncio.to_thread(self._journal.rollout, rollout_id)
        self._callers.check(request, "read", rollout.service)
        verdict = (await self._office.status(rollout))["verdict"]
        outcome = "inconclusive" if verdict is None else verdict["outcome"]
        sentence = "nothing was judged yet" if verdict is None else verdict["sentence"]
        if outcome == "fail":
            raise VerdictFailed(sentence, hint=f"`taxiway rollout status {rollout.id}`")
        if outcome != "pass" and metadata.get("inconclusive") != "continue":
            raise VerdictInconclusive(sentence, hint="metadata `inconclusive: continue` lets it go on all the same")
        return Response(orjson.dumps({"verdict": outcome, "sentence": sentence}), media_type="application/json")


def _evidence(words: object) -> Evidence:
    try:
        return msgspec.convert(words, Evidence, strict=False)
    except msgspec.ValidationError as problem:
        raise InvalidArgument(
            f"evidence is not understood: {problem}",
            hint='as {"segments": [{"number": 1, "weights": {...}, "tallies": {"candidate": {"answered": 9}, ...}}]}',
        ) from None


def _dumped(plan: RolloutPlan) -> dict[str, Any]:
    told: dict[str, Any] = plan.model_dump(mode="json")
    return told


async def _words(request: Request) -> dict[str, Any]:
    try:
        words = json.loads(await request.body() or b"{}")
    except ValueError as problem:
        raise MalformedJson(f"the body is not JSON: {problem}", hint="send an object") from None
    if not isinstance(words, dict):
        raise InvalidArgument("the body must be a JSON object", hint="docs/rollouts.md shows one")
    return words
