"""Run a batch: merge the inputs, call the model, keep a poisoned request from hurting its neighbours.

In: a list of requests that the batcher chose, a loaded model.
Out: a `BatchOutcome`.
Never: choosing what runs together, waiting for more.
Read: runner.py, then threads.py and hybrid.py.
"""

from taxiway.server.execution.hybrid import HybridExecutor
from taxiway.server.execution.runner import BatchRunner, WholeRunner
from taxiway.server.execution.threads import ThreadExecutor

__all__ = ["BatchRunner", "HybridExecutor", "ThreadExecutor", "WholeRunner"]
