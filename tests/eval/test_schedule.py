"""One loop hands out parts: to crews of any size, beside other processes in the same folder, which die."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval.schedule import Alone, in_turn

SEARCH = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Piece:
    part: str
    after: str | None = None


@st.composite
def graphs(draw: st.DrawFn) -> list[Piece]:
    """Parts that build on others, or on what is not among them, in any order."""
    n = draw(st.integers(0, 10))
    pieces = []
    for i in range(n):
        before = draw(st.one_of(st.none(), st.just("elsewhere"), *([st.integers(0, i - 1)] if i else [])))
        pieces.append(Piece(f"p{i}", f"p{before}" if isinstance(before, int) else before))
    return draw(st.permutations(pieces))


@dataclass
class Folder:
    """What this process and another one see: who is at which part, and what is made. It draws what the other does."""

    tasks: Sequence[Piece]
    data: st.DataObject
    moves: int
    made: Counter[str] = field(default_factory=Counter)
    owner: dict[str, str] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)

    def ready(self, piece: Piece, over: set[str]) -> bool:
        return piece.after is None or piece.after in over or piece.after not in {t.part for t in self.tasks}

    def stir(self, force: bool = False) -> None:
        """The other process takes a part, makes one, or dies and lets go of all it had."""
        if not force and not self.moves:
            return
        held = [part for part, who in self.owner.items() if who == "they"]
        free = [t.part for t in self.tasks if t.part not in self.owner and not self.made[t.part]
                and self.ready(t, set(self.made))]  # fmt: skip
        options = ["make"] * bool(held) + ["die"] * bool(held)
        options += [] if force else ["nothing"] + ["take"] * bool(free)
        self.moves = max(0, self.moves - 1)
        what = self.data.draw(st.sampled_from(options)) if options else "nothing"
        if what == "take":
            self.owner[self.data.draw(st.sampled_from(free))] = "they"
        elif what == "make":
            part = self.data.draw(st.sampled_from(held))
            self.made[part] += 1
            del self.owner[part]
        elif what == "die":
            self.owner = {part: who for part, who in self.owner.items() if who != "they"}


@dataclass
class Claims:
    folder: Folder
    said: dict[str, str] = field(default_factory=dict)

    def take(self, part: str) -> str:
        self.folder.stir()
        assert self.folder.owner.get(part) != "we", f"{part} was taken twice"
        state = "there" if self.folder.made[part] else "theirs" if part in self.folder.owner else "mine"
        if state == "mine":
            self.folder.owner[part] = "we"
        self.said[part] = state
        return state

    def release(self, part: str) -> None:
        assert part in self.folder.written, f"{part} was let go of before it was written down"
        assert self.folder.owner.pop(part) == "we"
        self.folder.stir()


class Crew:
    """Takes a number of tasks that changes, and ends any of them, which may fail."""

    def __init__(self, folder: Folder, claims: Claims) -> None:
        self.folder, self.claims = folder, claims
        self.pending: list[Piece] = []
        self.room = 0
        self.over: set[str] = set()

    def slots(self) -> int:
        self.room = self.folder.data.draw(st.integers(1, 4))
        return self.room

    def begin(self, task: Piece) -> None:
        assert len(self.pending) < self.room, "more than there is room for"
        assert self.folder.owner.get(task.part) == "we"
        assert self.folder.ready(task, self.over), f"{task.part} before {task.after}"
        self.pending.append(task)
        self.folder.stir()

    def finished(self, patience: float | None) -> list[tuple[Piece, bool]]:
        assert self.pending, "nothing is under way"
        if len(self.pending) < self.room:
            left = [t for t in self.folder.tasks if t.part not in self.over and t not in self.pending]
            idle = [
                t.part for t in left if self.folder.ready(t, self.over) and self.claims.said.get(t.part) != "theirs"
            ]
            assert not idle, f"a worker waits, and nobody is at {idle}"
            if "theirs" in self.claims.said.values():
                assert patience is not None, "nobody looks whether the other process is done, or dead"
        self.claims.said.clear()
        self.folder.stir()
        draw = self.folder.data.draw
        least = 1 if patience is None else 0
        done = draw(st.lists(st.sampled_from(self.pending), min_size=least, unique=True))
        self.pending = [task for task in self.pending if task not in done]
        return [(task, draw(st.booleans())) for task in done]


def loop(folder: Folder, tasks: Sequence[Piece]) -> tuple[Counter[str], Callable[[int], None]]:
    """How often each part ended; runs until `stop` more parts have ended, as if the process was killed then."""
    claims = Claims(folder)
    crew = Crew(folder, claims)
    ends: Counter[str] = Counter()

    def wait(seconds: float) -> None:
        assert not crew.pending, "it sleeps while somebody may be done"
        folder.stir(force=True)

    def go(stop: int) -> None:
        for ended in in_turn(tasks, crew, claims, wait):
            part = ended.task.part
            ends[part] += 1
            if ended.result is None:
                assert folder.made[part], f"{part} is said to be there"
            elif ended.result:
                folder.made[part] += 1
            crew.over.add(part)
            folder.written.add(part)
            if ends.total() == stop:
                return

    return ends, go


@SEARCH
@given(tasks=graphs(), data=st.data(), moves=st.integers(0, 12))
def test_each_part_is_made_once_by_whoever_takes_it_and_ends_once(tasks, data, moves):
    folder = Folder(tasks, data, moves)
    ends, go = loop(folder, tasks)
    go(-1)
    assert ends == Counter(t.part for t in tasks)
    assert all(times <= 1 for times in folder.made.values())
    assert "we" not in folder.owner.values()


@SEARCH
@given(tasks=graphs(), data=st.data(), moves=st.integers(0, 8), stop=st.integers(1, 6))
def test_what_a_killed_loop_leaves_another_one_makes(tasks, data, moves, stop):
    folder = Folder(tasks, data, moves)
    loop(folder, tasks)[1](stop)
    folder.owner = {part: who for part, who in folder.owner.items() if who != "we"}  # the system lets go of its locks
    left = [t for t in tasks if not folder.made[t.part]]
    second = Folder(left, data, 0, folder.made, folder.owner)
    ends, go = loop(second, left)
    go(-1)
    assert ends == Counter(t.part for t in left)
    assert all(times <= 1 for times in folder.made.values())


class Free:
    def take(self, part: str) -> str:
        return "mine"

    def release(self, part: str) -> None:
        pass


def test_alone_it_goes_through_the_parts_in_their_order_and_what_builds_on_one_comes_after_it():
    tasks = [Piece("a"), Piece("b"), Piece("a2", "a"), Piece("b2", "b"), Piece("a3", "a2"), Piece("c", "elsewhere")]
    done: list[str] = []
    ended = [e.task.part for e in in_turn(tasks, Alone(lambda task: done.append(task.part)), Free())]
    assert done == ended
    assert sorted(done) == sorted(t.part for t in tasks)
    for task in tasks:
        if task.after in done:
            assert done.index(task.after) < done.index(task.part)
    roots = [part for part in done if part in ("a", "b", "c")]
    assert roots == ["a", "b", "c"]


def test_one_that_another_process_is_at_is_waited_for_and_what_builds_on_it_is_made_here():
    class Theirs(Free):
        asked = 0

        def take(self, part: str) -> str:
            if part != "a":
                return "mine"
            self.asked += 1
            return "there" if self.asked > 2 else "theirs"

    waited: list[float] = []
    crew = Alone(lambda task: task.part)
    ended = [(e.task.part, e.result) for e in in_turn([Piece("a"), Piece("a2", "a")], crew, Theirs(), waited.append)]
    assert ended == [("a", None), ("a2", "a2")]
    assert len(waited) == 2


def test_the_parts_of_a_crew_that_breaks_down_are_not_let_go_of_as_if_they_were_made():
    class Broken(Alone):
        def finished(self, patience):
            raise ConnectionError("the cluster is gone")

    released: list[str] = []

    class Held(Free):
        def release(self, part: str) -> None:
            released.append(part)

    with pytest.raises(ConnectionError, match="gone"):
        list(in_turn([Piece("a")], Broken(lambda task: 0), Held()))
    assert released == []
