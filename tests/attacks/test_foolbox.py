from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from sklearn.datasets import load_digits
from torch import Tensor, nn

from attacks.foolbox import Foolbox
from attacks.foolbox_catalogue import REFUSED, SHORT, by_norm, library
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel, unlimited
from eval.meter import Meter
from tests.bytecode import BYTECODE

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "conf/attack/foolbox").glob("*.yaml"))
BUDGET = {"l1": 6.0, "l2": 1.0, "linf": 0.15}
NOISE = {"additive_gaussian", "additive_uniform", "repeated_uniform"}
QUICK: dict[str, dict[str, Any]] = {  # shorter, for tests that need no strength
    "boundary": {"steps": 60},
    "hopskipjump": {"steps": 3, "initial_gradient_eval_steps": 10},
    "carlini_wagner": {"steps": 100, "binary_search_steps": 3, "initial_const": 1.0, "abort_early": False},
    "ead": {"steps": 60, "binary_search_steps": 3, "initial_const": 1.0, "abort_early": False},
    "salt_and_pepper": {"steps": 100},
    "blended_noise": {"directions": 20, "steps": 50},
}


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """An MLP that knows the digits, and 10 of them that it gets right."""
    data = load_digits()
    x, y = torch.tensor(data.images / 16, dtype=torch.float32)[:, None], torch.tensor(data.target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    adam = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        adam.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        adam.step()
    net.eval().zero_grad(set_to_none=True)
    right = torch.nonzero(net(x).argmax(1) == y)[:10, 0]
    return net, x[right], y[right]


def streams(n: int, seed: int = 0) -> Rng:
    return Rng.of(seed, ["foolbox"], [str(i) for i in range(n)])


def threat_of(attack: Foolbox, norm: str) -> ThreatModel:
    return unlimited(norm) if attack.minimal else ThreatModel(norm, BUDGET[norm])


def test_every_name_of_ours_has_a_configuration() -> None:
    assert {path.stem for path in CONFIGS} == set(SHORT)


LONG = ("boundary",)
EACH = [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] if p.stem in LONG else []) for p in CONFIGS]


@pytest.mark.parametrize("path", EACH)
def test_shipped_configuration_finds_what_it_should(path: Path, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    x, y = x[:8], y[:8]
    assert path.read_text().startswith(f"# @package attack.foolbox_{path.stem}\n")
    config = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(config, dict)
    fields = {str(key): value for key, value in config.items() if key not in ("defaults", "_target_")}
    attack = Foolbox(**fields)
    for norm in sorted(attack.norms & {"l2"} or attack.norms):
        threat = threat_of(attack, norm)
        x_adv = attack(net, x, Goal(y), threat, rng=streams(8))
        assert threat.inside_box(x_adv).all()
        assert threat.within(x_adv, x).all()
        assert (x_adv != x).flatten(1).any(1).float().mean() >= 0.3
        if path.stem not in NOISE:
            assert Goal(y).reached(net(x_adv)).float().mean() > 0.6


@pytest.mark.parametrize("name", sorted(SHORT))
def test_row_depends_on_its_row_alone(name: str, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    net, x = copy.deepcopy(net).double(), x[:5].double()  # in float32 the batch size decides the rounding
    attack = Foolbox(name, QUICK.get(name, {}))
    for norm in sorted(attack.norms):
        threat, rng, goal, pick = threat_of(attack, norm), streams(5), Goal(y[:5]), torch.tensor([3, 1])
        whole = attack(net, x, goal, threat, rng=rng)
        part = attack(net, x[pick], goal[pick], threat, rng=rng[pick])
        assert torch.allclose(part, whole[pick], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["carlini_wagner", "ead", "SparseL1DescentAttack"])
def test_attacks_that_couple_a_batch_run_row_by_row(name: str, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    net, x = copy.deepcopy(net).double(), x[:5].double()
    options = {**QUICK[name], "abort_early": True} if name in QUICK else {}
    attack = Foolbox(name, options)
    threat, rng, goal, pick = threat_of(attack, next(iter(attack.norms))), streams(5), Goal(y[:5]), torch.tensor([3])
    whole = attack(net, x, goal, threat, rng=rng)
    assert torch.allclose(attack(net, x[3:4], goal[pick], threat, rng=rng[pick]), whole[3:4], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", sorted(SHORT))
def test_leaves_everything_but_its_result_alone(name: str, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    attack = Foolbox(name, QUICK.get(name, {}))
    norm = sorted(attack.norms)[-1]
    before, weights = x[:3].clone(), [p.clone() for p in net.parameters()]
    generator = torch.get_rng_state()
    with torch.no_grad():  # a caller's mode must not matter
        first = attack(net, x[:3], Goal(y[:3]), threat_of(attack, norm), rng=streams(3))
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(x[:3], before)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), weights, strict=True))
    assert all(p.grad is None for p in net.parameters())  # although they are not frozen
    assert not first.requires_grad
    assert torch.equal(first, attack(net, x[:3], Goal(y[:3]), threat_of(attack, norm), rng=streams(3)))


def test_seed_reaches_the_attack(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    threat = ThreatModel("linf", 0.05)
    one, other = (Foolbox("pgd", {"steps": 1})(net, x, Goal(y), threat, rng=streams(10, seed)) for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", sorted(set(SHORT) - NOISE - {"fgsm", "deepfool", "deepfool_linf"}))
def test_targeted_goal_is_pursued(name: str, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    goal = Goal(y, (y + 1) % 10)
    attack = Foolbox(name, QUICK.get(name, {}))
    norm = sorted(attack.norms)[-1]
    threat = unlimited(norm) if attack.minimal else ThreatModel(norm, 3 * BUDGET[norm])
    x_adv = attack(net, x, goal, threat, rng=streams(10))
    assert goal.reached(net(x_adv)).float().mean() >= 0.2


@pytest.mark.parametrize("name", ["fgsm", "deepfool", "deepfool_linf", "VirtualAdversarialAttack"])
def test_untargeted_attack_refuses_a_target(name: str, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    attack = Foolbox(name, {"steps": 1} if name == "VirtualAdversarialAttack" else {})
    norm = sorted(attack.norms)[-1]
    with pytest.raises(ValueError, match="must have an untargeted goal"):
        attack(net, x, Goal(y, (y + 1) % 10), threat_of(attack, norm), rng=streams(10))


@pytest.mark.parametrize("name", sorted(SHORT))
def test_sample_that_cannot_be_fooled_is_no_crash(name: str) -> None:
    def stubborn(x: Tensor) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True) * 0.0 + torch.tensor([0.0, 5.0, 1.0])

    attack, x = Foolbox(name, QUICK.get(name, {})), torch.rand(3, 1, 8, 8, generator=torch.manual_seed(0))
    for norm in sorted(attack.norms):
        threat = threat_of(attack, norm)
        x_adv = attack(stubborn, x, Goal(torch.ones(3, dtype=torch.int64)), threat, rng=streams(3))
        assert threat.inside_box(x_adv).all()
        assert threat.within(x_adv, x).all()
        assert not attack.minimal or torch.equal(x_adv, x)


def bright(x: Tensor) -> Tensor:
    """Class 1 above a mean of 0.6, class 0 below; class 2 never."""
    mean = x.flatten(1).mean(1)
    return torch.stack([torch.zeros_like(mean), mean - 0.6, torch.full_like(mean, -9.0)], 1)


@pytest.mark.parametrize("name", ["boundary", "hopskipjump"])
@pytest.mark.parametrize("one_by_one", [True, False])
def test_sample_without_a_start_does_not_spoil_the_others(name: str, one_by_one: bool) -> None:
    x, zero = torch.full((3, 1, 8, 8), 0.4), torch.zeros(3, dtype=torch.int64)
    goal = Goal(zero, torch.tensor([1, 2, 1]))
    attack = Foolbox(name, QUICK[name], one_by_one=one_by_one)
    x_adv = attack(bright, x, goal, unlimited("l2"), rng=streams(3))
    assert goal.reached(bright(x_adv)).tolist() == [True, False, True]
    assert torch.equal(x_adv[1], x[1])


@pytest.mark.parametrize("name", ["boundary", "hopskipjump"])
def test_sample_at_the_goal_already_stays(name: str) -> None:
    x = torch.full((1, 1, 8, 8), 0.4)
    attack = Foolbox(name, QUICK[name])
    assert torch.equal(attack(bright, x, Goal(torch.tensor([1])), unlimited("l2"), rng=streams(1)), x)


def test_costs_are_charged_to_the_sample_that_made_them() -> None:
    x = torch.stack([torch.full((1, 8, 8), 0.4), torch.full((1, 8, 8), 0.4)])
    goal = Goal(torch.zeros(2, dtype=torch.int64), torch.tensor([1, 2]))
    meter = Meter(bright, 2, torch.device("cpu"))
    Foolbox("boundary", {"steps": 50}, starts=40)(meter, x, goal, unlimited("l2"), rng=streams(2))
    assert meter.forwards[1] == 1 + 40 + 8 + 1  # of the image, of 40 starts, of the bisection, of its end
    assert meter.forwards[0] > 50
    assert meter.backwards.sum() == 0


@pytest.mark.parametrize(
    ("name", "options", "dual"),
    [
        ("deepfool", {"overshoot": 1e-3}, 2),
        ("deepfool_linf", {"overshoot": 1e-3}, 1),
        ("ddn", {"steps": 300}, 2),
        ("carlini_wagner", {"steps": 300, "initial_const": 0.1, "abort_early": False}, 2),
    ],
)
def test_linear_model_meets_the_closed_form(name: str, options: dict[str, Any], dual: int) -> None:
    generator = torch.Generator().manual_seed(3)
    w, x = torch.randn(16, generator=generator), 0.4 + 0.2 * torch.rand(4, 1, 4, 4, generator=generator)
    bias = -0.5 * w.sum()

    def linear(x: Tensor) -> Tensor:
        score = x.flatten(1) @ w + bias
        return torch.stack([score, -score], 1)

    exact = linear(x)[:, 0].abs() / w.norm(p=dual)  # no image comes near the bounds of the box
    attack = Foolbox(name, options)
    norm = next(iter(attack.norms))
    x_adv = attack(linear, x, Goal(linear(x).argmax(1)), unlimited(norm), rng=streams(4))
    size = unlimited(norm).size(x_adv, x)
    assert (size >= exact * 0.9999).all()
    assert (size <= exact * 1.03 + 2e-4).all()


@pytest.mark.parametrize("kind", ["L2DeepFoolAttack", "LinfBasicIterativeAttack", "L1FMNAttack", "DDNAttack"])
def test_equals_foolbox_called_directly(kind: str, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    frozen = copy.deepcopy(net).requires_grad_(False)
    foolbox = library()
    model = foolbox.PyTorchModel(frozen, bounds=(0, 1), device="cpu")
    attack = Foolbox(kind)
    norm = next(iter(attack.norms))
    budget = {} if attack.minimal else {"epsilon": BUDGET[norm]}
    theirs = getattr(foolbox.attacks, kind)().run(model, x, foolbox.criteria.Misclassification(y), **budget)
    ours = attack(frozen, x, Goal(y), threat_of(attack, norm), rng=streams(10))
    found = Goal(y).reached(frozen(theirs))
    assert found.float().mean() > 0.5
    assert torch.allclose(ours[found], theirs[found], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["pgd", "hopskipjump", "carlini_wagner"])
def test_other_box_is_the_same_search(name: str, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    net, x = copy.deepcopy(net).double(), x[:4].double()
    attack = Foolbox(name, QUICK.get(name, {}))
    unit = ThreatModel("l2", BUDGET["l2"])
    wide = ThreatModel("l2", 4 * BUDGET["l2"], (-1.0, 3.0))
    small = attack(net, x, Goal(y[:4]), unit, rng=streams(4))
    large = attack(lambda z: net((z + 1) / 4), 4 * x - 1, Goal(y[:4]), wide, rng=streams(4))
    assert wide.inside_box(large).all()
    assert torch.allclose((large + 1) / 4, small, atol=1e-6)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_broken_attack_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not run: ") as caught:
        Foolbox(name)
    assert REFUSED[name] in str(caught.value)


def test_every_other_attack_of_foolbox_can_be_built() -> None:
    base = library().attacks.Attack
    kinds = [
        k for k in vars(library().attacks).values() if isinstance(k, type) and issubclass(k, base) and k is not base
    ]
    runnable = {kind.__name__ for kind in kinds} - set(REFUSED)
    assert len(runnable) > 35
    for name in runnable:
        assert Foolbox(name, {"steps": 1} if name == "VirtualAdversarialAttack" else {}).norms


def test_l2fmn_is_still_broken() -> None:
    """Should Foolbox mend its projection, the attack can be allowed again."""
    import eagerpy

    points = eagerpy.astensor(torch.full((1, 4), 5.0))
    projected = library().attacks.L2FMNAttack().project(points, points * 0, eagerpy.astensor(torch.ones(1)))
    assert projected.raw.norm() > 9.0


def test_l0fmn_is_mended_where_its_budget_reaches_every_coordinate() -> None:
    import eagerpy

    points = eagerpy.astensor(torch.tensor([[3.0, -1.0, 2.0, 4.0]]))
    whole = eagerpy.astensor(torch.full((1,), 4.0))
    with pytest.raises(IndexError):  # should Foolbox mend it, ours can go
        library().attacks.L0FMNAttack().project(points, points * 0, whole)
    (search,) = by_norm("fmn_l0", {}).values()
    assert search.project(points, points * 0, whole).raw.tolist() == points.raw.tolist()
    kept = search.project(points, points * 0, eagerpy.astensor(torch.ones(1))).raw
    assert kept.tolist() == [[3.0, 0.0, 0.0, 4.0]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attack": "depfool"}, "attack is unknown, got 'depfool'; nearest are deepfool"),
        ({"attack": "L2DeepFool"}, "nearest are .*L2DeepFoolAttack"),
        ({"attack": "Attack"}, "attack is unknown"),
        ({"attack": "ddn", "options": {"stepz": 3}}, "options must be among gamma, init_epsilon, steps, got stepz"),
        ({"attack": "additive_gaussian", "options": {"steps": 3}}, r"must be among \(none\), got steps"),
        ({"attack": "boundary", "options": {"init_attack": None}}, "got init_attack"),
        ({"attack": "hopskipjump", "options": {"constraint": "l3"}}, "are refused"),
        ({"attack": "SparseL1DescentAttack", "options": {"quantile": 3}}, "between 0 and 1, got 3"),
        ({"attack": "boundary", "starts": 0}, "starts must be at least 1, got 0"),
    ],
)
def test_bad_field_is_one_clear_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Foolbox(**fields)
    assert "\n" not in str(caught.value)


def test_norm_that_the_attack_does_not_support_is_named(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    with pytest.raises(ValueError, match=r"Foolbox ddn: threat\.norm must be one of l2, got linf"):
        Foolbox("ddn")(net, x, Goal(y), unlimited("linf"), rng=streams(10))


def test_empty_batch_comes_back_empty(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    assert Foolbox("boundary")(net, x[:0], Goal(y[:0]), unlimited("l2"), rng=streams(0)).shape == (0, 1, 8, 8)


def test_import_is_silent_and_needs_no_git() -> None:
    code = "import torch, warnings; warnings.simplefilter('error'); import attacks.foolbox as f; f.Foolbox('pgd')"
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "HOME": os.environ.get("HOME", "/"), **BYTECODE}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


HOPSKIPJUMP = {"steps": 20, "initial_gradient_eval_steps": 20, "constraint": "linf"}


def decisions(net: nn.Module, meter: Meter, limit: int) -> Any:
    """Decisions of `net`, for `limit` calls."""
    asked = []

    def ask(x: Tensor) -> Tensor:
        asked.append(len(x))
        if len(asked) > limit:
            return torch.full((len(x), 10), torch.nan)
        with torch.no_grad():
            return nn.functional.one_hot(meter(x).argmax(1), 10).float()

    return ask


@pytest.mark.parametrize("name", ["hopskipjump", "boundary"])
def test_a_search_by_decisions_ends_with_what_it_has_when_there_are_no_more_answers(digits, name):
    net, x, y = digits
    x, goal = x[:1], Goal(y[:1])
    attack = Foolbox(name, {"steps": 2000} if name == "boundary" else HOPSKIPJUMP | {"constraint": "l2"})
    sizes = []
    for limit in (5, 60, 400):
        meter = Meter(net, 1, torch.device("cpu"))
        x_adv = attack(decisions(net, meter, limit), x, goal, unlimited("l2"), rng=streams(1))
        assert int(meter.forwards[0]) <= limit
        reached = bool(goal.reached(net(x_adv)))
        assert reached or torch.equal(x_adv, x)
        sizes.append(float((x_adv - x).norm()) if reached else float("inf"))
    assert sizes[2] < sizes[1] <= sizes[0]


def test_a_search_within_the_budget_ends_with_the_first_point_inside(digits):
    net, x, y = digits
    threat = ThreatModel("linf", 0.25)
    attack = Foolbox("hopskipjump", HOPSKIPJUMP, within_budget=True)
    assert not attack.minimal
    assert attack.needs == "labels"
    cost = []
    for search, ball in ((attack, threat), (Foolbox("hopskipjump", HOPSKIPJUMP), unlimited("linf"))):
        meter = Meter(net, len(x), torch.device("cpu"))
        x_adv = search(meter, x, Goal(y), ball, rng=streams(len(x)))
        cost.append(meter.forwards)
        assert ball.within(x_adv, x).all()
        near = threat.within(x_adv, x) & (net(x_adv).argmax(1) != y)
        assert near.float().mean() > 0.5
    assert (cost[0] <= cost[1]).all()
    assert cost[0].sum() < 0.7 * cost[1].sum()


@pytest.mark.parametrize("name", ["pgd", "deepfool", "additive_uniform"])
def test_only_a_minimal_search_by_decisions_ends_within_the_budget(name):
    with pytest.raises(ValueError, match="within_budget must be false"):
        Foolbox(name, within_budget=True)
