"""Who gets traffic: plans a walk from one version to another, and walks it by evidence.

In: a plan, commands of people, what the data plane counted, feedback.
Out: the traffic that is wanted, verdicts with their evidence, a journal that survives anything, an undo.
Never: talking to a server or to Kubernetes directly, asking a clock by itself, reading silence as success.
Read: nouns.py, then plan.py, machine.py, evidence.py, analysis.py, and controller.py.
"""
