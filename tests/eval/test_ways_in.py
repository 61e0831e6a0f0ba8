"""A user's project that has packages called as ours are, and the command driven from its folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from eval.records import Run

ROOT = Path(__file__).parents[2]
CLASSES = ("0 red", "1 green", "2 blue")
PROJECT = {
    "models/__init__.py": "from .blocks import Block\n",
    "models/blocks.py": """
from torch import nn
from utils.constants import WIDTH
class Block(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, WIDTH, 3, 2, 1), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
""",
    "utils/__init__.py": "",
    "utils/constants.py": "WIDTH = 8\n",
    "eval.py": "from models import Block\nCLASSES = 3\n",
    "attacks.py": "raise RuntimeError('the wrong attacks')\n",
    "conf.py": "raise RuntimeError('the wrong conf')\n",
    "nets.py": """
from torch import nn
import eval
from models.blocks import Block
def small(): return nn.Sequential(Block(), nn.Flatten(), nn.Linear(32, eval.CLASSES))
def bright(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
""",
}


@pytest.fixture
def project(tmp_path):
    folder = tmp_path
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / "val" / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 100, (20 + i, 24, 3), dtype=np.uint8)
            pixels[..., number] += 60
            Image.fromarray(pixels).save(folder / "val" / name / f"{i}.png")
    return folder


RUN = ["data=images", "data.root=val", "threat=linf_4_255", "attack=[fgsm]", "threat.curve=[]", "controls=false"]


@pytest.fixture
def run(command, project):
    """Runs the command in the project's folder, within this process; the header of the run."""

    def go(name: str, *arguments: str) -> Run:
        done = command([*arguments, *RUN, f"hydra.run.dir=runs/{name}"])
        assert done.code == 0, done.err
        assert (project / "runs" / name / "report.html").is_file()
        return Run.read(project / "runs" / name)

    return go


def test_a_factory_in_a_file_beside_packages_called_as_ours(project):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = 'toastproof'\n"
    code += "from eval.__main__ import main; main()"  # as the console script begins
    chosen = ["model=factory", "model.path=[nets.py:small,nets.py:bright]", "data.size=24", "hydra.run.dir=runs/file"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *chosen, *RUN],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [model["name"] for model in Run.read(project / "runs" / "file").models] == ["small", "bright"]
    clean = pd.read_csv(project / "runs" / "file" / "summary.csv", keep_default_na=False).set_index("model")
    assert set(clean.loc["bright", "clean_accuracy"]) == {1.0}  # images and classes are in the right order
    assert (project / "runs" / "file" / "transfer.csv").is_file()


def test_a_factory_in_a_package_of_theirs(run):
    about = run("package", "model=factory", "model.path=nets:bright", "data.size=24")
    assert about.models[0]["description"] == "bright of nets.py"


def test_an_exported_graph_says_the_same_as_the_network_it_was_made_of(project, command, run):
    export = ["task=export", "model=factory", "model.path=nets.py:bright", "model.export=bright.pt2"]
    done = command([*export, "data=images", "data.root=val", "data.size=24"])
    assert done.code == 0, done.err
    assert "tried on 1, 2 and 5 images" in " ".join(done.out.split())
    about = run("graph", "model=exported", "model.path=bright.pt2")  # which knows its size
    assert about.data["shape"] == [3, 24, 24]
    assert about.models[0]["name"] == "bright"
    run("eager", "model=factory", "model.path=nets.py:bright", "data.size=24")
    one, other = (pd.read_csv(project / "runs" / name / "summary.csv") for name in ("graph", "eager"))
    seconds = [column for column in one if "second" in column]
    pd.testing.assert_frame_equal(one.drop(columns=seconds), other.drop(columns=seconds))


@pytest.mark.parametrize("way", ["torchvision", "timm"])
def test_a_network_of_a_library_with_weights_of_ones_own(project, run, way):
    name = {"torchvision": "squeezenet1_1", "timm": "mobilenetv3_small_050"}[way]
    library = pytest.importorskip("torchvision.models" if way == "torchvision" else "timm")
    make = library.get_model if way == "torchvision" else library.create_model
    torch.save(make(name, num_classes=3).state_dict(), project / "w.pth")
    chosen = [f"model={way}/any", f"model.{way}.name={name}", "model.weights=w.pth"]
    about = run(way, *chosen, "data.limit=3")
    assert about.data["shape"] == [3, 224, 224]  # the network's own size


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model=exported"], "write model.path=net.pt2"),
        (["model=exported", "model.path=nets.py"], "another kind of file"),
        (["model=exported", "model.path=nowhere.pt2"], "No such file"),
        (["model=[softmax]", "model.unpickle=true"], "model.unpickle: is read by model=factory alone"),
        (["model=[softmax]", "model.export=a.pt2"], "model.export: is read by task=export alone"),
        (["task=export", "model=[softmax]"], "write model.export=net.pt2"),
        (["task=export", "model=[softmax]", "model.export=net.onnx"], "must end with .pt2"),
        (["task=explode"], "must be run, classify, visualise or export"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(command, tmp_path, arguments, says):
    (tmp_path / "nets.py").write_text("")
    before = sorted(tmp_path.rglob("*"))
    done = command([*arguments, "debug=quick"])
    assert done.code == 2
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_trained_network_can_be_exported(command, tmp_path):
    done = command(["task=export", "model=[softmax]", "model.export=deep/soft.pt2", "debug=quick"])
    assert done.code == 0, done.err
    again = command(["model=exported", "model.path=deep/soft.pt2", "attack=[fgsm]", "debug=quick", "hydra.run.dir=out"])
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "out" / "run.json").read_text())["models"][0]["name"] == "soft"
