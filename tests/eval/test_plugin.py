"""The plugin in a project whose own packages are called `models`, `eval`, `conf` and `reports`."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from eval.gate.baseline import Baseline, accept
from eval.gate.told import name

ROOT = Path(__file__).parents[2]
FILES = {
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\nmarkers = ["quick: theirs"]\n',
    "models/__init__.py": 'WHOSE = "theirs"\n\n\ndef check(n):\n    assert n == 3, "plain"\n    return n\n',
    "models/net.py": """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        from models import check

        check(3)
        return self.layer(x.flatten(1))
""",
    "eval.py": 'WHOSE = "theirs"\n',
    "reports.py": 'WHOSE = "theirs"\n',
    "conf/__init__.py": 'WHOSE = "theirs"\n',
    "conf/config.yaml": "theirs: 1\n",
    "tests/test_theirs.py": """
import sys

import numpy as np
import pytest
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import conf
import eval
import models
import reports
from models.net import Net

DIGITS = load_digits()
X, Y = (DIGITS.images[:60] / 16).astype("float32"), DIGITS.target[:60]


def test_theirs_are_theirs_while_ours_attack(robust_accuracy):
    net = Net()
    net.load_state_dict(load_file("good.safetensors"))
    first = robust_accuracy(net, "linf_0_1", (X, Y), attack="fgsm")
    assert 0.0 < first < first.clean
    assert first.n == 60
    modules = [conf, models, reports, eval, sys.modules["models"]]
    assert {m.WHOSE for m in modules} == {"theirs"}
    import models.net as late

    assert late.Net is Net


def test_their_asserts_are_not_rewritten():
    with pytest.raises(AssertionError, match="^plain$"):
        models.check(4)
""",
}
RUN = ["model=factory", "model.path=models/net.py:Net", "data.limit=100", "attack=[fgsm]", "threat.curve=[]"]


def call(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    there = {**os.environ, "PYTHONPATH": str(ROOT / "eval" / "plugin"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=there, capture_output=True, text=True, check=False
    )


def pytest_there(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return call(["-m", "pytest", "-p", "toastproof_pytest", "-p", "no:cacheprovider", *arguments], folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for path, text in FILES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    digits = load_digits()
    fitted = LogisticRegression(max_iter=200).fit(digits.data / 16, digits.target)
    weight, bias = (np.ascontiguousarray(a, np.float32) for a in (fitted.coef_, fitted.intercept_))
    save_file({"layer.weight": weight, "layer.bias": bias}, folder / "good.safetensors")
    noise = np.random.default_rng(0).normal(size=weight.shape).astype(np.float32)
    save_file({"layer.weight": weight + 0.6 * noise, "layer.bias": bias}, folder / "bad.safetensors")
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from eval.__main__ import main; main()"
    made = call(["-P", "-c", start, *RUN, "model.weights=good.safetensors", "hydra.run.dir=runs/1"], folder)
    assert made.returncode == 0, made.stderr
    accept(folder / "runs" / "1", folder / "robustness.json")
    return folder


def test_importing_the_plugin_imports_nothing_else():
    code = "import sys, pytest; b = set(sys.modules); import toastproof_pytest; print(sorted(set(sys.modules) - b))"
    done = call(["-c", code], ROOT / "docs")
    assert done.stdout.strip() == "['toastproof_pytest']", done.stderr


def test_installed_it_is_a_top_level_module_that_pytest_finds(tmp_path):
    found = [e for e in entry_points(group="pytest11") if e.value == "toastproof_pytest"]
    if not found:
        pytest.skip("toastproof is not installed here")
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import toastproof_pytest; print(toastproof_pytest.ROOT)"],
        cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (Path(done.stdout.strip()) / "eval" / "gate" / "again.py").is_file(), done.stderr


def test_cells_are_collected_without_torch_and_without_a_run(project):
    (project / "conftest.py").write_text(
        "import sys\n\ndef pytest_collection_finish():\n    assert 'torch' not in sys.modules\n"
    )
    done = pytest_there(project, "--toastproof", "robustness.json", "--co", "-q", "robustness.json", "-k", "not worst")
    (project / "conftest.py").unlink()
    cells = [name(c) for c in Baseline.read(project / "robustness.json").snapshot.cells]
    assert cells == ["Net[clean]", "Net[fgsm-0.1]"]
    assert [line for line in done.stdout.splitlines() if "::" in line] == [f"robustness.json::{c}" for c in cells]
    assert not (project / ".toastproof").exists()


def test_cells_pass_beside_the_tests_of_a_project_with_packages_of_our_names(project):
    done = pytest_there(project, "--toastproof", "robustness.json", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "robustness.json::Net[fgsm-0.1] PASSED" in done.stdout
    assert "4 passed" in done.stdout
    assert "no regression in 2 cells" in done.stdout
    assert "note: same weights as before: Net" in done.stdout


def test_a_worse_network_fails_with_the_samples_that_it_lost(project):
    other = ["--toastproof-config", "model.weights=bad.safetensors", "--toastproof-run", "worse run"]
    done = pytest_there(project, "--toastproof", "robustness.json", *other, "-m", "toastproof", "--junitxml=j.xml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "regression: Net[fgsm-0.1]: from" in done.stdout
    assert "samples hold" in done.stdout
    assert "\nlost: " in done.stdout
    assert "Traceback" not in done.stdout
    assert "2 deselected" in done.stdout
    assert (project / "worse run" / "gate.html").exists()
    assert 'name="Net[fgsm-0.1]"' in (project / "j.xml").read_text()


@pytest.mark.slow
def test_a_network_that_is_asked_something_else_replaces_the_last_run_and_is_a_usage_error(project):
    earlier = project / ".toastproof" / "robustness" / "run.json"
    pytest_there(project, "--toastproof", "robustness.json", "-m", "toastproof")
    assert '"0.05"' not in earlier.read_text()
    done = pytest_there(project, "--toastproof", "robustness.json", "--toastproof-config", "threat.eps=0.05")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "must answer the same question" in done.stderr
    assert '"0.05"' in earlier.read_text()
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_that_is_refused_is_a_usage_error_in_the_words_of_the_command(project):
    done = pytest_there(project, "--toastproof", "robustness.json", "--toastproof-config", "model.weights=absent.pt")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "absent.pt" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    pytest_there(project, "--toastproof", "robustness.json", "-m", "toastproof")
    kept = project / ".toastproof" / "robustness" / "run.json"
    before = kept.read_bytes()
    pytest_there(project, "--toastproof", "robustness.json", "--toastproof-config", "model.weights=absent.pt")
    assert kept.read_bytes() == before  # the run that was kept is not lost to a request that makes no sense


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--toastproof", "absent.json"], "there is no such file"),
        (["--toastproof", "pyproject.toml"], "is no whole JSON"),
        (["--toastproof-config", "seed=1"], "--toastproof-config: must come with --toastproof FILE"),
    ],
)
def test_wrong_usage_is_one_line(project, arguments, says):
    done = pytest_there(project, *arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
