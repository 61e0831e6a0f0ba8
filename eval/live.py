"""The robust accuracy of a network that lives in this process: what `toastproof` would say of it, without a run.

The attack, the judge, the seeds and what counts as broken are those of a run.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from attacks.base import Attack
from attacks.threat import ThreatModel
from eval import device as devices
from eval.bench import Bench, Unit
from eval.clean import clean_pass
from eval.craft import craft
from eval.data import Images, Samples
from eval.data.arrays import assemble
from eval.errors import InputError
from eval.intervals import Bools, wilson
from eval.levels import Threat
from eval.nodes import budget, check_norm, make, settled, unbounded
from models.check import check
from models.classifier import Classifier

_CONF = Path(__file__).resolve().parent.parent / "conf"
_NAME = "model"
_PROBE = 32  # images that the network is tried on

Threats = str | tuple[str, str | float]


class RobustAccuracy(float):
    """The share of samples that held: classified correctly, and broken by none of the attacks.

    Attributes:
        n: samples.
        interval: 95% Wilson interval of the share.
        by_sample: (n,) bool, which of them held, in the order of the data.
        samples: their ids.
        clean: the share that is classified correctly without a perturbation.
    """

    n: int
    interval: tuple[float, float]
    by_sample: Bools
    samples: tuple[str, ...]
    clean: float
    _what: str

    def __new__(cls, held: Bools, right: Bools, samples: Sequence[str], what: str) -> RobustAccuracy:
        """Of who held (n,) and who is classified correctly (n,); `what` was asked is told in the repr."""
        self = super().__new__(cls, float(held.mean()))
        self.n = len(held)
        low, high = wilson(int(held.sum()), self.n)
        self.interval = float(low), float(high)
        self.by_sample = held
        self.samples = tuple(samples)
        self.clean = float(right.mean())
        self._what = what
        return self

    def __repr__(self) -> str:
        low, high = self.interval
        share = f"{float(self):.3f} ({round(float(self) * self.n)} of {self.n}, 95% {low:.3f} to {high:.3f}"
        return f"{share}; clean {self.clean:.3f}; {self._what})"


def robust_accuracy(
    model: nn.Module,
    threat: Threats,
    data: Any,
    *,
    attack: str | Sequence[str] = "standard",
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    limit: int | None = None,
    size: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    **fields: Any,
) -> RobustAccuracy:
    """The share of samples that a network still classifies correctly when it is attacked.

    An upper bound, as good as the attacks; of several, the worst case of each sample counts. The same arguments give
    the same result. The network is left as it was: its mode, its gradients, which parameters want one.

    Args:
        model: images (B, C, H, W) -> logits (B, K). It is attacked in evaluation mode, on the device it is on.
        threat: name of a file in conf/threat, such as `linf_4_255`, or a norm and an eps: `("linf", "4/255")`.
        data: images and labels, or a folder with one sub-folder of images a class. Images are tensors (N, C, H, W) or
            arrays, also (N, H, W, C) or (N, H, W): uint8, or floats in [0, 1].
        attack: name of a file in conf/attack, or several.
        mean: the network takes (pixel - mean) / std; one value, or one a channel.
        std: see `mean`.
        limit: how many samples to take, balanced by class and chosen by the seed; None for all.
        size: side that images of a folder are resized and cropped to, in pixels; None if all have one size.
        seed: of everything random.
        batch_size: images at a time; outcomes do not depend on it.
        fields: of the attack, in place of those of its file: `steps=100`.

    Raises:
        InputError, models.errors.ModelError: bad arguments, or a network that cannot be attacked.
        RuntimeError: an attack crashed.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: must be a torch.nn.Module, got {type(model).__name__}")
    if batch_size < 1:
        raise InputError(f"batch_size: must be at least 1, got {batch_size}")
    norm, text = _threat(threat)
    chosen = _attacks(attack, norm, text, fields)
    given = budget(norm, text)
    weights = next(iter([*model.parameters(), *model.buffers()]), None)
    device = torch.device("cpu") if weights is None else weights.device
    with _left_as_it_was(model), torch.inference_mode(False), torch.enable_grad():
        samples, classifier = _subject(model, data, device, mean, std, limit, size, seed)
        probe = samples.batch(np.arange(min(_PROBE, max(batch_size, 2), len(samples)))).to(device)
        with devices.drawing(device, seed, _NAME):
            check(classifier, probe, samples.labels)
            clean = clean_pass(classifier, samples, batch_size, device)
        right: Bools = clean.prediction.cpu().numpy() == samples.labels
        bench = Bench(
            samples, {_NAME: classifier}, {_NAME: clean}, device, seed, "untargeted", batch_size, False, {}, 0
        )
        held = right.copy()
        for name, search in chosen.items():
            held &= ~_broken(bench, name, search, given, text)
    what = f"{'+'.join(chosen)}, {norm} {text}, seed {seed}"
    return RobustAccuracy(held, right, samples.ids.tolist(), what)


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Put back the mode of each layer, and which parameters want a gradient."""
    training = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for module, mode in training:
            module.training = mode
        for parameter, wants in wanted:
            parameter.requires_grad_(wants)


def _threat(threat: Any) -> tuple[str, str]:
    """Norm and eps."""
    if isinstance(threat, str):
        node = _file("threat", threat)
        return str(node["norm"]), str(node["eps"])
    if isinstance(threat, Sequence) and len(threat) == 2:
        return str(threat[0]), str(threat[1])
    raise InputError(f"threat: must be a name such as 'linf_4_255' or a pair such as ('linf', '4/255'), got {threat!r}")


def _file(group: str, name: str) -> dict[str, Any]:
    """The content of a file in conf, with the name of its node."""
    path = _CONF / group / f"{name}.yaml"
    if not path.resolve().is_relative_to(_CONF / group) or not path.is_file():
        known = sorted(p.relative_to(_CONF / group).with_suffix("").as_posix() for p in (_CONF / group).rglob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]}? It" if near else "it"
        raise InputError(f"{group}: must be a name in conf/{group}, got {name!r}; {meant} has {', '.join(known)}")
    node: Any = OmegaConf.to_container(OmegaConf.load(path))
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    node.pop("defaults", None)
    return {**node, "": first.rpartition(".")[2].strip()}


def _attacks(attack: str | Sequence[str], norm: str, eps: str, fields: dict[str, Any]) -> dict[str, Attack]:
    """The searches, by the names that a run gives them."""
    names = [attack] if isinstance(attack, str) else list(attack)
    if not names or (fields and len(names) > 1):
        what = f"fields ({', '.join(fields)}) for one attack" if names else "the name of an attack"
        raise InputError(f"attack: must be {what}, got {names}")
    found: dict[str, Attack] = {}
    for path in names:
        node = _file("attack", path)
        name = str(node.pop(""))
        known = [key for key in node if key != "_target_"]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise InputError(f"attack.{name}: has no field {', '.join(unknown)}; it has {', '.join(known)}")
        whole = OmegaConf.create({"attack": {**node, **fields}, "threat": {"norm": norm, "eps": eps}})
        resolved: Any = OmegaConf.to_container(whole, resolve=True)
        found[name] = settled(make(f"attack.{name}", resolved["attack"]), transfer=False)
        check_norm(f"attack.{name}", found[name], norm)
    return found


def _subject(
    model: nn.Module,
    data: Any,
    device: torch.device,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    limit: int | None,
    size: int | None,
    seed: int,
) -> tuple[Samples, Classifier]:
    """The samples, and the network frozen behind its normalisation."""
    from eval.data.subset import limited

    folder = isinstance(data, str | os.PathLike)
    if folder:
        spec = Images(name="images", root=os.fspath(data), size=size, test_fraction=1.0, limit=limit)
        samples, classes = spec.load(seed).test, 0
    else:
        samples, classes = _of_arrays(data, None), 0
    values = [[float(v)] if isinstance(v, int | float) else [float(w) for w in v] for v in (mean, std)]

    def behind(count: int) -> Classifier:
        try:
            return Classifier(
                model, name=_NAME, input_shape=samples.shape, num_classes=count, mean=values[0], std=values[1]
            ).to(device)
        except ValueError as error:
            raise InputError(str(error)) from None

    if folder:
        return samples, behind(len(samples.classes))
    classes = _columns(behind(len(samples.classes)), samples.batch(np.arange(min(2, len(samples)))).to(device))
    if classes > len(samples.classes):
        samples = _of_arrays(data, classes)
    return limited(samples, None if limit is None else min(limit, len(samples)), seed, "limit"), behind(classes)


def _columns(classifier: Classifier, x: Tensor) -> int:
    """How many classes the network knows; 0 where its output is for `check` to refuse."""
    with torch.no_grad():
        logits = classifier(x)
    return int(logits.shape[1]) if isinstance(logits, Tensor) and logits.ndim == 2 else 0


def _of_arrays(data: Any, classes: int | None) -> Samples:
    """Images and labels in memory as samples."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError(f"data: must be images and labels (x, y) or a folder of images, got {type(data).__name__}")
    x, y = (_array(v) for v in data)
    layout = "nchw" if isinstance(data[0], Tensor) and x.ndim == 4 else "auto"
    return assemble({"test": (Path("data"), {"x": x, "y": y}, "")}, None, classes, layout)["test"]


def _array(values: Any) -> npt.NDArray[Any]:
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return np.asarray((values.float() if values.is_floating_point() else values).numpy())


def _broken(bench: Bench, name: str, attack: Attack, threat: ThreatModel, text: str) -> Bools:
    """Which samples (n,) the attack breaks within the budget; those that are misclassified as they are, too."""
    given = unbounded(attack, threat.norm, threat.box) if attack.minimal else threat
    unit = Unit(_NAME, name, attack, text, given, np.arange(len(bench.samples)))
    with devices.drawing(bench.device, bench.seed, _NAME, name, text, 0):
        rows, _ = craft(bench, unit, lambda _: None)
    crashed = rows["error"][rows["error"] != ""]
    if len(crashed):
        raise RuntimeError(f"attack.{name}: crashed: {crashed[0]}")
    near = Threat(threat.norm, ((text, threat.eps),)).within(rows[threat.norm], threat.eps)
    return np.asarray(rows["success"] & near, dtype=bool)
