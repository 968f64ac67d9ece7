"""Which waiting requests run together, when, and what each of them is answered.

In: validated requests of one model version; an executor that runs one batch per slot.
Out: Batcher (submit, cancel, settle, close), BatchingPlan, Observer.
Never: parsing, running a model, choosing a version; waiting when waiting cannot pay.
Read: plan.py (what is wanted), policy.py (pure choice), queue.py (pure structure), then loop.py (the shell).
"""
