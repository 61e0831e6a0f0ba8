"""How far long work has come: a bar with the time left on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.history import Progress as Fit

_EVERY = 15.0  # seconds between lines where there is no terminal
_BEAT = 1.0  # seconds between looks at how far it is


class Bar:
    """Progress through `total` steps; None until it is known.

    A thread of its own looks at it every second, so that there is a sign of life within a step that takes long, and
    what is at work has to do no more for it than to count.
    """

    def __init__(self, console: Console, title: str, total: int | None = None) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._done = 0.0
        self._text = ""
        self._last = self._start = time.monotonic()
        self._said = -_EVERY  # when it last said what is being done
        self._passes = 0
        self._lock, self._stop = Lock(), Event()
        self._thread = Thread(target=self._tend, daemon=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[title]}[/]"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, title=title)

    def __enter__(self) -> Self:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.stop()

    def pulse(self) -> None:
        """Count one pass through a network, within the step that was said last. Waits for nothing."""
        self._passes += 1

    def _tend(self) -> None:
        while not self._stop.wait(_BEAT):
            self._show()

    def say(self, what: str) -> None:
        """Say what is being done; in a log at once, if nothing has been said for a while."""
        self._text, self._passes = what, 0
        self._show()
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said > _EVERY:
            self._said = now
            self._console.print(f"{self._title}: {what}", highlight=False, soft_wrap=True)

    def advance(self, steps: float) -> None:
        """Count steps that are done."""
        self._done += steps
        self._show()

    def fit(self, at: Fit) -> None:
        """Take a report of `models.train.fit`."""
        self._total, self._done = at.epochs * at.batches, at.epoch * at.batches + at.batch
        held_out = "" if at.val_accuracy is None else f", validation {at.val_accuracy:.1%}"
        self._text = f"epoch {at.epoch + 1}/{at.epochs}, loss {at.loss:.3f}, accuracy {at.accuracy:.1%}{held_out}"
        self._show()

    def _show(self) -> None:
        with self._lock:
            passes = f", {self._passes:,} passes" if self._passes else ""
            text = f"{self._text}{passes}"
            self._bar.update(self._task, total=self._total, completed=self._done, description=text)
            now = time.monotonic()
            if self._console.is_terminal or now - self._last <= _EVERY or not self._text:
                return
            self._last = self._said = now
            so_far = f"{now - self._start:.0f} s so far"
            if self._done and self._total:
                left = (now - self._start) / self._done * (self._total - self._done)
                so_far = f"{self._done / self._total:.0%}, {left:.0f} s left"
            self._console.print(f"{self._title}: {so_far}, {text}", highlight=False, soft_wrap=True)
