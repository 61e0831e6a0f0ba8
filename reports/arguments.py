"""Command lines whose mistakes are told in one line, as all bad input is."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser that says in one line what is wrong, and how to see what is allowed; exit status 2."""

    def error(self, message: str) -> NoReturn:
        """End the process."""
        print(f"{self.prog}: {' '.join(message.split())}; {self.prog} --help shows what is allowed", file=sys.stderr)
        raise SystemExit(2)


def share(text: str) -> float:
    """A share as a number or in percent.

    >>> share("0.3"), share("30%")
    (0.3, 0.3)

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a share such as 0.3 or 30%, got {text!r}") from None
