"""Records and tables on disk in, CSV and HTML out. Never imports `torch`, `attacks` or `models`."""
