"""Benchmarks: what taxiway promises about speed, measured beside its rivals in the same run.

In: scripts that build models, start servers, generate load and judge the figures. Out: tables and exit codes.
Never imported by taxiway itself. Read README.md first.
"""
