from __future__ import annotations

import pytest

from eval.schema import CONF
from eval.slips import remedy


def unknown(group, option):
    return f"In 'config': Could not find '{group}/{option}'; Available options in '{group}': a; b"


@pytest.mark.parametrize(
    ("group", "option", "says"),
    [
        ("attack", "lbfgs/quik", "lbfgs/quick"),
        ("attack", "ddn", "foolbox/ddn"),
        ("model", "torchvision/resnet5", "torchvision/resnet50"),
        ("data", "minst", "mnist"),
        ("threat", "linf_8", "linf_8_255"),
    ],
)
def test_the_nearest_options_are_named(group, option, says):
    text = remedy(unknown(group, option), CONF, [])
    assert text.startswith(f"In 'config': there is no {group}={option}; did you mean ")
    assert says in text
    assert "Available options" not in text


def test_where_none_is_near_all_are_listed_those_of_sub_folders_too():
    text = remedy("In 'config': Could not load 'model/nonesuch'.", CONF, [])
    assert "options: cats_dogs, cnn" in text
    assert "torchvision/resnet50" in text


def stranger(node):
    return f"Could not override '{node}.steps'.; Key '{node.split('.')[1]}' is not in struct; full_key: {node}"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["attack=lbfgs/quick"], "lbfgs_quick"),
        (["attack=[pgd,foolbox/ddn]"], "pgd, foolbox_ddn"),
        (["-m", "attack=lbfgs,lbfgs/quick"], "lbfgs, lbfgs_quick"),
        ([], "fgsm, pgd, lbfgs"),
        (["experiment=curve"], "noise_uniform, fgsm, pgd"),
        (["experiment=curve", "attack=pgd"], "pgd"),
    ],
)
def test_a_key_of_an_attack_that_does_not_take_part_lists_those_that_do(arguments, names):
    assert remedy(stranger("attack.other"), CONF, arguments).endswith(f" this run's attacks: {names}")


def test_models_are_listed_too():
    assert remedy(stranger("model.mlp"), CONF, ["model=[softmax,torchvision/resnet50]"]).endswith(
        " this run's models: softmax, torchvision_resnet50"
    )


def mistyped(key):
    """What Hydra says of a key that does not exist: the first part of it that does not."""
    parts = key.split(".")
    if parts[0] not in ("attack", "threat", "study", "data", "train"):
        return f"Could not override '{key}'.; Key '{parts[0]}' not in 'Config'; full_key: {parts[0]}"
    return f"Could not override '{key}'.; Key '{parts[-1]}' not in 'Some'; full_key: {key}"


@pytest.mark.parametrize(
    ("arguments", "key", "says"),
    [
        ([], "attack.pgd.stps", "did you mean attack.pgd.steps?"),
        ([], "threat.espilon", "did you mean threat.eps?"),
        (["experiment=cat_to_toaster"], "study.pictuers", "did you mean study.pictures?"),
        (
            ["experiment=cat_to_toaster/physical"],
            "study.transformations.blurr",
            "did you mean study.transformations.blur?",
        ),
        ([], "modle", "did you mean model?"),
        ([], "pgd.steps", "did you mean attack.pgd.steps"),
        (["train=adversarial"], "train.adversry.eps", "did you mean train.adversary.eps"),
        (["attack=foolbox/ddn"], "attack.ddn.options.gamma", "did you mean attack.foolbox_ddn.options.gamma?"),
        ([], "threat.zzz", "keys of threat: norm, eps, curve"),
        ([], "study.pictures", "this run has no study"),
        ([], "zzz", "toastproof --help lists the keys"),
    ],
)
def test_the_nearest_key_of_the_run_is_named(arguments, key, says):
    text = remedy(mistyped(key), CONF, arguments)
    assert text.startswith(f"{key}: there is no such key; ")
    assert says in text


def test_a_key_far_behind_the_nearest_is_not_offered():
    text = remedy(mistyped("attack.pgd.stps"), CONF, [])
    assert "restarts" not in text


@pytest.mark.parametrize(
    "text",
    [
        "Could not override 'hydra.swep'.; Key 'swep' not in 'HydraConf'; full_key: hydra.swep",
        "In 'hydra/config': Could not find 'hydra/launcher/jobs'; Available options in 'hydra/launcher': basic",
    ],
)
def test_other_messages_stay_as_they_are(text):
    assert remedy(text, CONF, []) == text


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("attack.lbfgs.steps=abc", "attack.lbfgs.steps: must be a whole number, got 'abc'"),
        ("attack.lbfgs.steps=2.5", "attack.lbfgs.steps: must be a whole number, got '2.5'"),
        ("attack.lbfgs.stride=8/255", "attack.lbfgs.stride: must be a decimal number, got '8/255'"),
        ("attack.lbfgs.guess=maybe", "attack.lbfgs.guess: must be true or false, got 'maybe'"),
        ("attack.lbfgs.classes=null", "attack.lbfgs.classes: must have a value, got null"),
    ],
)
def test_a_value_of_another_type_is_told_as_any_bad_value(command, override, says):
    found = command(["attack=lbfgs", override])
    assert (found.code, found.err) == (2, f"toastproof: {says}\n")
