"""Where processes that start in an environment of their own find the bytecode that the tests' process keeps."""

from __future__ import annotations

import os

BYTECODE = {name: os.environ[name] for name in ("PYTHONPYCACHEPREFIX",) if name in os.environ}
"""Without it such a process compiles PyTorch again, which takes longer than most tests."""
