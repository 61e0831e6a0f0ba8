"""How far long work has come: a bar with the time left on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.history import Progress as Fit

_EVERY = 15.0  # seconds between lines where there is no terminal


class Bar:
    """Progress through `total` steps."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._done = -1  # `step` says what begins, not what has ended
        self._last = self._start = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]{task.fields[title]}[/]"),
            BarColumn(),
            MofNCompleteColumn(),
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, what: str) -> None:
        """Say that one more step begins."""
        self._done += 1
        self._bar.update(self._task, completed=self._done, description=what)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last > _EVERY:
            self._last = now
            left = (now - self._start) / max(self._done, 1) * (self._total - self._done)
            self._console.print(
                f"{self._title} {self._done}/{self._total}, {left:.0f} s left: {what}", highlight=False, soft_wrap=True
            )


class Fitting:
    """Progress of a training: a bar on a terminal, a line now and then in a log."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._last = self._start = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]{task.fields[title]}[/]"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, title=f"Training {name}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, at: Fit) -> None:
        """Take a report of `models.train.fit`."""
        total, done = at.epochs * at.batches, at.epoch * at.batches + at.batch
        held_out = "" if at.val_accuracy is None else f", validation {at.val_accuracy:.1%}"
        text = f"epoch {at.epoch + 1}/{at.epochs}, loss {at.loss:.3f}, accuracy {at.accuracy:.1%}{held_out}"
        self._bar.update(self._task, total=total, completed=done, description=text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last > _EVERY:
            self._last = now
            left = (now - self._start) / max(done, 1) * (total - done)
            self._console.print(f"Training {self._name}: {text}, {left:.0f} s left", highlight=False, soft_wrap=True)
