"""A run: configuration in, records and numbers out. Never imports `reports`."""

__version__ = "0.1.0"
