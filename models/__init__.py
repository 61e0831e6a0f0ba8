"""What is attacked: architectures, training, loading. Never imports `attacks`, `eval` or `reports`."""
