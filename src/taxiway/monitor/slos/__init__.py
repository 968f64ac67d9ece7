"""Objectives as Prometheus' rules: how fast error budgets burn, and when somebody should know.

In: the objectives of the manifest.
Out: recording rules under Sloth's names, alerts over several windows with their runbooks, as YAML.
Never: an alert that one failed request can raise.
Read: objectives.py, then recording.py and burning.py; general.py for what goes wrong without objectives.
"""
