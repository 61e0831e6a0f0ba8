"""A run: configuration in, records and numbers out. Never imports `reports`."""
