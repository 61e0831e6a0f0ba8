"""The files in docs/ci.md: they parse, their commands exist, and they turn red when they shall."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from eval.schema import CONF, register
from reports.gate.__main__ import _parser

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
GITHUB, GITLAB = (yaml.safe_load(text) for language, text in BLOCKS if language == "yaml")
STEPS: dict[str, dict[str, Any]] = {s.get("name", s.get("uses", "")): s for s in GITHUB["jobs"]["gate"]["steps"]}
MODULES = {"toastproof": "eval.__main__", "toastproof-gate": "reports.gate.__main__"}
NETS = """
from torch import nn

def resnet():
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 10))
"""


def github(event: str) -> list[str]:
    """What the job of GitHub runs, step by step."""
    wanted = {
        None,
        "always()",
        f"github.event_name {'=' if event == 'workflow_dispatch' else '!'}= 'workflow_dispatch'",
    }
    return [s["run"] for s in STEPS.values() if "run" in s and s.get("if") in wanted]


def gitlab(job: str) -> list[str]:
    """What a job of GitLab runs."""
    return [*GITLAB[GITLAB[job]["extends"]]["before_script"], *GITLAB[job]["script"]]


def commands() -> list[list[str]]:
    """All command lines of ours on the page."""
    blocks = [text for language, text in BLOCKS if not language]
    scripts = [*blocks, *github("push"), *github("workflow_dispatch"), *gitlab("robustness"), *gitlab("new-baseline")]
    lines = [shlex.split(line, comments=True) for text in scripts for line in text.replace("\\\n", " ").splitlines()]
    return [words for words in lines if words]


def test_both_recipes_do_the_same():
    ours = [[w for t in s for w in shlex.split(t.replace("\\\n", " "))] for s in (github("push"), gitlab("robustness"))]
    assert ours[0] == ours[1]


def test_every_override_on_the_page_is_one():
    register()
    asked = {tuple(words[1:]) for words in commands() if words[0] == "toastproof"}
    assert asked
    for overrides in asked:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose("config", [o for o in overrides if not o.startswith("hydra.")])


def test_every_option_of_the_gate_on_the_page_is_one():
    asked = [words[1:] for words in commands() if words[0] == "toastproof-gate"]
    assert {words[0] for words in asked} == {"accept", "check"}
    for words in asked:
        _parser().parse_args(words)


def test_every_option_of_pytest_on_the_page_is_one():
    options = {word.partition("=")[0] for words in commands() if words[0] == "pytest" for word in words[1:]}
    plugin = (ROOT / "eval" / "plugin" / "toastproof_pytest.py").read_text(encoding="utf-8")
    for option in (o for o in options if o.startswith("--toastproof")):
        assert f'"{option}"' in plugin


def test_what_is_kept_is_what_the_commands_write():
    kept = STEPS["Keep the report"]["with"]["path"].split()
    assert set(kept) == {*GITLAB["robustness"]["artifacts"]["paths"], "gate.xml", "robustness.json"}
    assert {"gate.xml", "gate.md"} <= {word for words in commands() for word in words}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A network, images and commands as the recipes name them; `pip` installs nothing."""
    folder = tmp_path_factory.mktemp("project")
    digits = load_digits()
    small = digits.images / 16
    images = np.kron(np.round(small * 255), np.ones((4, 4))).astype(np.uint8)
    for i in range(300):
        (folder / "val" / str(digits.target[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(folder / "val" / str(digits.target[i]) / f"{i}.png")
    fitted = LogisticRegression(max_iter=200).fit(np.tile(small.reshape(-1, 64), 3), digits.target)
    weight = np.ascontiguousarray(fitted.coef_, np.float32)
    noise = np.random.default_rng(0).normal(size=weight.shape).astype(np.float32)
    for name, values in (("best", weight), ("worse", weight + 0.3 * noise)):
        tensors = {"2.weight": values, "2.bias": np.ascontiguousarray(fitted.intercept_, np.float32)}
        save_file(tensors, folder / f"{name}.safetensors")
    (folder / "nets.py").write_text(NETS)
    (folder / "bin").mkdir()
    code = "import sys; sys.path.insert(0, {root!r}); from {module} import main; main()"
    for name, module in MODULES.items():
        script(
            folder / "bin" / name, f'exec {sys.executable} -P -c "{code.format(root=str(ROOT), module=module)}" "$@"'
        )
    script(folder / "bin" / "pip", 'echo "pip $@" >> pip.log')
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def execute(folder: Path, steps: list[str]) -> int:
    """Run steps as both do, each in a shell that ends at the first failure; the status of the first that fails."""
    there = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "TOASTPROOF": GITHUB["jobs"]["gate"]["env"]["TOASTPROOF"],
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    for step in steps:
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", step], cwd=folder, env=there, check=False)
        if done.returncode:
            return done.returncode
    return 0


@pytest.mark.slow
def test_the_recipes_are_green_for_the_same_network_and_red_for_a_worse_one(project):
    assert execute(project, github("workflow_dispatch")) == 0
    assert execute(project, github("pull_request")) == 0
    assert "passed" in (project / "summary.md").read_text()
    (project / "worse.safetensors").replace(project / "best.safetensors")
    subprocess.run(["rm", "-r", "robustness"], cwd=project, check=True)  # every job begins with a fresh checkout
    assert execute(project, gitlab("robustness")) == 1
    for path in STEPS["Keep the report"]["with"]["path"].split():
        assert (project / path).exists()
    assert 'failures="0"' not in (project / "gate.xml").read_text()
    assert "pip install torch torchvision" in (project / "pip.log").read_text()
    assert execute(project, gitlab("new-baseline")[-1:]) == 0
    assert execute(project, gitlab("robustness")[-1:]) == 0
