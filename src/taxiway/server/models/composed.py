"""From the configuration of an ensemble to what answers for it: there is no file, and nothing to measure or to warm."""

from __future__ import annotations

from taxiway.config.ensemble_tensors import Peers
from taxiway.config.ensembles import complete_ensemble, with_labels
from taxiway.config.model_config import ModelConfig, to_json_dict
from taxiway.config.model_spec import ModelSpec, build_spec
from taxiway.config.pipelines import map_by_name
from taxiway.config.settings import Settings
from taxiway.core.errors import InvalidConfig
from taxiway.server.batching.loop import Observer
from taxiway.server.batching.plan import BatchingPlan
from taxiway.server.batching.streaming import StreamAccounts, StreamFront
from taxiway.server.cache.front import CacheFront, RunAccounts
from taxiway.server.cache.store import AnswerStore
from taxiway.server.composing.front import EnsembleFront
from taxiway.server.composing.plan import Plan
from taxiway.server.models.assembling import Accounts
from taxiway.server.models.caching import shelf_for, store_for
from taxiway.server.models.host import Host
from taxiway.server.models.repository import FoundModel
from taxiway.server.models.served import Front, ServedModel, sampled
from taxiway.server.statistics import ModelStatistics

_NO_BATCHING = BatchingPlan()
"""Its models have queues; it has none."""


class EnsembleAssembler:
    """Makes what answers for one version of an ensemble.

    Args:
        store: keeps the answers of versions that are cached; None: none is.
    """

    def __init__(self, settings: Settings, host: Host, store: AnswerStore | None) -> None:
        self._settings = settings
        self._is_strict = settings.compat == "strict"
        self._host = host
        self._store = store

    def assemble(self, found: FoundModel, message: ModelConfig, version: int, peers: Peers) -> ServedModel:
        """What answers for this version; `peers` are the models it asks, as they are served.

        Raises:
            InvalidConfig: its configuration contradicts itself or its models, or one of them is not served.
        """
        if found.pipeline is not None:
            message = map_by_name(message, peers)
        completed = complete_ensemble(message, peers, found.name, where=found.where)
        spec = with_labels(build_spec(completed, found.directory), peers)
        host = self._host
        statistics = ModelStatistics(spec.name, str(version), host.clock)
        accounts = Accounts(statistics, host.clock)
        store = store_for(spec, version, _NO_BATCHING, self._store)
        strict = self._is_strict
        front: Front
        if spec.decoupled:
            engine = self._front(spec, peers, StreamAccounts(accounts, statistics), expire_running=strict)
            front = StreamFront(engine, [output.name for output in spec.outputs], statistics, host.clock)
        elif store is None:
            front = engine = self._front(spec, peers, accounts, expire_running=strict)
        else:
            engine = self._front(spec, peers, RunAccounts(accounts), expire_running=False)
            shelf = shelf_for(spec, store, self._settings.cache.max_input_bytes)
            front = CacheFront(engine, shelf, _NO_BATCHING, statistics, host.clock, host.loop, expire_running=strict)
        statistics.depth = engine.depth
        traces = host.gate(spec, version)
        traces.exemplify = statistics.traced
        served = ServedModel(spec, to_json_dict(completed), version, engine, statistics, front, traces)
        return served if host.sampler is None else sampled(served, host.sampler(spec, version))

    def _front(self, spec: ModelSpec, peers: Peers, observer: Observer, *, expire_running: bool) -> EnsembleFront:
        if spec.ensemble is None:
            raise InvalidConfig(f"model {spec.name!r} is no graph of models")
        plan = Plan.of(spec, spec.ensemble, peers)
        host = self._host
        return EnsembleFront(spec, plan, host.inner, host.clock, host.loop, observer, expire_running=expire_running)
