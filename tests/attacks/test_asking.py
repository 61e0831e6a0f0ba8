"""The code that runs on a GPU, which is asked only now and then, run here on the CPU."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attacks import asking
from attacks.goal import Goal
from attacks.halfspaces import nearest
from attacks.lbfgs import LBFGS
from attacks.pgd import PGD
from attacks.quasinewton import Settings, minimise
from attacks.rng import Rng
from attacks.threat import ThreatModel, unlimited
from tests.attacks.quadratics import B, D, objective, quadratics
from tests.attacks.small_networks import MARGIN, PAPER, QUICK, images, length, rugged, run, smooth

_ASK = {"aten::nonzero", "aten::_local_scalar_dense", "aten::equal", "aten::masked_select", "aten::lift_fresh"}
_MASK = {"aten::index", "aten::index_put", "aten::index_put_"}


class Questions(TorchDispatchMode):
    """Counts the operations that wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name
        by_mask = name in _MASK and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in _ASK or by_mask:
            self.asked[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "waits", lambda x: True)


def test_a_cpu_answers_at_once() -> None:
    assert not asking.waits(torch.zeros(1))
    assert asking.period(torch.zeros(1)) == 1
    assert asking.waits(torch.zeros(1, device="meta"))


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("targeted", [False, True])
def test_a_search_asks_at_most_twice_in_four_steps(targeted: bool) -> None:
    net = rugged()
    x, labels, targets = images(net)
    steps = 0

    def counting(v: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return net(v)

    with Questions() as questions:
        run(LBFGS(), counting, x, Goal(labels, targets if targeted else None))
    assert steps > 60
    # The constant: once for what to linearise, which classes are worth a search, who needs a climb, who a polish.
    assert questions.asked.total() <= steps / 2 + 20, questions.asked


@pytest.mark.usefixtures("waiting")
def test_minimise_asks_once_in_four_steps_and_once_when_rows_leave() -> None:
    a, b = quadratics(3, number=64)
    start = torch.zeros(64, D, dtype=torch.float64)
    asked = 0

    def f(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal asked
        asked += 1
        return objective(a, b)(x, rows)

    with Questions() as questions:
        minimise(f, start, start - 0.3, start + 0.3, settings=Settings(decrease=1e-14, gradient=1e-8))
    assert asked > 10
    assert questions.asked.total() <= asked / 2 + 1, questions.asked


@pytest.mark.usefixtures("waiting")
def test_half_spaces_are_found_without_a_question() -> None:
    g = torch.Generator().manual_seed(0)
    w, offset = torch.randn(6, 3, 20, generator=g), torch.rand(6, 3, generator=g)
    low, high = torch.full((6, 20), -0.4), torch.full((6, 20), 0.4)
    with Questions() as questions:
        nearest(w, offset, low, high)
    assert questions.asked.total() == 0


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("form", [LBFGS(), QUICK, PAPER, MARGIN])
def test_asking_seldom_finds_the_same(monkeypatch: pytest.MonkeyPatch, form: LBFGS, targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets if targeted else None)
    often = run(form, net, x, goal)
    monkeypatch.setattr(asking, "waits", lambda x: True)
    seldom = run(form, net, x, goal)
    assert bool(goal.reached(net(seldom)).all())
    assert float(length(seldom, x).mean() / length(often, x).mean()) == pytest.approx(1, abs=0.01)


def ascents(net: Callable[[Tensor], Tensor], attack: PGD, eps: float = 0.05) -> tuple[Tensor, Goal]:
    x, labels, _ = images(net)
    rng = Rng.of(0, [], map(str, range(len(x))))
    return attack(net, x, Goal(labels), ThreatModel("linf", eps), rng=rng), Goal(labels)


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("attack", [PGD(early_stop=False), PGD(early_stop=False, momentum=1), PGD(loss="logit")])
def test_pgd_asks_once_in_four_steps_and_not_at_all_where_no_sample_leaves(attack: PGD) -> None:
    net, asked = rugged(), []
    for steps in (8, 40):
        with Questions() as questions:
            ascents(net, replace(attack, steps=steps), eps=1e-6)  # which breaks nothing
        asked.append(questions.asked.total())
    assert asked[1] - asked[0] == (0 if attack.early_stop is False else 32 // 4)


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("early_stop", [True, False])
def test_pgd_that_asks_seldom_breaks_the_same(monkeypatch: pytest.MonkeyPatch, early_stop: bool, restarts: int) -> None:
    net, attack = smooth(), PGD(early_stop=early_stop, restarts=restarts)
    often, goal = ascents(net, attack)
    monkeypatch.setattr(asking, "waits", lambda x: True)
    seldom, _ = ascents(net, attack)
    assert torch.equal(goal.reached(net(seldom)), goal.reached(net(often)))
    assert goal.reached(net(seldom)).any()
    if not early_stop:
        torch.testing.assert_close(goal.margin(net(seldom)), goal.margin(net(often)))


def test_minimise_asked_seldom_ends_at_the_same_minima(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = quadratics(3)
    start = torch.zeros(B, D, dtype=torch.float64)
    low, high = torch.full_like(start, -0.3), torch.full_like(start, 0.3)
    settings = Settings(decrease=1e-14, gradient=1e-8)
    often = minimise(objective(a, b), start, low, high, settings=settings)
    monkeypatch.setattr(asking, "waits", lambda x: True)
    seldom = minimise(objective(a, b), start, low, high, settings=settings)
    torch.testing.assert_close(seldom.point, often.point, rtol=0, atol=1e-12)
    assert torch.equal(seldom.evaluations, often.evaluations)


@pytest.mark.usefixtures("waiting")
def test_a_few_evaluations_too_many_at_most() -> None:
    net = smooth()
    x, labels, _ = images(net)
    calls: Counter[int] = Counter()

    class Owners:
        def __call__(self, v: Tensor) -> Tensor:
            return self.rows(torch.arange(len(v)))(v)

        def rows(self, index: Tensor) -> Callable[[Tensor], Tensor]:
            calls.update(index.tolist())
            return net

    run(LBFGS(evaluations=21), Owners(), x, Goal(labels))
    assert max(calls.values()) <= 1 + 21 + 3


@pytest.mark.gpu
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("form", [LBFGS(), QUICK, PAPER, MARGIN])
def test_a_gpu_finds_what_a_cpu_finds(form: LBFGS, targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets if targeted else None)
    usual = length(run(form, net, x, goal), x).mean()
    goal = Goal(labels.cuda(), targets.cuda() if targeted else None)
    streams = Rng.of(0, [], map(str, range(len(x))), device="cuda")
    x_adv = form(net.cuda(), x.cuda(), goal, unlimited("l2"), rng=streams)
    assert bool(goal.reached(net(x_adv)).all())
    assert float(length(x_adv.cpu(), x).mean()) == pytest.approx(float(usual), rel=0.01)


@pytest.mark.gpu
def test_a_gpu_waits_as_seldom_as_is_counted_on_a_cpu() -> None:
    net = rugged()
    x, labels, targets = (t.cuda() for t in images(net))
    net.cuda()
    steps = 0

    def counting(v: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return net(v)

    streams = Rng.of(0, [], map(str, range(len(x))), device="cuda")
    goal = Goal(labels, targets)
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            LBFGS()(counting, x, goal, unlimited("l2"), rng=streams)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in met if "synchroniz" in str(w.message)]
    assert len(waits) <= steps / 2 + 20
