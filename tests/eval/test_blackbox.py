"""What a black box tells, that nothing leads back through it, and that its limit holds."""

from __future__ import annotations

import gc
import types

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.square import Square
from attacks.threat import ThreatModel
from eval.blackbox import Access, BlackBox
from eval.errors import InputError
from eval.meter import Meter
from eval.records import read_records
from models.classifier import Classifier

CPU = torch.device("cpu")
N = 6


@pytest.fixture
def classifier() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))
    return Classifier(net, name="net", input_shape=(1, 4, 4), num_classes=3)


def images(n: int = N) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1))


class Spy(Tensor):
    """Notes what is computed with it."""

    seen: list[tuple[int, ...]] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen += [tuple(a.shape) for a in args if isinstance(a, Tensor)]
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("kind", ["scores", "labels"])
@pytest.mark.parametrize("queries", [None, 5])
def test_an_image_that_watches_sees_no_weights(classifier, kind, queries):
    box = BlackBox(classifier, Access(kind, queries), N, CPU)
    spy = images().as_subclass(Spy)
    Spy.seen.clear()
    z = box(spy)
    assert type(z) is Tensor
    assert not {(12, 16), (3, 12)} & set(Spy.seen)
    plain = images()
    before = plain.clone()
    box(plain).add_(1)
    assert torch.equal(plain, before)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # which dual tensors import
@pytest.mark.parametrize("kind", ["scores", "labels"])
def test_no_other_kind_of_derivative_leads_through(classifier, kind):
    box = BlackBox(classifier, Access(kind, None), N, CPU)
    told, back = torch.func.vjp(box, images())
    assert not bool(back(torch.ones_like(told))[0].any())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(images(), torch.ones_like(images()))
        assert torch.autograd.forward_ad.unpack_dual(box(dual)).tangent is None


@pytest.mark.parametrize("kind", ["scores", "labels"])
@pytest.mark.parametrize("queries", [None, 5])
def test_no_gradient_leads_through(classifier, kind, queries):
    box = BlackBox(classifier, Access(kind, queries), N, CPU)
    x = images().requires_grad_()
    for ask in (box, box.rows(torch.arange(N)), box.rows(torch.arange(N)).rows(torch.arange(N))):
        with torch.enable_grad():
            z = ask(x)
        assert z.grad_fn is None
        assert not z.requires_grad
        with pytest.raises(RuntimeError, match="does not require grad"):
            torch.autograd.grad(z.sum(), x)
    with pytest.raises(RuntimeError, match="does not require grad"):
        PGD()(
            box,
            images(),
            Goal(torch.zeros(N, dtype=torch.int64)),
            ThreatModel("linf", 0.1),
            rng=Rng.of(0, [], "abcdef"),
        )


def test_no_attribute_leads_to_the_network(classifier):
    """Followed through all attributes that are no dunders, and through containers, but not into closures."""
    box = BlackBox(Meter(classifier, N, CPU), Access("scores", 3), N, CPU)
    box(images())
    seen, todo = set(), [box, box.rows(torch.arange(N))]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, Tensor | str | bytes | int | types.CodeType):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, nn.Module | Meter), thing
        if isinstance(thing, dict | list | tuple | set):
            todo += thing.values() if isinstance(thing, dict) else thing
        elif not isinstance(thing, types.FunctionType | types.MethodType | type):
            todo += [getattr(thing, name) for name in dir(thing) if not name.startswith("__")]
    assert not hasattr(box, "__dict__")
    for name in (
        "network",
        "model",
        "module",
        "classifier",
        "parameters",
        "state_dict",
        "weight",
        "_network",
        "backward",
    ):
        assert not hasattr(box, name)
    assert any(isinstance(found, Meter) for found in gc.get_objects())  # it is there all the same


def test_scores_are_logarithms_of_probabilities_and_labels_are_decisions(classifier):
    x = images()
    z = classifier(x)
    scores, labels = (BlackBox(classifier, Access(kind), N, CPU)(x) for kind in ("scores", "labels"))
    torch.testing.assert_close(scores.exp(), z.softmax(1))
    torch.testing.assert_close(Goal(z.argmin(1)).margin(scores), Goal(z.argmin(1)).margin(z))
    assert torch.equal(labels, nn.functional.one_hot(z.argmax(1), 3).float())


def test_a_sample_gets_as_many_answers_as_the_limit_and_the_others_theirs(classifier):
    meter = Meter(classifier, N, CPU)
    box = BlackBox(meter, Access("scores", 3), N, CPU)
    x, whole = images(), BlackBox(classifier, Access("scores"), N, CPU)(images())
    some = torch.tensor([0, 2, 2, 2, 2])
    z = box.rows(some)(x[some])
    torch.testing.assert_close(z[:4], whole[some[:4]])
    assert z[4].isnan().all()
    assert box(x).isnan().all(1).tolist() == [False, False, True, False, False, False]
    box(x)
    assert box(x).isnan().all(1).tolist() == [True, False, True, False, False, False]
    assert meter.forwards.tolist() == [3] * N
    assert box(x).isnan().all()
    assert meter.forwards.tolist() == [3] * N


def test_no_answer_reaches_no_goal(classifier):
    silence = torch.full((N, 3), torch.nan)
    labels = torch.zeros(N, dtype=torch.int64)
    assert not Goal(labels).reached(silence).any()
    assert not Goal(labels, labels + 1).reached(silence).any()


def test_rows_of_unknown_owner_are_refused_where_there_is_a_limit(classifier):
    assert BlackBox(classifier, Access("labels"), N, CPU)(images(2)).shape == (2, 3)
    with pytest.raises(ValueError, match="rows must name one sample per row, got 6 for 2 rows"):
        BlackBox(classifier, Access("labels", 9), N, CPU)(images(2))


def test_a_limit_below_the_attacks_own_ends_it_and_the_rest_is_the_same(classifier):
    x = images(40)
    goal, threat = Goal(classifier(x).argmax(1)), ThreatModel("linf", 0.08)
    rng, ids = Rng.of(0, [], map(str, range(40))), []
    for limit in (None, 60, 12):
        meter = Meter(classifier, 40, CPU)
        x_adv = Square(queries=60)(Access("scores", limit).to(meter, 40, CPU), x, goal, threat, rng=rng)
        reached = goal.reached(classifier(x_adv))
        assert (meter.forwards <= (limit or 60)).all()
        ids.append((reached, meter.forwards))
    assert torch.equal(ids[0][0], ids[1][0])
    early = ids[0][1] <= 12
    assert torch.equal(ids[2][0], ids[0][0] & early)
    assert 0 < int(ids[2][0].sum()) < int(ids[0][0].sum())


@pytest.mark.parametrize(
    ("access", "queries", "says"),
    [
        ("nothing", None, "access: must be one of weights, scores, labels, got 'nothing'"),
        ("weights", 10, "queries: limits access=scores or access=labels alone, got 10 with weights"),
        ("labels", 0, "queries: must be at least 1, got 0"),
    ],
)
def test_bad_access_is_refused_in_one_line(access, queries, says):
    with pytest.raises(InputError, match=says):
        Access(access, queries)


@pytest.mark.parametrize(
    ("access", "attack", "says"),
    [
        ("scores", "pgd", "attack.pgd: must see the network's weights, got access=scores"),
        ("labels", "lbfgs", "attack.lbfgs: must see the network's weights, got access=labels"),
        ("labels", "square", "attack.square: must see the network's scores, got access=labels"),
        ("labels", "foolbox/ddn", "attack.foolbox_ddn: must see the network's weights, got access=labels"),
    ],
)
def test_an_attack_that_must_see_more_is_refused_in_one_line(small_run, tmp_path, access, attack, says):
    with pytest.raises(InputError, match=says):
        small_run(tmp_path, f"access={access}", f"attack=[{attack}]")
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_the_limit_for_every_sample(small_run, tmp_path):
    attacks = "attack=[square,foolbox/hopskipjump,noise_uniform]"
    for folder, more in (("free", ()), ("limited", ("queries=30",))):
        few = ("debug.samples=16", "attack.noise_uniform.draws=2")
        small_run(tmp_path / folder, "model=[softmax]", attacks, "access=scores", *few, *more)
    free, limited = (read_records(tmp_path / folder) for folder in ("free", "limited"))
    free, limited = (r[r["role"] == "attack"] for r in (free, limited))
    assert (limited["error"] == "").all()
    assert limited["forwards"].max() == 30
    assert (limited["backwards"] == 0).all()
    square = [r[r["attack"] == "square"].set_index("sample") for r in (free, limited)]
    soon = square[0]["success"] & (square[0]["forwards"] <= 30)
    assert (square[1]["success"] == soon).all()
    assert 0 < soon.sum() < square[0]["success"].sum()
    by_label = limited[limited["attack"] == "foolbox_hopskipjump"]
    assert np.mean(by_label["success"]) > 0.8  # what it has found so far, if far away
