from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from eval.errors import InputError
from eval.gate.snapshot import read_run
from eval.live import robust_accuracy
from models.errors import ModelError
from tests.robustness import nets


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images[:80] / 16).astype(np.float32), found.target[:80]


def test_it_says_what_a_run_says(small_run, tmp_path, monkeypatch):
    here = Path(nets.__file__)
    monkeypatch.chdir(here.parents[2])
    attacks = ["attack=[fgsm,pgd,lbfgs/quick]", "threat.curve=[]", "transfer=false"]
    small_run(tmp_path, "model=factory", "model.path=tests/robustness/nets.py:cnn", *attacks)
    found = read_run(tmp_path)
    from eval.data import Digits

    samples = Digits(name="digits", root=".").load(0).test
    kept = [i for i, sample in enumerate(samples.ids.tolist()) if sample in found.samples]
    x, y = samples.batch(np.array(kept)), samples.labels[kept]
    order = np.argsort(samples.ids[kept])
    for name, attack, fields in (("fgsm", "fgsm", {}), ("pgd", "pgd", {"steps": 10})):
        mine = robust_accuracy(nets.cnn(), "linf_0_1", (x, y), attack=attack, **fields)
        theirs = next(outcomes for cell, outcomes in found.cells.items() if cell.attack == name)
        assert mine == pytest.approx(float((theirs == 1).mean()), abs=1 / len(kept))  # seeds of ids that differ
        assert (mine.by_sample[order] != (theirs == 1)).sum() <= 1


def test_it_is_a_number_that_knows_more(digits):
    found = robust_accuracy(nets.softmax(), "linf_0_1", digits, attack="fgsm")
    assert found == found.by_sample.mean() <= found.clean
    assert found.n == len(found.samples) == 80
    assert found.interval[0] < found < found.interval[1]
    assert f"of 80, 95% {found.interval[0]:.3f}" in repr(found)
    assert "fgsm, linf 0.1, seed 0" in repr(found)


def test_the_same_arguments_give_the_same_result_whatever_was_drawn_before(digits):
    net = nets.softmax()
    first = robust_accuracy(net, ("linf", "0.05"), digits, attack="pgd", steps=5)
    torch.rand(3)
    state = torch.get_rng_state()
    second = robust_accuracy(net, ("linf", "0.05"), digits, attack="pgd", steps=5)
    assert (first.by_sample == second.by_sample).all()
    assert torch.equal(state, torch.get_rng_state())


def test_several_attacks_count_in_the_worst_case(digits):
    alone = [robust_accuracy(nets.cnn(), "linf_0_1", digits, attack=name) for name in ("fgsm", "lbfgs/quick")]
    both = robust_accuracy(nets.cnn(), "linf_0_1", digits, attack=["fgsm", "lbfgs/quick"])
    assert (both.by_sample == alone[0].by_sample & alone[1].by_sample).all()


def test_the_network_is_left_as_it_was(digits):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5)).train()
    net[1].weight.requires_grad_(False)
    net[2].eval()
    with torch.no_grad():
        robust_accuracy(net, "linf_0_1", digits, attack="fgsm")
    assert [m.training for m in net.modules()] == [True, True, True, False]
    assert [p.requires_grad for p in net.parameters()] == [False, True]
    assert net[1].bias.grad is None


def test_images_come_as_tensors_bytes_or_a_folder(digits, tmp_path):
    x, y = np.round(digits[0] * 255).astype(np.uint8), digits[1]
    for i, label in enumerate(y):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(x[i]).convert("RGB").save(tmp_path / str(label) / f"{i:03}.png")
    grey = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    with torch.no_grad():
        grey[1].weight.copy_(nets.softmax().body[1].weight.repeat(1, 3) / 3)
    colours = np.repeat(x[:, :, :, None], 3, axis=3)
    tensor = torch.from_numpy(colours).permute(0, 3, 1, 2)
    found = [
        robust_accuracy(grey, "linf_0_1", data, attack="fgsm")
        for data in ((colours, y), (tensor, torch.from_numpy(y)), tmp_path, str(tmp_path))
    ]
    assert [float(f) for f in found] == [float(found[0])] * 4
    assert 0 < found[0] < found[0].clean
    assert robust_accuracy(grey, "linf_0_1", tmp_path, attack="fgsm", limit=20).n == 20


def test_normalisation_belongs_to_the_network(digits):
    bare = nets.softmax()
    shifted = nn.Sequential(nn.Flatten(), nn.Linear(64, 10).double())
    with torch.no_grad():
        weight, bias = bare.body[1].weight, bare.body[1].bias
        shifted[1].weight.copy_(weight * 0.5)
        shifted[1].bias.copy_(bias + weight.sum(1) * 0.25)
    cast = nets.Double(shifted)
    found = robust_accuracy(cast, "linf_0_1", digits, attack="fgsm", mean=0.25, std=0.5)
    assert (found.by_sample == robust_accuracy(bare, "linf_0_1", digits, attack="fgsm").by_sample).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threat": "linf_9"}, "threat: must be a name in conf/threat, got 'linf_9'; did you mean linf_"),
        ({"threat": ("linf", "8")}, "write 8/255"),
        ({"threat": 3}, "threat: must be a name such as"),
        ({"attack": "pdg"}, "attack: must be a name in conf/attack, got 'pdg'; did you mean pgd?"),
        ({"attack": "../model/cnn"}, "attack: must be a name in conf/attack, got"),
        ({"attack": []}, "attack: must be the name"),
        ({"attack": "pgd", "step": 3}, "attack.pgd: has no field step"),
        ({"attack": "pgd", "steps": 0}, "attack.pgd.steps: must be"),
        ({"attack": ["pgd", "fgsm"], "steps": 3}, "for one attack"),
        ({"threat": ("l0", "3"), "attack": "pgd"}, "attack.pgd: supports the norm"),
        ({"data": 3}, "data: must be images and labels"),
        ({"data": "nowhere"}, "data.root: must be a folder"),
        ({"data": (np.zeros((2, 1, 8, 8)), np.array([0, 10]))}, "labels must be in 0..9, got 0..10"),
        ({"data": (np.full((2, 1, 8, 8), 255.0), np.array([0, 1]))}, "[0, 1]"),
        ({"model": len}, "model: must be a torch.nn.Module"),
        ({"batch_size": 0}, "batch_size: must be at least 1"),
        ({"std": 0.0}, "std must be > 0"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(digits, change, says):
    asked = {"model": nets.softmax(), "threat": "linf_0_1", "data": digits, "attack": "fgsm"} | change
    with pytest.raises((InputError, ModelError)) as caught:
        robust_accuracy(asked.pop("model"), asked.pop("threat"), asked.pop("data"), **asked)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
