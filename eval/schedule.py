"""In which order units of work are done, and by whom: one loop for this process, a cluster, and a simulated one.

A task is a part that is to be made. It may build on another one, and it may be somebody else's by now: another process
that was started in the same folder. The loop keeps a crew busy, hands out what is ready in the order it is given in,
and ends when every part has been made, here or there, or was given up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_PATIENCE = 0.5  # seconds between looks at what other processes are at


class Task(Protocol):
    """What is to be made: a part, after the one that it builds on."""

    @property
    def part(self) -> str:
        """Its name, which no other task of the loop has."""

    @property
    def after(self) -> str | None:
        """The name of the part that it builds on; None where there is none."""


T = TypeVar("T", bound=Task)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Crew(Protocol[T, R_co]):
    """Who does the work."""

    def slots(self) -> int:
        """How many tasks it takes at once, at least 1; it may change while it works."""

    def begin(self, task: T) -> None:
        """Take a task. It may be done when this returns."""

    def finished(self, patience: float | None) -> Sequence[tuple[T, R_co]]:
        """What came of tasks, at least one; waits for that as many seconds as `patience` says, None for ever.

        Returns nothing where the time is over.
        """


class Claims(Protocol):
    """Who makes a part."""

    def take(self, part: str) -> str:
        """`mine` from now on; `there`: it is made already; or `theirs`: another process is at it."""

    def release(self, part: str) -> None:
        """Let go of a part that was taken."""


@dataclass(frozen=True)
class Ended(Generic[T, R]):
    """A task that is no longer to be done.

    Attributes:
        task: which.
        result: what the crew says of it; None where another process made the part.
    """

    task: T
    result: R | None


def in_turn(
    tasks: Sequence[T], crew: Crew[T, R], claims: Claims, wait: Callable[[float], object] = time.sleep
) -> Iterator[Ended[T, R]]:
    """Have tasks done, each after the one that it builds on, if that is among them.

    What becomes ready goes to the end of the queue: with chains one after another, the last ones would be left to run
    to their end alone.

    A part counts as made once the loop is asked for the next one, so whoever iterates writes it down first.

    Args:
        tasks: what is to be done, the first first.
        crew: who does it.
        claims: what keeps two processes from the same part.
        wait: called with seconds, where all that is left is made by other processes.
    """
    names = {task.part for task in tasks}
    ready: deque[T] = deque()
    blocked: dict[str, list[T]] = {}
    for task in tasks:
        if task.after is not None and task.after in names:
            blocked.setdefault(task.after, []).append(task)
        else:
            ready.append(task)
    theirs: deque[T] = deque()
    at_work = 0
    while ready or at_work:
        while ready and at_work < crew.slots():
            task = ready.popleft()
            state = claims.take(task.part)
            if state == "mine":
                crew.begin(task)
                at_work += 1
            elif state == "there":
                yield Ended(task, None)
                ready.extend(blocked.pop(task.part, []))
            else:
                theirs.append(task)
        if at_work:
            for task, result in crew.finished(_PATIENCE if theirs else None):
                at_work -= 1
                yield Ended(task, result)
                claims.release(task.part)
                ready.extend(blocked.pop(task.part, []))
        elif theirs and not ready:
            wait(_PATIENCE)
        ready.extend(theirs)
        theirs.clear()


class Alone(Generic[T, R]):
    """A crew of one: a task is done where it is begun.

    Args:
        do: does a task.
    """

    def __init__(self, do: Callable[[T], R]) -> None:
        self._do = do
        self._done: list[tuple[T, R]] = []

    def slots(self) -> int:
        """One at a time."""
        return 1

    def begin(self, task: T) -> None:
        """Do it."""
        self._done.append((task, self._do(task)))

    def finished(self, patience: float | None) -> Sequence[tuple[T, R]]:
        """What was done since it was last asked; waits for nothing."""
        done, self._done = self._done, []
        return done
