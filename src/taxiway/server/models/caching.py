"""Whether a version is cached, decided when it is loaded: what is not cached pays nothing."""

from __future__ import annotations

from taxiway.config.model_spec import ModelSpec
from taxiway.server.batching.plan import BatchingPlan
from taxiway.server.cache.key import KeyMaker
from taxiway.server.cache.shelf import Shelf
from taxiway.server.cache.store import AnswerStore
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")


def store_for(spec: ModelSpec, version: int, plan: BatchingPlan, store: AnswerStore | None) -> AnswerStore | None:
    """The store that keeps this version's answers; None if it is not cached.

    A model that asks to be cached and is not gets a line in the log.
    """
    if not spec.response_cache:
        return None
    reason, hint = _obstacle(spec, plan, store)
    if not reason:
        return store
    _log.warning("response_not_cached", model=spec.name, version=str(version), reason=reason, hint=hint)
    return None


def shelf_for(spec: ModelSpec, store: AnswerStore, max_input_bytes: int) -> Shelf:
    """This version's part of the store; requests with more bytes of inputs are not looked up."""
    keys = KeyMaker(spec.inputs, spec.outputs, max_input_bytes)
    return Shelf(keys, store, batches=spec.max_batch_size > 0)


def _obstacle(spec: ModelSpec, plan: BatchingPlan, store: AnswerStore | None) -> tuple[str, str]:
    """Why it is not cached, and what to do about it."""
    if store is None:
        return (
            "config.pbtxt enables response_cache, and cache.max_bytes is 0",
            "give the cache bytes: --cache.max-bytes",
        )
    if spec.decoupled:
        return "a decoupled model gives any number of answers", "take response_cache out of config.pbtxt"
    if plan.preserve_ordering:
        return "what is known would overtake what runs", "choose one: response_cache or preserve_ordering"
    return "", ""
