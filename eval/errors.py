"""What a user did wrong, or what the machine refuses: reported in one line, exit code 2."""

from __future__ import annotations

TRACEBACK = "TOASTPROOF_TRACEBACK"
"""Environment variable: set by a user who wants tracebacks instead of one line."""


class InputError(ValueError):
    """Bad input. The message is one line: where, what must hold, what came, and the remedy."""
