"""Where memory runs out the batch is halved and the work goes on, with the records of a run that had enough."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from attacks.base import Attack, Logits
from attacks.expectation import Expectation
from attacks.fab import FAB
from attacks.fgsm import FGSM
from attacks.foolbox import Foolbox
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.noise import Noise
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.smallest_eps import SmallestEps
from attacks.square import Square
from attacks.standard import Standard
from attacks.threat import ThreatModel, unlimited
from eval.batches import Batch
from eval.bench import Bench, Unit
from eval.clean import clean_pass
from eval.craft import craft
from eval.data.samples import ArrayStore, Samples
from eval.derived import CONTROL
from eval.forms import plain
from models.classifier import Classifier
from models.errors import ModelError
from models.graphed import Graphed
from tests.bytecode import BYTECODE

CPU = torch.device("cpu")
N = 24
SHORT = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """Keeps what was imported out of the search for cycles, which each halving makes."""
    gc.freeze()
    yield
    gc.unfreeze()


class _Refusing(torch.autograd.Function):
    """The identity, whose derivative does not fit into memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError(SHORT)


class Tight(nn.Module):
    """A small network that has room for `room` images; it computes in float64, so that batches differ in nothing."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Sigmoid(), nn.Linear(40, 10)).double()
        self.net[1].weight.data.mul_(25)
        self.net[3].weight.data.mul_(20)
        self.room = 1 << 20
        self.where: Callable[[int, int], str] = lambda rows, call: "forward" if rows > self.room else ""
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        where = self.where(len(x), len(self.calls))
        if where == "forward" or (where == "judging" and not torch.is_grad_enabled()):
            raise torch.cuda.OutOfMemoryError(SHORT)
        z: Tensor = self.net(x.double())
        return _Refusing.apply(z) if where == "backward" and z.requires_grad else z  # type: ignore[no-any-return, no-untyped-call]


def built(batch_size: int, **fields: Any) -> tuple[Bench, Tight]:
    """A bench whose network has room for all images so far; three of the 24 are misclassified."""
    tight = Tight()
    classifier = Classifier(tight, name="net", input_shape=(1, 8, 8), num_classes=10)
    pixels = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = classifier(pixels).argmax(1).numpy().copy()
    labels[::10] = (labels[::10] + 1) % 10
    ids = np.array([f"test/{i:05}" for i in range(N)])
    samples = Samples(ids, labels, tuple("0123456789"), ArrayStore(pixels.numpy()), np.arange(N))
    clean = clean_pass(classifier, samples, N, CPU)
    given: dict[str, Any] = {"derived": CONTROL, "examples": 2, "transfer": False, **fields}
    bench = Bench(samples, {"net": classifier}, {"net": clean}, CPU, 3, "untargeted", batch_size, **given)
    tight.calls.clear()
    return bench, tight


def records(bench: Bench, attack: Attack, norm: str = "linf", watcher: Any = None) -> pd.DataFrame:
    threat = unlimited(norm) if attack.minimal else ThreatModel(norm, 0.03 if norm == "linf" else 0.3)
    unit = Unit("net", "search", attack, "some", threat, np.arange(len(bench.samples)))
    told: list[float] = []
    rows, _ = craft(bench, unit, told.append, watcher)
    assert sum(told) == pytest.approx(len(bench.samples))
    keys = ["role", "target_model", "sample"]
    return pd.DataFrame(rows).sort_values(keys, ignore_index=True)


@cache
def undisturbed(name: str) -> pd.DataFrame:
    """What a search finds in batches of another size with memory enough."""
    attack, norm, _ = SEARCHES[name]
    return records(built(7)[0], attack, norm)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"))


# the attack, the norm, and how many rows of a sample stand side by side
SEARCHES = {
    "fgsm": (FGSM(), "linf", 1),
    "pgd": (PGD(steps=4, early_stop=True), "linf", 1),
    "pgd_restarts": (PGD(steps=4, restarts=3, early_stop=True), "linf", 3),
    "lbfgs": (LBFGS(evaluations=30, climb=20), "l2", 9),
    "cascade": (Standard(steps=5, targets=2, queries=15, restarts=1), "linf", 2),
    "foolbox": (Foolbox("pgd", {"steps": 4}), "linf", 1),  # of a fixed number of steps, as others end all together
    "square": (Square(queries=15), "linf", 1),
    "fab": (FAB(steps=5, targets=2), "l2", 2),
    "noise": (Noise("uniform", 3), "linf", 1),
    "smallest": (SmallestEps(steps=3), "linf", 1),
    "expectation": (Expectation(PGD(steps=2, early_stop=False), draws=2), "linf", 2),
}


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("room", [1, 3, 5, 64])
def test_the_records_are_those_of_a_run_that_had_enough(name, room):
    attack, norm, rows = SEARCHES[name]
    bench, tight = built(16)
    tight.room = max(room, rows)
    same(records(bench, attack, norm), undisturbed(name))
    assert set(undisturbed(name)["error"]) == {""}
    batch = bench.batches["net"]
    assert batch.first == 16
    assert batch.size <= max(room, rows)
    assert batch.size == 16 or room < 64


@pytest.mark.parametrize("name", ["fgsm", "pgd", "lbfgs", "cascade", "fab", "foolbox", "smallest"])
def test_a_gradient_that_does_not_fit_halves_the_batch_too(name):
    attack, norm, rows = SEARCHES[name]
    bench, tight = built(16)
    tight.where = lambda here, call: "backward" if here > rows + 2 else ""
    same(records(bench, attack, norm), undisturbed(name))
    assert 1 <= bench.batches["net"].size <= rows + 2


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("when", [(1,), (2, 3), (4, 9, 23)])
def test_memory_that_runs_out_now_and_then_changes_nothing_either(name, when):
    attack, norm, _ = SEARCHES[name]
    bench, tight = built(16)
    tight.where = lambda here, call: "forward" if call in when else ""
    same(records(bench, attack, norm), undisturbed(name))
    met = sum(call <= len(tight.calls) for call in when)
    assert bench.batches["net"].size <= 16 >> min(met, 1)


@pytest.mark.parametrize("room", [1, 3])
def test_judging_halves_the_batch_without_another_search(room):
    whole = records(built(N)[0], FGSM())
    bench, tight = built(N)
    tight.where = lambda here, call: "judging" if here > room else ""
    same(records(bench, FGSM()), whole)
    assert bench.batches["net"].size <= room
    assert sum(rows == N - 3 for rows in tight.calls) == 1  # the gradient of the samples that were open


def test_a_batch_that_judging_halves_leaves_nobody_out():
    attack, norm, _ = SEARCHES["cascade"]
    bench, tight = built(10)
    records(bench, attack, norm)
    judging = len(tight.calls) - 12 + 1  # three batches, two images of a sample, each as it is and rounded
    bench, tight = built(10)
    tight.where = lambda here, call: "forward" if call == judging else ""
    same(records(bench, attack, norm), undisturbed("cascade"))
    assert bench.batches["net"].size == 5


def test_a_target_with_less_room_is_judged_on_in_smaller_batches():
    bench, _ = built(N, transfer=True)
    other = Classifier(Tight(), name="other", input_shape=(1, 8, 8), num_classes=10)
    both = {**bench.classifiers, "other": other}
    clean = {**bench.clean, "other": bench.clean["net"]}

    def on(batches: dict[str, Batch]) -> pd.DataFrame:
        shared = Bench(bench.samples, both, clean, CPU, 3, "untargeted", N, True, CONTROL, 2, batches=batches)
        return records(shared, PGD(steps=3))

    whole, tight = on({}), {"net": Batch("net", N), "other": Batch("other", N)}
    other.network.room = 5  # type: ignore[assignment]
    same(on(tight), whole)
    assert [b.size for b in tight.values()] == [N, 3]


def test_a_network_keeps_to_the_smaller_batch_in_later_units():
    bench, tight = built(16)
    tight.room = 4
    records(bench, FGSM())
    assert max(tight.calls) == 14  # of 16 those that were open
    tight.calls.clear()
    records(bench, PGD(steps=2))
    assert max(tight.calls) == 4


@pytest.mark.parametrize("name", ["pgd", "square", "cascade"])
def test_one_image_that_does_not_fit_is_told(name):
    attack, norm, _ = SEARCHES[name]
    bench, tight = built(4)
    tight.where = lambda here, call: "forward" if torch.is_grad_enabled() or name == "square" else ""
    if name == "square":  # which asks without gradients, as the judge does
        with pytest.raises(ModelError, match="model net: one image at once must fit into memory, got OutOfMemoryError"):
            records(bench, attack, norm)
        return
    rows = records(bench, attack, norm)
    remedy = "take smaller images, a smaller network, or a device with more free memory"
    assert set(rows[rows["role"] == "attack"]["error"]) == {
        f"OutOfMemoryError: {SHORT}; memory ran out with one image at once: {remedy}"
    }
    assert not rows["success"].any()
    assert bench.batches["net"].size == 1


@dataclass(frozen=True)
class Catching:
    """A search that puts an error of its own in place of others."""

    norms: ClassVar[frozenset[str]] = frozenset({"linf"})
    minimal: ClassVar[bool] = False
    hides: bool = False

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        try:
            return FGSM()(logits, x, goal, threat, rng=rng)
        except Exception:
            if self.hides:
                raise ValueError("no gradient") from None
            raise RuntimeError("no gradient")  # noqa: B904


@pytest.mark.parametrize("hides", [False, True])
def test_an_attack_that_tells_it_otherwise_is_seen_through(hides):
    whole = records(built(N)[0], Catching(hides))
    bench, tight = built(16)
    tight.room = 5
    same(records(bench, Catching(hides)), whole)


@pytest.mark.parametrize("name", ["pgd", "cascade"])
def test_abandoned_tries_cost_time_and_no_forwards(name, monkeypatch):
    attack, norm, _ = SEARCHES[name]
    bench, tight = built(16)
    tight.where = lambda here, call: "forward" if call == 3 else ""
    clock = [0.0]

    def ticking() -> float:
        clock[0] += 1.0
        return clock[0] + 1000.0 * (len(tight.calls) >= 3)

    monkeypatch.setattr(time, "perf_counter", ticking)  # what is going on at the third call takes 1,000 seconds
    rows = records(bench, attack, norm)
    same(rows, undisturbed(name))
    first = rows[rows["role"] == "attack"].iloc[:16]
    tried = first[first["clean_pred"] == first["label"]]
    assert (tried["seconds"] >= 1000.0 / 16).all()
    assert rows["seconds"].sum() == pytest.approx(1000, abs=50)


@dataclass
class Watching:
    """Notes which searches begin, and whose results it is shown."""

    begun: list[int]
    seen: list[str]
    room: int = N

    def begin(self, meter: Any, x: Tensor, goal: Goal) -> Logits:
        self.begun.append(len(x))
        return meter

    def end(self, classifier: Classifier, x_adv: Tensor, samples: Samples) -> None:
        if len(x_adv) > self.room:
            raise torch.cuda.OutOfMemoryError(SHORT)
        self.seen += samples.ids.tolist()

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {}


def test_who_watches_is_shown_each_result_once():
    bench, tight = built(16)
    tight.room = 5
    watching = Watching([], [])
    rows = records(bench, PGD(steps=2), watcher=watching)
    own = rows[(rows["role"] == "attack") & (rows["clean_pred"] == rows["label"])]
    assert sorted(watching.seen) == own["sample"].tolist()
    assert len(watching.begun) > len([size for size in watching.begun if size <= 5])


def test_who_watches_is_never_shown_the_same_twice():
    bench, _ = built(16)
    watching = Watching([], [], room=8)
    rows = records(bench, FGSM(), watcher=watching)
    own = rows[rows["role"] == "attack"]
    told = f"OutOfMemoryError: {SHORT}; memory ran out when the result was looked at: start again in the same folder"
    assert own["error"].tolist() == [told] * 16 + [""] * 8
    assert bench.batches["net"].size == 7  # of 14 that were open
    assert len(set(watching.seen)) == len(watching.seen) == 7


@pytest.mark.parametrize("room", [1, 3, 16])
def test_a_clean_pass_goes_on_with_fewer(room):
    bench, tight = built(16)
    whole = clean_pass(bench.classifiers["net"], bench.samples, N, CPU)
    tight.room = room
    batch = Batch("net", 16)
    found = clean_pass(bench.classifiers["net"], bench.samples, batch, CPU)
    for name in ("prediction", "confidence", "least_likely", "rank"):
        assert torch.equal(getattr(found, name), getattr(whole, name))
    assert batch.size == {1: 1, 3: 2, 16: 16}[room]


def test_a_clean_pass_tells_of_one_image_that_does_not_fit():
    bench, tight = built(16)
    tight.room = 0
    with pytest.raises(ModelError, match=r"^model net: one image at once must fit into memory, got OutOfMemoryError: "):
        clean_pass(bench.classifiers["net"], bench.samples, 16, CPU)


def test_a_network_is_measured_on_as_few_images_as_fit():
    bench, tight = built(16)
    tight.room = 2
    made = plain(bench.classifiers["net"], bench.samples.batch(np.arange(8)), 16)
    assert made.footprint.image > 0
    assert made.about()["batch_size"] == made.about()["batch_size_first"] == 16


def test_graphs_of_larger_batches_are_given_back():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    captured: list[int] = []

    class Static:
        def __init__(self, net: Any, x: Tensor) -> None:
            captured.append(len(x))
            self.net, self.images, self.logits = net, x.clone(), torch.empty(len(x), 3)

        def forward(self) -> None:
            self.logits = self.net(self.images)

    graphed = Graphed(network, Static, "cpu")
    x = torch.rand(3, 1, 2, 2).requires_grad_()
    for _ in range(2):
        graphed(x)
    Batch("net", 16).halve(16)
    graphed(x)
    assert captured == [8, 8]


SCRIPT = Path(__file__).with_name("little_memory.py")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which limits a process to some addresses")
def test_the_allocator_of_a_cpu_is_understood():
    """In a process whose addresses end a little above what it has: 256 images of a wide layer are too many."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", **BYTECODE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert "allocate memory" in told["raised"]
    assert told["errors"] == [""]
    assert 1 <= told["size"] < 256
    assert told["same"]


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [False, True])
def test_a_gpu_that_is_full_is_evaluated_on_with_fewer_images(graphs):
    device = torch.device("cuda")
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 200_000), nn.ReLU(), nn.Linear(200_000, 10))
    classifier = Classifier(network, name="net", input_shape=(1, 8, 8), num_classes=10).to(device)
    pixels = torch.rand(256, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    ids, classes = np.array([f"test/{i:05}" for i in range(256)]), tuple("0123456789")
    labels = classifier(pixels.to(device)).argmax(1).cpu().numpy()
    samples = Samples(ids, labels, classes, ArrayStore(pixels.numpy()), np.arange(256))
    clean = {"net": clean_pass(classifier, samples, 32, device)}

    def on(batch: Batch, replayed: dict[str, Graphed]) -> pd.DataFrame:
        bench = Bench(
            samples, {"net": classifier}, clean, device, 3, "untargeted", batch.size, False, CONTROL, 2,
            quicker=replayed, batches={"net": batch},
        )  # fmt: skip
        rows = records(bench, PGD(steps=10, early_stop=True))
        return rows[["sample", "role", "error", "in_box", "in_budget"]]

    whole = on(Batch("net", 16), {})
    graphed = Graphed(classifier)
    batch = Batch("net", 256)
    torch.cuda.empty_cache()
    # the layer's activations take 205 MB for 256 images, and the search holds several of that kind
    most = torch.cuda.memory_allocated(device) + (300 << 20)
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.get_device_properties(device).total_memory, device)
    try:
        pd.testing.assert_frame_equal(on(batch, {"net": graphed} if graphs else {}), whole)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert set(whole["error"]) == {""}
    assert 1 <= batch.size < 256
