"""An MLflow registry as a source that can be followed, and as a mirror of what becomes of its models here.

In: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/m-ID`, `runs:/RUN/PATH`; the letters of our outbox.
Out: a model on this machine with its run, metrics and parameters; aliases and tags over there.
Never: running a model, deploying by itself, overwriting what somebody else did in MLflow or here.
Read: source.py, then deciding.py (pure), following.py and mirror.py; server.py is the only one that imports mlflow.
"""
