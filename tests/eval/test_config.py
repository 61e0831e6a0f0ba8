from __future__ import annotations

from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from eval.config import Plan, read
from eval.errors import InputError
from eval.schema import CONF, targets

OPTIONS = {
    group: sorted(p.relative_to(CONF / group).with_suffix("").as_posix() for p in (CONF / group).rglob("*.yaml"))
    for group in ("data", "model", "attack", "threat", "train", "study", "experiment", "debug")
}
NEEDS = {  # what an option cannot do without
    "data/arrays": ["data.test=test.npz"],
    "data/images": ["data.root=photos"],
    "model/factory": ["model.path=nets.py:build"],
    "model/torchvision/any": ["model.torchvision.name=resnet18"],
    "model/timm/any": ["model.timm.name=resnet18"],
    "train/finetune": ["train.base=base.safetensors"],
}
ALL = [(group, option) for group, options in OPTIONS.items() for option in options]


@pytest.mark.parametrize(("group", "option"), ALL, ids=[f"{g}/{o}" for g, o in ALL])
def test_every_shipped_file_composes_and_can_be_read(composed, group, option):
    choice = f"[{option}]" if group in ("model", "attack") else option
    needs = NEEDS.get(f"{group}/{option}", [])
    if group != "attack":
        assert read(composed(f"{group}={choice}", *needs)).models
        return
    plans = [plan for threat in ("linf_0_3", "l2_1", "l1_12") if (plan := supported(composed, choice, threat))]
    assert plans
    assert all(len(plan.attacks) == 1 for plan in plans)


def supported(composed, choice: str, threat: str) -> Plan | None:
    """The plan, or None for an attack that searches in another norm."""
    try:
        return read(composed(f"attack={choice}", f"threat={threat}"))
    except InputError as error:
        if "supports the norm" in str(error) or "'constraint': 'l1'" in str(error):
            return None
        raise


@pytest.mark.parametrize(
    "path", [p for g in ("data", "model", "attack", "train") for p in sorted((CONF / g).rglob("*.yaml"))], ids=str
)
def test_every_file_with_a_class_names_its_schema(path: Path):
    text = path.read_text()
    if "_target_" in text:
        assert "optional /schema/" in text


def test_every_class_that_a_file_names_exists():
    assert len(list(targets())) >= 10


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("attack.pgd.step=3", "attack.pgd.step"),
        ("attack.pgd.steps=many", "attack.pgd.steps"),
        ("examples=many", "examples"),
        ("model=transformer", "model/transformer"),
        ("train.epocs=3", "train.epocs"),
        ("data.limit=all", "data.limit"),
    ],
)
def test_a_mistyped_key_value_or_name_fails_at_composition(composed, override, says):
    with pytest.raises((HydraException, OmegaConfBaseException)) as failure:
        composed(override)
    assert says in f"{failure.value} {failure.value.__cause__}"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["threat.eps=8"], "write 8/255"),
        (["threat.eps=0"], "threat.eps: must be > 0"),
        (["threat.eps=large"], "threat.eps: must be a number or a fraction"),
        (["threat.norm=l7"], "threat.norm: must be one of"),
        (["attack=[pgd]", "threat.norm=l0", "threat.eps=5", "threat.curve=[]"], "attack.pgd: supports the norm"),
        (["attack.pgd.steps=0"], "attack.pgd.steps: must be at least 1"),
        (["train.lr=-1"], "train.lr: must be > 0"),
        (["batch_size=0"], "batch_size: must be auto, or a whole number of at least 1"),
        (["batch_size=big"], "batch_size: must be auto, or a whole number of at least 1, got big"),
        (["model=[]"], "model: must name at least one"),
        (["+train.adversary.attack=fgsm"], "train.adversary: must be empty for train.method=standard"),
        (["train=adversarial", "train.adversary.attack=cw"], "train.adversary.attack: must be fgsm or pgd"),
        (["train=adversarial", "+train.adversary.foo=3"], "train.adversary: must have the keys"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_its_key(composed, overrides, says):
    with pytest.raises(InputError, match=r"must|supports") as failure:
        read(composed(*overrides))
    assert says in str(failure.value)
    assert "\n" not in str(failure.value)


def test_budgets_are_sorted_and_keep_their_text(composed):
    plan = read(composed("threat=linf_8_255", "threat.curve=[2/255,0.5]"))
    assert [text for text, _ in plan.threats] == ["2/255", "8/255", "0.5"]
    assert plan.threats[1][1].eps == pytest.approx(8 / 255)
    assert plan.headline == "8/255"


def test_several_variants_of_an_attack_fit_in_one_run(composed):
    plan = read(composed("attack=[pgd]", "+attack.pgd_long=${attack.pgd}", "attack.pgd.steps=7"))
    assert set(plan.attacks) == {"pgd", "pgd_long"}


def test_one_budget_in_two_spellings_counts_once(composed):
    plan = read(composed("threat.eps=1/5", "threat.curve=[0.2,0.05]"))
    assert [text for text, _ in plan.threats] == ["0.05", "1/5"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("experiment=cat_to_toaster", "attack=[article]"),
        ("experiment=cat_to_toaster/physical", "attack=[fgsm,bim,expectation]", "study.targeted=[expectation]"),
        ("experiment=cat_to_toaster/defences", "attack=[fgsm,lbfgs]", "study.weak=[fgsm]"),
    ],
)
def test_what_an_experiment_says_of_an_attack_counts_where_that_is_chosen(composed, arguments):
    chosen = arguments[1].removeprefix("attack=[").rstrip("]").split(",")
    assert list(read(composed(*arguments, "data=digits", "image=null")).attacks) == chosen
