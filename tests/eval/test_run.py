from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from attacks.fgsm import FGSM
from eval.errors import InputError
from eval.records import COLUMNS, Run, read_examples, read_records
from eval.run import run
from eval.schema import CONF
from models import foreign
from models.errors import ModelError
from reports.build import write

OUTCOMES = ["source", "role", "attack", "eps", "target_model", "sample", "success", "success_8bit", "adv_pred"]
_FOLDER = CONF / "experiment"
EXPERIMENTS = sorted(p.relative_to(_FOLDER).with_suffix("").as_posix() for p in _FOLDER.rglob("*.yaml"))
OVERRIDES = {  # as little of everything as still goes through every stage
    "benchmark": ["study.rounds=2", "study.steps=5"],
    "cat_to_toaster": ["data=digits", "target=3", "study.of=8"],
    "cat_to_toaster/blackbox": ["study.queries=300", "study.decisions=4"],
    "cat_to_toaster/physical": ["data=digits", "model=cnn"],
    "cat_to_toaster/transfer": ["data=digits", "model=[cnn,mlp_relu]", "goal=random"],
    "diagnose": ["study.proved=6"],
    "intriguing/dimension": [
        *("study.seeds=2", "study.lines=1", "study.steps=2", "study.draws=10", "study.subspaces=[1,8]"),
        *("debug.epochs=1", "debug.samples=10"),
    ],
    "intriguing/inside": [
        *("study.images=6", "study.checked=4", "study.layers=2", "study.draws=2"),
        *("study.units=3", "study.starts=2", "study.steps=8"),
    ],
    "intriguing/pools": ["study.seeds=2", "study.pools=[[0],[1,2]]", "study.distorted=20", "study.evaluations=8"],
    "intriguing/spectra": ["study.pairs=4", "study.steps=8"],
    "intriguing/tables": ["debug.samples=10"],
    "intriguing/units": [
        *("debug.samples=40", "study.directions=20", "study.ablated=6"),  # nine of each half, twice
        *("study.stimuli=3", "study.steps=8"),
    ],
    "intriguing/universal": [
        *("study.images=40", "study.curve=[1,9]", "study.directions=3"),
        *("study.steps=20", "study.restarts=1", "study.passes=1"),
    ],
    "robustness": ["study.proved=6"],
}


def test_a_run_writes_one_row_per_sample_attack_and_target(small_run, tmp_path):
    about = small_run(tmp_path)
    rows = read_records(tmp_path)
    assert about.status == "complete"
    assert list(rows.columns) == list(COLUMNS)
    counts = rows.groupby("role").size()
    assert counts["clean"] == 2 * 40  # models x samples
    assert counts["attack"] == 2 * 2 * 2 * 40  # sources x attacks x targets x samples
    assert counts["control"] == counts["attack"]
    assert not rows.duplicated(["role", "source", "attack", "eps", "target_model", "sample"]).any()
    assert (rows["error"] == "").all()


def test_the_header_tells_what_was_run(small_run, tmp_path):
    small_run(tmp_path, "seed=5")
    about = Run.read(tmp_path)
    assert about.seed == 5
    assert [m["name"] for m in about.models] == ["softmax", "mlp_relu"]
    assert about.attacks[1]["fields"]["steps"] == 10
    assert about.data["n"] == 40
    assert about.command == "toastproof seed=5"
    assert about.finished
    assert {"python", "torch", "numpy"} <= set(about.versions)


def test_success_means_misclassified_inside_box_and_budget(small_run, tmp_path):
    small_run(tmp_path)
    rows = read_records(tmp_path)
    attacked = rows[rows["role"] == "attack"]
    expected = (attacked["adv_pred"] != attacked["label"]) & attacked["in_box"] & attacked["in_budget"]
    assert (attacked["success"] == expected).all()
    assert attacked["in_budget"].all()
    assert (attacked["linf"] <= 0.1 + 1e-6).all()
    assert attacked["success"].mean() > 0.1


def test_costs_stand_on_the_rows_of_the_source_alone(small_run, tmp_path):
    small_run(tmp_path)
    rows = read_records(tmp_path)
    attacked = rows[rows["role"] == "attack"]
    own = attacked["source"] == attacked["target_model"]
    started = attacked["clean_pred"] == attacked["label"]
    fgsm = attacked[own & started & (attacked["attack"] == "fgsm")]
    assert (fgsm["forwards"] == 1).all()
    assert (fgsm["backwards"] == 1).all()
    assert (attacked[own & ~started][["forwards", "backwards"]] == 0).all().all()  # already wrong: no search
    assert (attacked[~own][["forwards", "backwards", "seconds"]] == 0).all().all()


def test_controls_are_noise_of_the_same_size(small_run, tmp_path):
    small_run(tmp_path)
    rows = read_records(tmp_path)
    keys = ["source", "attack", "eps", "target_model", "sample"]
    pairs = rows[rows["role"] == "attack"].merge(rows[rows["role"] == "control"], on=keys, suffixes=("", "_noise"))
    assert len(pairs) > 0
    np.testing.assert_allclose(pairs["rms_noise"], pairs["rms"], rtol=0.05, atol=1e-6)


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Path:
    """A folder for a run in batches of the usual size, which only the first that asks for it there has to make."""
    return tmp_path_factory.mktemp("usual")


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_outcomes_do_not_depend_on_the_batch_size(small_run, usual, tmp_path, batch_size):
    asked = ("attack=[fgsm,pgd,lbfgs,noise_uniform]", "attack.pgd.restarts=2")
    small_run(usual, *asked)
    small_run(tmp_path, *asked, f"batch_size={batch_size}")
    a, b = read_records(usual), read_records(tmp_path)
    pd.testing.assert_frame_equal(a[OUTCOMES], b[OUTCOMES])
    np.testing.assert_allclose(a["l2"], b["l2"], rtol=1e-3, atol=1e-6)


def test_the_same_seed_gives_the_same_records_and_another_one_others(small_run, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        small_run(tmp_path / name, "attack=[noise_uniform]", f"seed={seed}")
    a, b, c = (read_records(tmp_path / n).drop(columns="seconds") for n in "abc")
    pd.testing.assert_frame_equal(a, b)
    assert not np.allclose(a["l2"], c["l2"])


def test_a_run_goes_on_where_it_stopped(small_run, tmp_path):
    small_run(tmp_path)
    before = read_records(tmp_path)
    parts = sorted((tmp_path / "parts").iterdir())
    kept = {p: p.stat().st_mtime_ns for p in parts[1:]}
    parts[0].unlink()
    small_run(tmp_path)
    assert sorted((tmp_path / "parts").iterdir()) == parts
    assert {p: p.stat().st_mtime_ns for p in parts[1:]} == kept  # not computed again
    pd.testing.assert_frame_equal(read_records(tmp_path)[OUTCOMES], before[OUTCOMES])


def test_a_folder_that_holds_another_run_is_refused(small_run, tmp_path):
    small_run(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"holds another run \(differs in: seed"):
        small_run(tmp_path, "seed=1")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("what", ["versions", "commit"])
def test_a_folder_of_another_version_is_refused(small_run, tmp_path, what):
    small_run(tmp_path)
    about = Run.read(tmp_path)
    about.versions["foolbox"], about.commit = ("0.1", about.commit) if what == "versions" else ("", "abc")
    about.versions["foolbox"] = about.versions["foolbox"] or Run.read(tmp_path).versions["foolbox"]
    about.write(tmp_path)
    with pytest.raises(InputError, match=f"differs in: {what}"):
        small_run(tmp_path)


def test_what_leaves_the_records_alone_may_change(small_run, tmp_path):
    first = small_run(tmp_path)
    again = small_run(tmp_path, "batch_size=9", "examples=1", f"paths.data={tmp_path}", "title=Again")
    assert again.title == "Again"
    assert again.started == first.started
    assert again.wall_seconds["attacks"] >= first.wall_seconds["attacks"]
    assert not read_records(tmp_path).duplicated(["role", "source", "attack", "eps", "target_model", "sample"]).any()


def test_a_change_of_a_network_s_code_is_noticed(small_run, tmp_path):
    nets, parts = tmp_path / "nets.py", tmp_path / "parts.py"
    nets.write_text("from parts import Head\ndef net():\n    return Head()\n")
    code = (
        "import torch\nfrom torch import nn\nclass Head(nn.Module):\n    def forward(self, x): "
        "return {} * x.flatten(1)[:, :10]\n"
    )
    for sign in ("1", "-1"):
        parts.write_text(code.format(sign))
        for name in [m for m in sys.modules if m.startswith("_borrowed_")]:
            sys.modules.pop(name)  # a fresh process would import it anew
        foreign._NAMESPACES.clear()
        if sign == "1":
            small_run(tmp_path / "run", "model=factory", f"model.path={nets}:net", "attack=[fgsm]")
        else:
            with pytest.raises(InputError, match="differs in: the networks themselves"):
                small_run(tmp_path / "run", "model=factory", f"model.path={nets}:net", "attack=[fgsm]")


def test_logits_that_are_not_finite_stop_the_run_wherever_they_occur(small_run, tmp_path):
    nets = tmp_path / "nets.py"
    nets.write_text(
        "import torch\nfrom torch import nn\nclass Nan(nn.Module):\n"
        "    def forward(self, x):\n"
        "        z = x.flatten(1)[:, :10]\n"
        "        return torch.where(x.flatten(1).sum(1, keepdim=True) > 24, float('nan'), z)\n"
        "def net():\n    return Nan()\n"
    )
    with pytest.raises(ModelError, match="logits must be finite"):
        small_run(tmp_path / "run", "model=factory", f"model.path={nets}:net", "attack=[fgsm]")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_networks_may_answer_in_any_precision(small_run, tmp_path, dtype):
    nets = tmp_path / "nets.py"
    nets.write_text(
        "import torch\nfrom torch import nn\nclass Cast(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.flat = nn.Linear(64, 10)\n"
        f"    def forward(self, x):\n        return self.flat(x.flatten(1)).to(torch.{dtype})\n"
        "def net():\n    torch.manual_seed(0)\n    return Cast()\n"
    )
    attacks = "attack=[fgsm,pgd,lbfgs/quick,foolbox/ddn]"
    about = small_run(tmp_path / "run", "model=factory", f"model.path={nets}:net", attacks)
    rows = read_records(tmp_path / "run")
    assert about.status == "complete"
    assert rows["adv_conf"].between(0.1, 1).all()
    assert rows[rows["role"] == "attack"].groupby("attack")["success"].mean().min() > 0.9


def test_a_network_with_weights_is_not_trained_adversarially_without_a_word(small_run, tmp_path):
    nets = tmp_path / "nets.py"
    nets.write_text("from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n")
    with pytest.raises(InputError, match=r"model.factory.train=true"):
        small_run(tmp_path / "run", "train=adversarial", "model=factory", f"model.path={nets}:net")


def test_examples_are_kept_as_they_were_judged(small_run, tmp_path):
    small_run(tmp_path)
    rows, examples = read_records(tmp_path), read_examples(tmp_path)
    assert len(examples) == 4
    for example in examples:
        of = (rows["source"] == str(example["source"])) & (rows["attack"] == str(example["attack"]))
        row = rows[of & (rows["role"] == "attack") & (rows["target_model"] == str(example["source"]))]
        row = row.set_index("sample").loc[example["sample"].tolist()]
        assert row["success"].all()
        sizes = np.abs(example["x_adv"] - example["x"]).reshape(len(row), -1).max(1)
        np.testing.assert_allclose(sizes, row["linf"], atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Crashing(FGSM):
    def __call__(self, logits, x, goal, threat, *, rng):
        raise RuntimeError("no kernel for this\nsecond line")


def test_a_crash_is_neither_a_success_nor_a_failure_and_is_tried_again(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr("attacks.fgsm.FGSM.__call__", Crashing.__call__)
    about = small_run(tmp_path)
    rows = read_records(tmp_path)
    crashed = rows[(rows["attack"] == "fgsm") & (rows["role"] == "attack")]
    assert about.status == "failed"
    assert (crashed["error"] != "").all()  # also where the network was wrong anyway: the rest would be biased
    assert any("attack.fgsm on softmax crashed: RuntimeError: no kernel" in w for w in about.warnings)
    assert len(crashed) > 0
    assert not crashed["success"].any()
    monkeypatch.undo()
    again = small_run(tmp_path)
    rows = read_records(tmp_path)
    assert again.status == "complete"
    assert (rows["error"] == "").all()
    assert not rows.duplicated(["role", "source", "attack", "eps", "target_model", "sample"]).any()


@pytest.mark.parametrize("goal", ["least_likely", "random", "next", "3", "seven"])
def test_targeted_goals(small_run, tmp_path, goal):
    if goal == "seven":
        with pytest.raises(InputError, match="goal: must be untargeted"):
            small_run(tmp_path, f"goal={goal}")
        return
    small_run(tmp_path, f"goal='{goal}'", "attack=[pgd]", "threat.eps=0.4", "attack.pgd.steps=5")
    rows = read_records(tmp_path)
    attacked = rows[rows["role"] == "attack"]
    assert (attacked["target_class"] != attacked["label"]).all()
    assert (attacked["success"] == (attacked["adv_pred"] == attacked["target_class"])).all()
    assert attacked["success"].any()
    if goal == "3":
        assert not (attacked["label"] == 3).any()
    if goal == "next":
        assert (attacked["target_class"] == (attacked["label"] + 1) % 10).all()


def test_clean_accuracy_at_chance_is_a_warning(small_run, tmp_path):
    nets = tmp_path / "nets.py"
    nets.write_text(
        "import torch\nfrom torch import nn\n"
        "def blind():\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    about = small_run(tmp_path / "run", "model=factory", f"model.path={nets}:blind", "attack=[fgsm]")
    assert any("blind" in w or "factory" in w for w in about.warnings if "at chance" in w)


def test_networks_train_adversarially(small_run, composed, tmp_path):
    small_run(tmp_path, "train=adversarial", "model=[mlp_relu]", "attack=[pgd]", "train.adversary.steps=2")
    about = Run.read(tmp_path)
    assert about.models[0]["trained"]["method"] == "adversarial"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs(composed, tmp_path, experiment):
    more = OVERRIDES.get(experiment, [])
    cfg = composed(f"experiment={experiment}", "debug=quick", "debug.samples=30", *more)
    about = run(cfg, tmp_path, [], Console(quiet=True))
    assert about.status == "complete"
    ran = set(read_records(tmp_path)["attack"])
    for path in (tmp_path / "measured").glob("*.npz"):  # of probes that attack by themselves
        with np.load(path) as arrays:
            names = np.ravel(arrays["attack"]) if "attack" in arrays else np.array([], np.str_)
            ran |= set(names.tolist()) if names.dtype.kind == "U" else set()
    assert all(any(name.startswith(a["name"]) for name in ran) for a in about.attacks)
    assert write(tmp_path).exists()


@pytest.mark.gpu
def test_the_same_outcomes_on_a_gpu(small_run, tmp_path):
    small_run(tmp_path / "cpu", "device=cpu")
    small_run(tmp_path / "gpu", "device=cuda")
    cpu, gpu = (read_records(tmp_path / d) for d in ("cpu", "gpu"))
    same = (cpu[OUTCOMES] == gpu[OUTCOMES]).all(axis=1).mean()
    assert same > 0.99  # sums in another order can move a sample that lies at the boundary
    torch.cuda.synchronize()


def test_every_record_column_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
    assert all(f"`{column}`" in text for column in COLUMNS)


def test_what_a_network_says_of_the_same_unperturbed_samples_is_asked_once(composed, tmp_path, monkeypatch):
    from eval import clean

    asked, ask = [], clean.clean_pass

    def counted(classifier, samples, *rest):
        asked.append((classifier.name, samples.fingerprint))
        return ask(classifier, samples, *rest)

    monkeypatch.setattr(clean, "clean_pass", counted)
    experiment = ("experiment=cat_to_toaster/physical", *OVERRIDES["cat_to_toaster/physical"])  # two trials
    cfg = composed(*experiment, "debug=quick", "debug.samples=20")
    assert run(cfg, tmp_path, [], Console(quiet=True)).status == "complete"
    assert len(asked) == len(set(asked)) > 0
