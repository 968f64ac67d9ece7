"""Models in processes of their own: started, spoken to through shared memory, and started again when they die.

In: a launch plan; batches of requests.
Out: `HostedModel`, a `LoadedModel` that brings its own executor.
Never: the model's framework, deciding what runs together.
Read: plan.py, machine.py (pure: when one is started again), process.py (one child), executor.py (the shell), layout.py
(what is believed), keeper.py (starts and burials), model.py.
"""
