"""The version, as a constant: importlib.metadata would cost 36 ms of every start."""

__version__ = "0.1.0"
