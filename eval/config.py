"""From a composed configuration to the plan of a run: typed objects, checked as far as can be without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from attacks.base import Attack
from attacks.fgsm import FGSM
from attacks.pgd import PGD
from attacks.threat import ThreatModel
from eval import environment
from eval.blackbox import Access
from eval.environment import Hidden
from eval.errors import InputError
from eval.nodes import budget, check_norm, make, unbounded
from eval.schema import Debug, Work
from eval.speed import PRECISIONS
from eval.trial import Study
from models.spec import Spec
from models.train import TrainConfig


@dataclass(frozen=True)
class Plan:
    """What a run is going to do, checked as far as it can be without data and networks.

    Attributes:
        config: the resolved configuration, as plain containers.
        shown: the same, with interpolations where a value comes from the environment.
        hidden: what of the environment must not be stored.
        batch_size: images per forward pass; None for what fits into memory.
        data: spec of the data set; `load(seed)` reads it.
        fold: whether batch norms are folded into the layers before them, where they can be.
        fuse: whether a CPU asks a network of dense layers and its gradient in one piece.
        channels_last: whether a CPU keeps the channels of a pixel side by side, where it can.
        precision: of gradients for attacks that bear rounded ones, one of `eval.speed.PRECISIONS`.
        graphs: whether attacks replay networks as CUDA graphs.
        models: specs by the name of their node.
        attacks: searches by name.
        access: what they see of the networks, unless a study says otherwise.
        threats: budgets in ascending order, each with its text.
        headline: text of the budget that the report leads with.
        reuse: whether what a smaller eps broke is left alone at a larger one, where that changes no accuracy.
        train: how networks without weights are trained.
        adversary: the attack that adversarial training uses, or None.
        parts: folder of parts that runs share; None for none.
        run: where it is kept, and who does the work.
        study: the experiment that decides what is trained and tried on what; None for all attacks on all networks.
        sharers: processes that share the memory of the device, each of which plans for its part of what is free.
    """

    config: dict[str, Any]
    shown: dict[str, Any]
    hidden: Hidden
    title: str
    seed: int
    batch_size: int | None
    device: str
    fold: bool
    fuse: bool
    channels_last: bool
    precision: str
    graphs: bool
    goal: str
    transfer: bool
    controls: bool
    reuse: bool
    access: Access
    examples: int
    data: Any
    models: dict[str, Spec]
    attacks: dict[str, Attack]
    threats: list[tuple[str, ThreatModel]]
    headline: str
    train: TrainConfig
    adversary: tuple[Attack, ThreatModel] | None
    checkpoints: Path
    parts: Path | None
    debug: Debug
    tensorboard: bool
    run: Work
    study: Study | None
    sharers: int = 1


def _untaken(name: str, node: Any) -> bool:
    """Whether a node is what an experiment says of an attack that was not chosen, so that no file stands behind it.

    What the command line adds for itself (`+attack.mine.steps=3`) is none of that.
    """
    added = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return (
        isinstance(node, Mapping)
        and "_target_" not in node
        and not any(o.startswith((f"+attack.{name}.", f"++attack.{name}.")) for o in added)
    )


def _check_budget(threat: Mapping[str, Any]) -> None:
    """Refuse a norm that the command line sets and leaves with the eps of another one."""
    said = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    keys = {o.partition("=")[0].lstrip("+") for o in said}
    if "threat.norm" in keys and not keys & {"threat", "threat.eps"}:
        raise InputError(
            f"threat.norm: must come with an eps of its own, got {threat['norm']} with eps={threat['eps']} of another "
            "norm; write threat.eps=... too, or choose a threat such as threat=l2_1"
        )


def _adversary(train: Mapping[str, Any]) -> tuple[Attack, ThreatModel] | None:
    """The attack and the budget of adversarial training."""
    content = dict(train["adversary"])
    if train["method"] != "adversarial":
        if content:
            raise InputError(
                f"train.adversary: must be empty for train.method={train['method']}; use train=adversarial"
            )
        return None
    known = ("attack", "norm", "eps", "steps", "step_size")
    if set(content) - set(known) or not {"attack", "norm", "eps"} <= set(content):
        raise InputError(
            f"train.adversary: must have the keys attack, norm, eps and for pgd steps, step_size, got {sorted(content)}"
        )
    threat = budget(content["norm"], str(content["eps"]))
    own = {k: v for k, v in content.items() if k in ("steps", "step_size")}
    try:
        if content["attack"] == "fgsm":
            attack: Attack = FGSM()
        elif content["attack"] == "pgd":
            attack = PGD(**own, early_stop=False)  # weights are best learnt from the strongest image
        else:
            raise ValueError(f"attack: must be fgsm or pgd, got {content['attack']!r}")
    except ValueError as error:
        raise InputError(f"train.adversary.{error}") from error
    check_norm("train.adversary.attack", attack, threat.norm)
    return attack, threat


def _check_shared(node: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], task: str) -> None:
    """Refuse a `model.path` or `model.weights` that no chosen model reads, and the like."""
    readers = {
        "path": "model=factory or model=exported",
        "weights": "model=factory, model=torchvision/... or model=timm/...",
        "unpickle": "model=factory",
    }
    for key, what in readers.items():
        value = node.get(key)
        if value not in (None, False) and not any(model.get(key) == value for model in models.values()):
            raise InputError(f"model.{key}: is read by {what} alone, got {value} with model={','.join(models)}")
    if node.get("export") is not None and task != "export":
        raise InputError(f"model.export: is read by task=export alone, got {node['export']} with task={task}")


def _check_layer(content: Mapping[str, Any]) -> None:
    """Refuse a layer or a unit that nothing reads."""
    study = content["study"] or {}
    for key in ("layer", "unit"):
        value = content["model"].get(key) if key == "layer" else content[key]
        if value is not None and content["task"] != "visualise" and key not in study:
            raise InputError(
                f"{key}: is read by studies of layers and by task=visualise alone, got {value}; write "
                "experiment=intriguing/units, or leave it out"
            )


def _work(node: Mapping[str, Any], device: str) -> Work:
    """Who does the work, checked; `device` is that of the run."""
    work = Work(**node)
    if work.backend not in ("local", "ray"):
        raise InputError(f"run.backend: must be local or ray, got {work.backend}")
    for key, usual in (("address", "local"), ("workers", None), ("gpus", "auto")):
        if work.backend == "local" and node[key] != usual:
            raise InputError(f"run.{key}: is read by run.backend=ray alone, got {node[key]} with run.backend=local")
    if work.shard < 1:
        raise InputError(f"run.shard: must be at least 1, got {work.shard}")
    terms = work.terms()
    if work.backend == "ray":
        terms.allows(device)
    return work


def _cap(node: Mapping[str, Any], limits: Mapping[str, int | None]) -> dict[str, Any]:
    """A node whose whole numbers of those names, at any depth, are at most the limits."""
    capped: dict[str, Any] = {}
    for key, value in node.items():
        limit = limits.get(key)
        if isinstance(value, Mapping):
            capped[key] = _cap(value, limits)
        else:
            small = limit is not None and isinstance(value, int) and not isinstance(value, bool) and value > limit
            capped[key] = limit if small else value
    return capped


def read(cfg: DictConfig) -> Plan:
    """The plan of a run.

    Raises:
        InputError: a value is not allowed.
        omegaconf.errors.OmegaConfBaseException: a value is missing or cannot be resolved.
    """
    content, shown, hidden = environment.read(cfg)
    models = {k: v for k, v in content["model"].items() if isinstance(v, Mapping)}
    if not models:
        raise InputError("model: must name at least one model, got none; toastproof --help lists them")
    _check_shared(content["model"], models, content["task"])
    _check_layer(content)
    if (
        content["image"] is not None
        and content["task"] == "run"
        and not str(content["data"]["_target_"]).endswith(".Photo")
    ):
        raise InputError(
            f"image: is read by data=photo alone, got {content['image']} with data={content['data']['name']}"
        )
    threat, debug = content["threat"], Debug(**content["debug"])
    _check_budget(threat)
    distinct: dict[float, tuple[str, ThreatModel]] = {}  # the same budget in two spellings counts once
    for text in map(str, [threat["eps"], *(threat["curve"] if debug.curve else [])]):
        level = budget(threat["norm"], text)
        distinct.setdefault(level.eps, (text, level))
    threats = [distinct[eps] for eps in sorted(distinct)]
    access = Access(content["access"], content["queries"])
    chosen = {k: v for k, v in (content["attack"] or {}).items() if not _untaken(k, v)}
    attacks: dict[str, Attack] = {k: make(f"attack.{k}", _cap(v, debug.attack)) for k, v in chosen.items()}
    for name, attack in attacks.items():
        check_norm(f"attack.{name}", attack, threat["norm"])
        access.check(f"attack.{name}", attack)
    batch_size = content["batch_size"]
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise InputError(f"batch_size: must be auto, or a whole number of at least 1, got {batch_size}")
    if content["precision"] not in PRECISIONS:
        raise InputError(f"precision: must be one of {', '.join(PRECISIONS)}, got {content['precision']}")
    adversary = _adversary(content["train"])
    study = make("study", _cap(content["study"], {"epochs": debug.epochs})) if content["study"] else None
    for name in getattr(study, "follows", ()):
        if str(content["study"][name]) != str(threat[name]):
            raise InputError(
                f"study.{name}: must be that of the threat, {threat[name]}, got {content['study'][name]}; "
                f"write threat.{name}={content['study'][name]}"
            )
    return Plan(
        config=content,
        shown=shown,
        hidden=hidden,
        title=content["title"],
        seed=content["seed"],
        batch_size=None if batch_size == "auto" else batch_size,
        device=content["device"],
        fold=content["fold"],
        fuse=content["fuse"],
        channels_last=content["channels_last"],
        precision=content["precision"],
        graphs=content["graphs"],
        goal=content["goal"],
        transfer=content["transfer"],
        controls=content["controls"],
        reuse=content["reuse"],
        access=access,
        examples=_cap(content, {"examples": debug.examples})["examples"],
        data=make("data", content["data"]),
        models={k: make(f"model.{k}", v) for k, v in models.items()},
        attacks=attacks,
        threats=threats,
        headline=str(threat["eps"]),
        train=make("train", _cap(content["train"], {"epochs": debug.epochs})),
        adversary=adversary,
        checkpoints=Path(content["paths"]["checkpoints"]).expanduser(),
        parts=Path(parts).expanduser() if (parts := content["paths"]["parts"]) else None,
        debug=debug,
        tensorboard=content["tensorboard"],
        run=_work(content["run"], content["device"]),
        study=study,
    )


def budgets(
    plan: Plan,
    attack: Attack,
    box: tuple[float, float],
    threats: Sequence[tuple[str, ThreatModel]] | None = None,
    norm: str | None = None,
) -> list[tuple[str, ThreatModel]]:
    """The budgets that an attack runs with: each of the plan's, or those `threats`; none at all for a minimal one.

    A minimal one has a norm: `norm`, or else the plan's, if it supports that.
    """
    if attack.minimal:
        norm = norm or plan.threats[0][1].norm
        return [("min", unbounded(attack, norm, box))]
    if threats is not None:
        return list(threats)
    return [(text, ThreatModel(t.norm, t.eps, box)) for text, t in plan.threats]
