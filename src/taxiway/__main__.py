"""`python -m taxiway` is `taxiway`."""

from taxiway.cli import main

main()
