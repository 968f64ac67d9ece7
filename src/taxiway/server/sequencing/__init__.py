"""Which steps of which sequences run together, in which row of which instance, and what each is given and answered.

In: validated requests of one stateful model version, each a step of a sequence; an executor of numbered instances.
Out: SequenceFront (submit, cancel, settle, wind_down, close), SequencePlan, SequenceTensors.
Never: parsing, running a model, choosing a version; two steps of one sequence at a time.
Read: plan.py (what is wanted), policy.py (pure choice), machine.py (pure), tensors.py, then front.py (the shell).
"""
