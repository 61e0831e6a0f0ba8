"""Networks that are broken on purpose, in a run: weak attacks believe them, adaptive ones do not."""

from __future__ import annotations

import json

import pytest

from eval.records import read_records

ALL = [
    "argmax", "batch_dependent", "clipped", "detach", "jpeg", "k_winners", "logit_scale", "noise", "purifying",
    "quantised", "random_resize", "rejecting", "shattered", "softmax_twice", "stateful", "thermometer",
    "wrong_gradient",
]  # fmt: skip
BPDA = ["attack=bpda"]
EOT = ["attack=pgd_eot"]
BROKEN_BY = {  # fault: the adaptive attack, eps, and the least part of all samples that it breaks and PGD-20 does not
    "argmax": (BPDA, 0.2, 0.5),
    "batch_dependent": (BPDA, 0.2, 0.2),
    "clipped": (BPDA, 0.2, 0.5),
    "detach": (BPDA, 0.2, 0.5),
    "jpeg": (BPDA, 0.2, 0.5),
    "k_winners": ([*EOT, "attack.pgd_eot.sigma=0.1"], 0.1, 0.1),
    "logit_scale": (["attack=pgd_margin"], 0.2, 0.5),
    "noise": (EOT, 0.2, 0.05),
    "purifying": (BPDA, 0.2, 0.5),
    "quantised": (BPDA, 0.2, 0.5),
    "random_resize": (EOT, 0.2, 0.1),
    "shattered": ([*EOT, "attack.pgd_eot.sigma=0.05", "attack.pgd_eot.draws=50"], 0.2, 0.3),
    "softmax_twice": (BPDA, 0.2, 0.3),
    "stateful": (EOT, 0.2, 0.01),
    "thermometer": (BPDA, 0.2, 0.5),
    "wrong_gradient": (BPDA, 0.2, 0.5),
}
SMALL = ["data.limit=100", "transfer=false", "controls=false", "threat.curve=[]", "examples=0"]


@pytest.fixture
def robust(composed, tmp_path):
    """Robust accuracy that an attack leaves, in a run of its own."""
    from rich.console import Console

    from eval.run import run

    def go(*overrides: str) -> float:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        about = run(composed(*SMALL, *overrides), folder, list(overrides), Console(quiet=True))
        assert about.status == "complete"
        rows = read_records(folder)
        attacked, clean = (rows[rows["role"] == role].set_index("sample")["success"] for role in ("attack", "clean"))
        return float(1 - (attacked | clean.reindex(attacked.index)).mean())

    return go


def test_one_training_serves_all_disguises(small_run, tmp_path):
    about = small_run(tmp_path, "model=[planted/jpeg,cnn,planted/noise,planted/wrong_gradient]", "attack=[fgsm]")
    assert len({m["trained"]["checkpoint"] for m in about.models}) == 1
    assert len({m["fingerprint"] for m in about.models}) == 4
    assert [m["name"] for m in about.models] == ["planted_jpeg", "cnn", "planted_noise", "planted_wrong_gradient"]
    assert "JPEG" in about.models[0]["description"]


def test_the_same_fault_has_the_same_fingerprint_and_its_fields_count(small_run, tmp_path):
    prints = [
        small_run(tmp_path / str(i), "model=planted/jpeg", "attack=[fgsm]", f"model.planted_jpeg.quality={quality}")
        .models[0]["fingerprint"]
        for i, quality in enumerate((75, 75, 50))
    ]  # fmt: skip
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("fault", ["argmax", "jpeg", "purifying"])
def test_attacks_get_nowhere_without_a_gradient_and_do_not_crash(small_run, tmp_path, fault):
    about = small_run(
        tmp_path, f"model=planted/{fault}", "attack=[fgsm,pgd,apgd,lbfgs/quick,foolbox/ddn,square/quick]", "threat=l2_1"
    )
    assert about.status == "complete"
    assert any("no gradient reaches the pixels" in line for line in about.warnings)
    rows = read_records(tmp_path)
    assert (rows["error"] == "").all()
    steps = rows[(rows["role"] == "attack") & (rows["attack"] == "pgd")]
    assert (steps["backwards"] > 0).any()


def test_all_faults_go_through_a_run_with_searches_from_scores(small_run, tmp_path):
    chosen = ",".join(f"planted/{fault}" for fault in ALL)
    about = small_run(tmp_path, f"model=[{chosen}]", "attack=[pgd,square/quick]", "transfer=false", "controls=false")
    assert about.status == "complete"
    assert len(about.models) == len(ALL)
    assert (read_records(tmp_path)["error"] == "").all()


def test_bpda_says_what_a_network_lacks(small_run, tmp_path):
    about = small_run(tmp_path, "model=cnn", "attack=bpda")
    assert about.status == "failed"
    assert "must offer a stand-in" in about.warnings[-1]


def test_a_network_of_the_user_offers_its_stand_in_by_a_method(small_run, tmp_path):
    (tmp_path / "nets.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        torch.manual_seed(0)\n"
        "        self.layer = torch.nn.Linear(64, 10)\n"
        "    def forward(self, x):\n"
        "        return self.layer((x > 0.5).float().flatten(1))\n"
        "    def differentiable(self, x):\n"
        "        return self.layer(x.flatten(1))\n"
    )
    path = f"model.path={tmp_path}/nets.py:Net"
    small_run(tmp_path / "run", "model=factory", path, "attack=[pgd,bpda]", "transfer=false")
    rows = read_records(tmp_path / "run")
    attacked = rows[(rows["role"] == "attack") & (rows["error"] == "")]
    success = attacked.groupby("attack")["success"].mean()
    assert success["bpda"] >= success["pgd"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "complete"


def test_the_list_is_that_of_the_files():
    from eval.schema import CONF

    assert sorted(path.stem for path in (CONF / "model" / "planted").glob("*.yaml")) == ALL
    assert set(ALL) - set(BROKEN_BY) == {"rejecting"}  # which PGD breaks, but for one class


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(BROKEN_BY))
def test_an_adaptive_attack_breaks_what_plain_pgd_leaves_standing(robust, fault):
    adaptive, eps, gap = BROKEN_BY[fault]
    model = [f"model=planted/{fault}", f"threat.eps={eps}"]
    weak = robust(*model, "attack=pgd", "attack.pgd.steps=20")
    strong = robust(*model, *adaptive)
    print(f"{fault}: plain PGD leaves {weak:.2f}, the adaptive attack {strong:.2f}")
    assert weak - strong >= gap
    assert strong <= 0.35


@pytest.mark.slow
def test_the_healthy_network_withstands_neither(robust):
    assert robust("model=cnn", "threat.eps=0.2", "attack=pgd", "attack.pgd.steps=20") <= 0.05


@pytest.mark.slow
def test_one_class_alone_withstands_where_the_unsure_are_rejected(composed, tmp_path):
    from rich.console import Console

    from eval.run import run

    cfg = composed(*SMALL, "model=planted/rejecting", "attack=[pgd,bpda]", "threat.eps=1.0")
    run(cfg, tmp_path, [], Console(quiet=True))
    rows = read_records(tmp_path)
    attacked = rows[(rows["role"] == "attack") & (rows["attack"] == "pgd")]
    stands = (~attacked["success"]).groupby(attacked["label"]).mean()
    assert stands[0] >= 0.3
    assert stands[1:].max() == 0
