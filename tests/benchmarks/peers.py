"""The methods that the benchmarks compare, by the names that `--methods` takes.

Ours are built from the shipped files in conf/attack. Foolbox 3 is a dependency of the project. adv-lib is not, and its
dependency visdom needs an old setuptools to build; see `ADV_LIB`. The two forms of SciPy are in `scipy_peers`.
Everything foreign is imported where it is used, and returns what it believes to be its smallest adversarial images;
`measure` judges them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from attacks.threat import unlimited
from eval.errors import InputError
from tests.benchmarks import scipy_peers

Run = Callable[[nn.Module, Tensor, Goal, int], Tensor]
"""network, images, goal, seed -> candidates."""

DEFAULT = "default"
"""The method that all others are compared with."""

ADV_LIB = "pip install 'setuptools<80' && pip install --no-build-isolation visdom adv-lib"
_CONF = Path(__file__).parents[2] / "conf" / "attack"
_FORMS = {
    DEFAULT: "lbfgs.yaml",
    "quick": "lbfgs/quick.yaml",
    "strong": "lbfgs/strong.yaml",
    "paper": "lbfgs/paper.yaml",
}
_HINGE = {"loss": "margin", "guess": False, "steps": 60}  # without the guess of c it takes more steps


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: for `--methods`.
        label: for readers.
        package: distribution whose version belongs to the result; "" for this project.
        run: the attack.
        settings: what it was called with.
        heavy: takes minutes, and may be given fewer images.
    """

    name: str
    label: str
    package: str
    run: Run
    settings: dict[str, Any] = field(default_factory=dict)
    heavy: bool = False

    @property
    def missing(self) -> str:
        """Why it cannot run here, or ""."""
        if self.package == "adv-lib" and importlib.util.find_spec("adv_lib") is None:
            return f"adv-lib is not installed; {ADV_LIB}"
        return ""

    @property
    def version(self) -> str:
        """Of its package, or ""."""
        return importlib.metadata.version(self.package) if self.package else ""


def _ours(name: str, file: str, label: str = "", **changes: Any) -> Method:
    settings = OmegaConf.to_container(OmegaConf.load(_CONF / file))
    assert isinstance(settings, dict)
    fields = {str(k): v for k, v in settings.items() if k not in ("_target_", "defaults")} | changes
    attack = LBFGS(**fields)

    def run(net: nn.Module, x: Tensor, goal: Goal, seed: int) -> Tensor:
        streams = Rng.of(seed, ["lbfgs"], map(str, range(len(x))), device=x.device)
        return attack(net, x, goal, unlimited("l2"), rng=streams)

    return Method(name, f"ours, {label or name}", "", run, fields)


def _import(module: str) -> Any:
    """A foreign module, without the warnings of its import: both ask for names that others have deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def _foolbox(name: str, label: str, attack: str, heavy: bool = False, **settings: Any) -> Method:
    def run(net: nn.Module, x: Tensor, goal: Goal, seed: int) -> Tensor:
        foolbox = _import("foolbox")
        model = foolbox.PyTorchModel(net, bounds=(0, 1), device=x.device)
        if goal.targets is None:
            criterion = foolbox.Misclassification(goal.labels)
        else:
            criterion = foolbox.TargetedMisclassification(goal.targets)
        found: Tensor = getattr(foolbox.attacks, attack)(**settings)(model, x, criterion, epsilons=None)[1]
        return found

    return Method(name, label, "foolbox", run, settings, heavy)


def _adv_lib(name: str, label: str, attack: str, **settings: Any) -> Method:
    def run(net: nn.Module, x: Tensor, goal: Goal, seed: int) -> Tensor:
        search = getattr(_import("adv_lib.attacks"), attack)
        found: Tensor = search(net, x, goal.classes, targeted=goal.targets is not None, **settings)
        return found

    return Method(name, label, "adv-lib", run, settings)


def _scipy(name: str, label: str, attack: Callable[..., Tensor], **settings: Any) -> Method:
    def run(net: nn.Module, x: Tensor, goal: Goal, seed: int) -> Tensor:
        return attack(net, x, goal, **settings)

    return Method(name, label, "scipy", run, settings, heavy=True)


@functools.cache
def _all() -> tuple[Method, ...]:
    """Every method, with the files of conf/attack as they are when this is first called."""
    return (
        *(_ours(name, file) for name, file in _FORMS.items()),
        _ours("ce", "lbfgs.yaml", "default with cross-entropy", loss="ce"),
        _ours("margin", "lbfgs.yaml", "default with the hinge of C&W", **_HINGE),
        _foolbox("ddn-100", "DDN, 100 steps (Foolbox)", "DDNAttack", steps=100),
        _foolbox("ddn-1000", "DDN, 1,000 steps (Foolbox)", "DDNAttack", steps=1000),
        _adv_lib("advlib-ddn-1000", "DDN, 1,000 steps (adv-lib)", "ddn", steps=1000, levels=None),
        _foolbox("foolbox-fmn-1000", "FMN, 1,000 steps (Foolbox)", "L2FMNAttack", steps=1000),
        _adv_lib("fmn-1000", "FMN, 1,000 steps (adv-lib)", "fmn", norm=2, steps=1000),
        _adv_lib("alma-1000", "ALMA, 1,000 steps (adv-lib)", "alma", distance="l2", num_steps=1000),
        _adv_lib(
            "alma-1000-far", "ALMA, 1,000 steps, first of length 1 (adv-lib)", "alma",
            distance="l2", num_steps=1000, init_lr_distance=1.0,
        ),
        _adv_lib("pdgd-500", "PDGD, 500 steps (adv-lib)", "pdgd", num_steps=500),
        _foolbox(
            "cw", "C&W, 9 x 1,000 steps (Foolbox)", "L2CarliniWagnerAttack",
            heavy=True, binary_search_steps=9, steps=1000,
        ),
        _scipy(
            "scipy-cleverhans3", "SciPy, whole batch (CleverHans 3)", scipy_peers.cleverhans3,
            rounds=5, maxiter=1000, initial=1e-2,
        ),
        _scipy(
            "scipy-foolbox2", "SciPy, image by image (Foolbox 2)", scipy_peers.foolbox2,
            epsilon=1e-5, maxiter=150, doublings=30,
        ),
    )  # fmt: skip


def methods(names: list[str] | None = None) -> list[Method]:
    """The methods called so, in the order of the table; all of them without names.

    Raises:
        InputError: a name is unknown.
    """
    every = _all()
    known = [m.name for m in every]
    for name in names or []:
        if name not in known:
            raise InputError(f"--methods: {name!r} is none of {', '.join(known)}")
    return [m for m in every if names is None or m.name in names]
