"""The command line: one module per verb; parses, prints, exits.

In: words and flags.
Out: exit codes by kind of error, text for people.
Never: logic worth testing without a terminal.
Read: main.py, then serve.py.
"""

from taxiway.cli.main import main

__all__ = ["main"]
