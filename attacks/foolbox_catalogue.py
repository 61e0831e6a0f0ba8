"""Which attacks of Foolbox there are, under which names, and which are not run because they are broken.

What is said here of Foolbox holds for version 3.3.4, its last one.
"""

from __future__ import annotations

import difflib
import inspect
import os
import warnings
from types import MappingProxyType, ModuleType
from typing import Any


def _each_norm(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.format(norm) for norm in ("L1", "L2", "Linf"))


SHORT = MappingProxyType(
    {
        "additive_gaussian": ("L2ClippingAwareAdditiveGaussianNoiseAttack",),
        "additive_uniform": ("L2ClippingAwareAdditiveUniformNoiseAttack", "LinfAdditiveUniformNoiseAttack"),
        "bim": _each_norm("{}BasicIterativeAttack"),
        "blended_noise": ("LinearSearchBlendedUniformNoiseAttack",),
        "boundary": ("BoundaryAttack",),
        "carlini_wagner": ("L2CarliniWagnerAttack",),
        "ddn": ("DDNAttack",),
        "deepfool": ("L2DeepFoolAttack",),
        "deepfool_linf": ("LinfDeepFoolAttack",),
        "ead": ("EADAttack",),
        "fgsm": _each_norm("{}FastGradientAttack"),
        "fmn_l0": ("L0FMNAttack",),
        "fmn_l1": ("L1FMNAttack",),
        "fmn_linf": ("LInfFMNAttack",),
        "hopskipjump": ("HopSkipJumpAttack",),
        "mi_fgsm": _each_norm("{}MomentumIterativeFastGradientMethod"),
        "pgd": _each_norm("{}ProjectedGradientDescentAttack"),
        "repeated_uniform": (
            "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack",
            "LinfRepeatedAdditiveUniformNoiseAttack",
        ),
        "salt_and_pepper": ("SaltAndPepperNoiseAttack",),
    }
)
"""Our names, each with Foolbox's classes for it: one for every norm that it supports."""

_NUMBA = "it needs numba, which Foolbox does not install, and compiles for half a minute"
_NO_ADAM = "it never uses Adam; it is the attack of the same name without Adam"
REFUSED = MappingProxyType(
    {
        "BinarizationRefinementAttack": "it only refines what another attack found",
        "DatasetAttack": "it returns other samples of a data set instead of searching",
        "GenAttack": "its fitness takes a logit for its exponential, and it draws from NumPy's global generator",
        "L0BrendelBethgeAttack": _NUMBA,
        "L1AdamBasicIterativeAttack": _NO_ADAM,
        "L1BrendelBethgeAttack": _NUMBA,
        "L2AdamBasicIterativeAttack": _NO_ADAM,
        "L2BrendelBethgeAttack": _NUMBA,
        "L2FMNAttack": "its projection divides a norm by itself and so does nothing; use ddn",
        "LinfinityBrendelBethgeAttack": _NUMBA,
        "NewtonFoolAttack": "it divides by gradients that vanish, and returns NaN; use deepfool",
        "PointwiseAttack": "an AssertionError stops the whole batch where one sample stays robust",
        "SpatialAttack": "it turns and shifts images, which no norm ball describes",
    }
)
"""Attacks that are not run, each with the reason."""

UNTARGETED = frozenset(
    {
        *_each_norm("{}FastGradientAttack"),
        "L2DeepFoolAttack",  # DeepFool takes a targeted criterion, and walks to the nearest class all the same
        "LinfDeepFoolAttack",
        "VirtualAdversarialAttack",
    }
)
"""Attacks that cannot aim at a class."""

_COUPLED = frozenset(
    {
        "BoundaryAttack",  # one random direction for all
        "HopSkipJumpAttack",  # divides by the norm of the whole batch's gradient; one end for all binary searches
        "SparseL1DescentAttack",  # its projection moves points inside the ball unless all are inside
    }
)

STARTED = frozenset({"BoundaryAttack", "HopSkipJumpAttack"})
"""Attacks that begin at a point where the goal is reached."""

DECISIONS = frozenset(
    {
        "BinarySearchContrastReductionAttack",
        "BoundaryAttack",
        "GaussianBlurAttack",
        "HopSkipJumpAttack",
        "InversionAttack",
        "L2AdditiveGaussianNoiseAttack",
        "L2AdditiveUniformNoiseAttack",
        "L2ClippingAwareAdditiveGaussianNoiseAttack",
        "L2ClippingAwareAdditiveUniformNoiseAttack",
        "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack",
        "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack",
        "L2ContrastReductionAttack",
        "L2RepeatedAdditiveGaussianNoiseAttack",
        "L2RepeatedAdditiveUniformNoiseAttack",
        "LinearSearchBlendedUniformNoiseAttack",
        "LinearSearchContrastReductionAttack",
        "LinfAdditiveUniformNoiseAttack",
        "LinfRepeatedAdditiveUniformNoiseAttack",
        "SaltAndPepperNoiseAttack",
    }
)
"""Attacks that ask of a network whether a point is adversarial, and nothing else."""

BLACK_ON_FAILURE = frozenset({"L2CarliniWagnerAttack", "EADAttack"})
"""Attacks that return a black image where they find nothing."""

_OURS = frozenset({"init_attack", "tensorboard", "distance"})  # options that are not the user's


def library() -> ModuleType:
    """Foolbox, imported where it is needed, and without what the import has to say."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # GitPython stops the import where there is no git
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # scipy.ndimage.filters
        import foolbox
    return foolbox


def couples(search: Any) -> bool:
    """Whether the samples of a batch influence each other in the attack `search` of Foolbox."""
    # Early abortion looks at the loss of the whole batch.
    return type(search).__name__ in _COUPLED or bool(getattr(search, "abort_early", False))


def by_norm(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Foolbox's attacks of the name `name` (ours or a class of Foolbox), one for each norm.

    Raises:
        ValueError: the attack is unknown or refused; an option is unknown, or refused by the attack.
    """
    flexible = library().attacks.base.FlexibleDistanceMinimizationAttack
    found: dict[str, Any] = {}
    for member in SHORT.get(name, (name,)):
        search = _construct(member, options)
        if isinstance(search, flexible):
            return dict.fromkeys(("l0", "l1", "l2", "linf"), search)
        p = search.distance.p
        found["linf" if p == float("inf") else f"l{p}"] = search
    return found


def _construct(name: str, options: dict[str, Any]) -> Any:
    base = library().attacks.Attack
    kinds = {
        key: kind
        for key, kind in vars(library().attacks).items()
        if inspect.isclass(kind) and issubclass(kind, base) and not inspect.isabstract(kind)
    }
    if name not in kinds:
        known = sorted({*SHORT, *kinds} - set(REFUSED))
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or sorted(SHORT)
        raise ValueError(f"Foolbox: attack is unknown, got {name!r}; nearest are {', '.join(near)}")
    kind = kinds[name]
    if kind.__name__ in REFUSED:
        raise ValueError(f"Foolbox: {kind.__name__} is not run: {REFUSED[kind.__name__]}")
    accepted = sorted(set(inspect.signature(kind).parameters) - _OURS)
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise ValueError(
            f"Foolbox {name}: options must be among {', '.join(accepted) or '(none)'}, got {', '.join(unknown)}"
        )
    try:
        return _mended(kind)(**options)
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"Foolbox {name}: options {options} are refused: {error}") from None


def _mended(kind: Any) -> Any:
    """The class `kind`, but for FMN in L0: its budget reaches all D coordinates, and is then an index out of range."""
    if kind.__name__ != "L0FMNAttack":
        return kind

    def project(self: Any, x: Any, x0: Any, epsilon: Any) -> Any:
        return kind.project(self, x, x0, epsilon.clip(0, x.reshape((len(x), -1)).shape[1] - 1))

    return type(kind.__name__, (kind,), {"project": project})
