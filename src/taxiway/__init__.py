"""taxiway takes a model from a file to a production endpoint that can be trusted, and keeps it there."""

__version__ = "0.1.0"
