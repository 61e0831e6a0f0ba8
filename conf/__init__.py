"""Hydra configuration, shipped as package data and found as `pkg://conf`."""
